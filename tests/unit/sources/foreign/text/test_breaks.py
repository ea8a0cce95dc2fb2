# SPDX-License-Identifier: Apache-2.0
"""Where lines begin: the same in both modes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.sources.foreign.text import breaks
from tests.build.modes import both


@given(text=st.text("ab\n", min_size=1, max_size=40), room=st.integers(0, 12))
def test_each_line_begins_behind_a_newline(text: str, room: int) -> None:
    """A line would be taken for two, or two for one; where there is no room, nothing may be
    written, and the caller must learn how much he needs."""
    data = text.encode()
    expected = [0, *(at + 1 for at, letter in enumerate(text) if letter == "\n")]
    for module in both(breaks.__name__):
        starts = np.full(room + 1, -1, np.int64)
        count = module.find_starts(memoryview(data), starts[:room].data)
        assert count == len(expected)
        assert starts.tolist() == [*expected[:room], *[-1] * (room + 1)][: room + 1]
