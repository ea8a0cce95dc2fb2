# SPDX-License-Identifier: Apache-2.0
"""`make quick` does less, but says so (tests/conftest.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import conftest
from tests.build.paths import REPO


@dataclass
class Case:
    """What the hooks ask of one test with its parameters."""

    nodeid: str
    marks: tuple[str, ...] = ()
    obj: Any = None

    def get_closest_marker(self, name: str) -> bool:
        return name in self.marks


@pytest.mark.parametrize(("quick", "said", "made"), [(True, 80, 8), (True, 20, 5), (False, 20, 20)])
def test_only_the_quick_profile_makes_fewer_examples(
    quick: bool, said: int, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make quick` would take minutes (does Hypothesis keep its settings elsewhere now?), or
    `make test` would try a tenth of what it says."""
    seen = []

    @settings(max_examples=said, database=None)
    @given(st.integers())
    def test(number: int) -> None:
        seen.append(number)

    monkeypatch.setattr(conftest, "QUICK", quick)
    with_two_parameters: list[Any] = [Case("t[0]", obj=test), Case("t[1]", obj=test)]
    config: Any = SimpleNamespace(stash={})
    conftest.pytest_collection_modifyitems(config, with_two_parameters)
    test()
    assert len(seen) == made


def test_each_tenth_of_many_cases() -> None:
    """`make quick` would run none of them, or take minutes, or tell nobody what it left out."""
    many: list[Any] = [Case(f"many[{number}]", ("tenth",)) for number in range(21)]
    few: list[Any] = [Case(f"few[{number}]", ("tenth",)) for number in range(3)]
    others: list[Any] = [Case(f"other[{number}]", ("slow",)) for number in range(20)]
    items = [*many, *few, *others]
    assert conftest.each_tenth(items) == {"many": 18, "few": 2}
    assert items == [*many[::10], few[0], *others]


@pytest.mark.slow
def test_what_is_left_out_is_named() -> None:
    """A test that is left out by `make quick` would be forgotten."""
    test = "tests/unit/service/evidence/test_recorder.py::test_quiet_marks_collapse_but_losses_stay"
    many = "tests/unit/sources/foreign/test_damage.py::test_damaged_texts_are_never_clean_or_races"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", "-m", "not slow", test, many],
        capture_output=True, text=True, cwd=REPO, env={**os.environ, "HYPOTHESIS_PROFILE": "quick"},
    )  # fmt: skip
    assert test in done.stdout.splitlines()
    assert "quick profile: 1/10 of the examples" in done.stdout
    assert "1 slow tests deselected" in done.stdout
    assert any(line.startswith(f"{many}: ") for line in done.stdout.splitlines())
