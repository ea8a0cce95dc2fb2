# SPDX-License-Identifier: Apache-2.0
"""What became of the tests of several guests, put together."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.testing.outcomes import Outcomes, Tally

TESTS = ["test_a.py::test_one", "test_a.py::test_two[x - y]", "test_b.py::test_three"]


@pytest.fixture
def guests(tmp_path: Path) -> list[Path]:
    """Two guests that collected the same."""
    shares = [tmp_path / "1", tmp_path / "2"]
    for share in shares:
        share.mkdir()
        Outcomes(share).collected(TESTS)
    return shares


def test_a_test_that_nobody_ran_is_told(guests: list[Path]) -> None:
    """If this fails, a guest that ends early makes the suite smaller, and it is called good."""
    Outcomes(guests[0]).add(TESTS[0], "passed")
    Outcomes(guests[1]).add(TESTS[2], "passed")
    tally = Tally.of(guests)
    assert tally.not_run == [TESTS[1]]
    assert not tally.good
    Outcomes(guests[1]).add(TESTS[1], "passed")
    assert Tally.of(guests).not_run == []
    assert Tally.of(guests).good


def test_a_test_that_two_ran_is_told(guests: list[Path]) -> None:
    """If this fails, the files are dealt twice, and half of the time is lost without a word."""
    for share in guests:
        Outcomes(share).add(TESTS[0], "passed")
    assert Tally.of(guests).twice == (TESTS[0],)
    assert not Tally.of(guests).good


def test_a_failure_is_never_good(guests: list[Path]) -> None:
    """If this fails, a test that fails in its setup or its end, after it passed, is forgotten."""
    outcomes = Outcomes(guests[0])
    for test in TESTS:
        outcomes.add(test, "passed")
    outcomes.add(TESTS[1], "failed")
    assert Tally.of(guests).those("failed") == [TESTS[1]]
    assert not Tally.of(guests).good


def test_a_second_boot_leaves_out_what_passed(guests: list[Path]) -> None:
    """If this fails, what failed or was skipped before a crash is not tried again."""
    outcomes = Outcomes(guests[0])
    for test, outcome in zip(TESTS, ("failed", "passed", "skipped"), strict=True):
        outcomes.add(test, outcome)
    assert outcomes.passed() == {TESTS[1]}
    outcomes.add(TESTS[0], "passed")
    assert outcomes.ran() == {TESTS[0]: "passed", TESTS[1]: "passed", TESTS[2]: "skipped"}


def test_nothing_is_not_good(tmp_path: Path) -> None:
    """If this fails, guests in which pytest never began are called good."""
    assert not Tally.of([tmp_path]).good


def test_an_earlier_run_is_forgotten(guests: list[Path]) -> None:
    """If this fails, a share that is used again has passed before anything was run."""
    outcomes = Outcomes(guests[0])
    outcomes.add(TESTS[0], "passed")
    outcomes.forget()
    assert (outcomes.wanted(), outcomes.ran()) == ([], {})
