# SPDX-License-Identifier: Apache-2.0
"""`make quick` does less, but says so (tests/conftest.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import conftest
from tests.build.paths import REPO


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
    with_two_parameters = [SimpleNamespace(obj=test), SimpleNamespace(obj=test)]
    conftest.pytest_collection_modifyitems(with_two_parameters)
    test()
    assert len(seen) == made


@pytest.mark.slow
def test_what_is_left_out_is_named() -> None:
    """A test that is left out by `make quick` would be forgotten."""
    test = "tests/unit/service/evidence/test_recorder.py::test_quiet_marks_collapse_but_losses_stay"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", "-m", "not slow", test],
        capture_output=True, text=True, cwd=REPO, env={**os.environ, "HYPOTHESIS_PROFILE": "quick"},
    )  # fmt: skip
    assert test in done.stdout.splitlines()
    assert "quick profile: 1/10 of the examples" in done.stdout
    assert "1 slow tests deselected" in done.stdout
