# SPDX-License-Identifier: Apache-2.0
"""`make quick` does less, but says so (tests/conftest.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import QUICK, shorten

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("said", "made"), [(80, 8), (20, 5)])
def test_the_quick_profile_makes_a_tenth_of_the_examples(said: int, made: int) -> None:
    """A new version of Hypothesis keeps its settings elsewhere: `make quick` would take minutes."""
    seen = []

    @settings(max_examples=said, database=None)
    @given(st.integers())
    def test(number: int) -> None:
        seen.append(number)

    shorten(test)
    test()
    assert len(seen) == made


def test_no_example_is_left_out_without_the_profile() -> None:
    """`make test` would try a tenth of what it says."""
    assert (os.environ.get("HYPOTHESIS_PROFILE") == "quick") is QUICK


@pytest.mark.slow
def test_what_is_left_out_is_named() -> None:
    """A test that is left out by `make quick` would be forgotten."""
    test = "tests/unit/service/evidence/test_recorder.py::test_quiet_marks_collapse_but_losses_stay"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", "-m", "not slow", test],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "HYPOTHESIS_PROFILE": "quick"},
    )  # fmt: skip
    assert test in done.stdout.splitlines()
    assert "quick profile: 1/10 of the examples" in done.stdout
    assert "1 slow tests deselected" in done.stdout
