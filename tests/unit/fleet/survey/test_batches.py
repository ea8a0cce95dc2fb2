# SPDX-License-Identifier: Apache-2.0
"""A batch as a worker judges it: nothing in it ends the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.commands.survey import judge
from ghesrace.errors import TransientError
from ghesrace.fleet.stores import items
from ghesrace.fleet.survey.batches import judge_batch, killed
from ghesrace.render.judgement import Failure, Judgement


def test_a_broken_capture_is_a_row_and_the_others_are_judged(
    tmp_path: Path, observed: Path, clean: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """If this fails, one file hides the verdicts of a batch."""
    (tmp_path / "broken.arrows").write_bytes(b"\xff\xff\xff\xff cut")
    (tmp_path / "empty.arrows").touch()
    done = judge_batch(items(str(tmp_path)), judge)
    rows = {Path(row["url"]).stem: row for row in done.tables["runs"].to_pylist()}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "broken": None,
        "empty": None,
        "clean": "clean",
        "observed": "race-observed",
    }
    for name in ("broken", "empty"):
        assert rows[name]["error"] == "InputError"
        assert (tmp_path / f"{name}.arrows").as_uri() in rows[name]["what"]
        assert "/proc/" not in rows[name]["what"]
    assert done.unread == []
    assert capfd.readouterr() == ("", "")


def test_a_fault_of_ours_is_a_row(observed: Path) -> None:
    """If this fails, a bug that one capture meets ends the survey of all others."""

    def fault(_path: Path) -> Judgement | Failure:
        raise ZeroDivisionError("of ours")

    [row] = judge_batch(items(str(observed)), fault).tables["runs"].to_pylist()
    assert row["error"] == "InternalError"
    assert "ZeroDivisionError: of ours (test_batches.py:" in row["what"]


def test_what_can_not_be_read_now_is_no_row(observed: Path) -> None:
    """If this fails, a store that is away for a minute leaves rows that are never tried again."""
    gone = items(str(observed))
    observed.unlink()
    done = judge_batch(gone, judge)
    assert done.tables["runs"].num_rows == 0
    assert len(done.unread) == 1


def test_a_full_disk_is_not_the_captures_fault(observed: Path) -> None:
    """If this fails, captures stay broken because a worker had no room once."""

    def full(path: Path) -> Judgement | Failure:
        return Failure.of(str(path), TransientError(f"{path}: no room", "free some"))

    done = judge_batch(items(str(observed)), full)
    assert done.tables["runs"].num_rows == 0
    assert done.unread == [f"{observed.as_uri()}: no room\n  free some"]


def test_what_kills_its_worker_is_a_row(observed: Path) -> None:
    """If this fails, nobody learns which capture it is."""
    [item] = items(str(observed))
    [row] = killed(item).tables["runs"].to_pylist()
    assert (row["url"], row["error"]) == (item.url, "WorkerKilled")
