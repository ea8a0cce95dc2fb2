# SPDX-License-Identifier: Apache-2.0
"""Entries that a head promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.events import Cause
from tests.build.texts import HEAD, judged, losses, race, visit


@pytest.mark.parametrize("chunk", [4 << 20, 150])
@pytest.mark.parametrize("cut", range(4))
def test_text_that_is_cut_at_a_line_is_truncated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int, chunk: int
) -> None:
    """Nothing else tells that the end of the trace is missing."""
    monkeypatch.setattr("ghesrace.sources.foreign.text.reader._CHUNK", chunk)
    path = tmp_path / "trace"
    lines = race().splitlines(keepends=True)
    path.write_text(HEAD.format(24, 24) + "".join(lines[: 24 - cut]))
    report, _ = judged(path)
    assert report.truncated == (cut > 0)


def test_each_head_counts_its_own_entries(tmp_path: Path) -> None:
    """One part's surplus must not make up for another's loss."""
    path = tmp_path / "trace"
    path.write_text(HEAD.format(4, 4) + visit(0, 1, 1) + HEAD.format(4, 4) + visit(1, 1, 1))
    assert not judged(path)[0].truncated
    path.write_text(HEAD.format(5, 5) + visit(0, 1, 1) + HEAD.format(3, 3) + visit(1, 1, 1))
    assert judged(path)[0].truncated


def test_any_head_may_say_that_entries_were_overwritten(tmp_path: Path) -> None:
    """`cat per_cpu/*/trace` has a head for each CPU: what the second had lost was forgotten."""
    path = tmp_path / "trace"
    path.write_text(HEAD.format(4, 4) + visit(0, 1, 1) + HEAD.format(4, 90) + visit(1, 50, 2))
    assert losses(judged(path)[1], Cause.OVERRUN)["cpu"].tolist() == [1]


def test_heads_of_one_cpu_each_count_together(tmp_path: Path) -> None:
    """The kernel counts all CPUs in the head of each `per_cpu/cpuN/trace`: whole texts would be
    called cut, and one CPU's alone would be called whole."""
    path = tmp_path / "trace"
    head = HEAD.format(8, 8)
    path.write_text(head + visit(0, 1, 1) + head + visit(1, 1, 1) + head)
    report = judged(path)[0]
    assert not report.truncated
    assert "losses" not in report.qualified_by
    path.write_text(head + visit(0, 1, 1) + head)
    assert judged(path)[0].truncated
    # Another boot, which wrote as many entries, is not the rest of the first.
    both = visit(0, 1, 1) + visit(1, 1, 1)
    path.write_text(head + both + head + both)
    assert not judged(path)[0].truncated
    path.write_text(head + both + head)
    assert judged(path)[0].truncated


def test_text_that_ends_in_a_head_is_truncated(tmp_path: Path) -> None:
    """All of the second trace is missing, and the first one may be clean."""
    path = tmp_path / "trace"
    path.write_text(HEAD.format(4, 4) + visit(0, 1, 1) + "# tracer: nop\n#\n")
    assert judged(path)[0].truncated


def test_head_behind_a_head_that_lost_its_end_is_read(tmp_path: Path) -> None:
    """What the joined line says of overwritten entries was forgotten."""
    path = tmp_path / "trace"
    path.write_text(HEAD.format(4, 90).replace("nop\n", "nop") + visit(0, 1, 1))
    report, events = judged(path)
    assert len(losses(events, Cause.OVERRUN)) == 1
    assert "losses" not in report.qualified_by
