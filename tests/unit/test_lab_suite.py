"""How the lab's tests are shared out over guests, and what their exit codes add up to."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ghesrace.errors import TransientError
from lab import EXIT_LAB
from lab.suite import Labelled, side_by_side, together


def test_lines_of_two_guests_stay_whole() -> None:
    """If this fails, nobody can tell which guest said what."""
    out = io.StringIO()
    a, b = Labelled(out, "0| "), Labelled(out, "1| ")
    a.write("tests/lab/test_a.py ")
    b.write("one\ntwo\nthree")
    a.write("PASSED\n")
    b.close()
    assert out.getvalue() == "1| one\n1| two\n0| tests/lab/test_a.py PASSED\n1| three\n"


@pytest.mark.parametrize(
    ("codes", "all_of_them"),
    [
        ([0, 0], 0),
        ([0, 5], 0),  # a guest without a test of its own
        ([5, 5], 5),
        ([0, 1], 1),
        ([5, 1], 1),
        ([1, EXIT_LAB], 1),
        ([0, -15], EXIT_LAB),  # killed
        ([0, None], EXIT_LAB),
    ],
)
def test_one_guest_that_failed_fails_all(codes: list[int | None], all_of_them: int) -> None:
    """If this fails, a failed test in one guest passes for a success, or none at all does."""
    assert together(codes) == all_of_them


def _passes(share: Path) -> int:
    (share / "seen").write_text("")
    print("fine")
    return 0


def _fails(share: Path) -> int:
    raise TransientError("the guest is gone")


def test_guests_run_in_folders_of_their_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """If this fails, one guest overwrites the other's results, or its end goes unnoticed."""
    assert side_by_side(tmp_path, [_passes, _passes]) == 0
    assert [(tmp_path / f"guest-{n}" / "seen").exists() for n in (0, 1)] == [True, True]
    assert sorted(capfd.readouterr().out.splitlines()) == ["0| fine", "1| fine"]
    assert side_by_side(tmp_path, [_passes, _fails]) == EXIT_LAB
    assert "1| lab: the guest is gone" in capfd.readouterr().err
