# SPDX-License-Identifier: Apache-2.0
"""What a text cannot contain."""

from __future__ import annotations

import numpy as np
import pytest

from ghesrace.sources.foreign.text.flags import Flags
from ghesrace.sources.foreign.text.forms import Style
from ghesrace.sources.foreign.text.lines import lines_of
from ghesrace.sources.foreign.text.notes import Found, unseen_of
from ghesrace.sources.foreign.text.runs import Runs

NOTHING = Found("ftrace", Style(kernel=True), plain=False, unread=0, examples=[])


def notes(found: Found, runs: Runs | None = None, moved: int = 0) -> str:
    flags = Flags(found.style)
    flags.take(lines_of(b"d.Z1."))
    return " ".join(u.what + u.why for u in unseen_of(found, flags, runs or Runs(), moved))


def test_a_sound_text_lacks_only_what_no_text_has() -> None:
    """Words that stand under each trace are read by nobody."""
    assert notes(NOTHING).startswith("probe hits that the kernel skipped")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Found("perf", Style(), False, 0, []), "--show-lost-events"),
        (Found("ftrace", Style(), True, 0, []), "no fraction"),
        (Found("ftrace", Style(bare=True), False, 0, []), "which numbers are decimal"),
        (Found("ftrace", Style(), False, 1200, ["x [0] 1:"]), "1,200 lines with a CPU"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(found: Found, words: str) -> None:
    """Whoever sent it can record it better only if told."""
    assert words in notes(found)
    assert words not in notes(NOTHING)


def test_moved_lines_and_runs_are_said() -> None:
    """They count as losses, which nothing else would explain."""
    runs = Runs()
    runs.place(np.array([0, 0]), np.array([2_000_000, 1_000]), [])
    assert "--run 1 to --run 2" in notes(NOTHING, runs)
    assert "3 times a CPU's stamps go back" in notes(NOTHING, moved=3)
