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
