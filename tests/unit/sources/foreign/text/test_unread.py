# SPDX-License-Identifier: Apache-2.0
"""Lines that can't be read: which they are, and what is said of them."""

from __future__ import annotations

import numpy as np

from ghesrace.events import Cause
from ghesrace.sources.foreign.eventmap import EventMap
from ghesrace.sources.foreign.text.careful import Careful
from ghesrace.sources.foreign.text.forms import Style
from ghesrace.sources.foreign.text.lines import lines_of
from ghesrace.sources.foreign.text.unread import Unread

TEXT = (
    b" a-1 [002] d.h1. 1.000000: ?\n"
    b"and lost 3 chunks!\n"
    b" a-1 [003] d.h1. 2.000000: f <-g\n"
    b" a-1 [004] d.h\n"
    b" a-1 [005] d.h1. 3.000000: x: y b-1 [006] d.h1. 4.000000: x: y\n"
)


def test_each_such_line_is_counted_and_named() -> None:
    """A line that is neither an event nor a loss has vanished."""
    unread = Unread(Careful("ftrace", Style(), EventMap()), whole := [])
    bad, twice = np.arange(4), np.array([4])
    odd = unread.take(lines_of(TEXT), bad, twice, offset=50)
    assert odd.cpu.tolist() == [2, 4, 5, 6]
    assert odd.at.tolist() == [0, 3, 4, 4]
    assert odd.ts.tolist() == [1_000_000_050, -1, 3_000_000_050, 4_000_000_050]
    assert odd.count.tolist() == [1, 1, 0, 0]
    assert whole == [(Cause.OVERRUN, 0)]
    assert unread.count == 4
    assert unread.examples[0] == "a-1 [002] d.h1. 1.000000: ?"
    unread.note(lines_of(TEXT), np.array([2]))
    assert unread.count == 5
