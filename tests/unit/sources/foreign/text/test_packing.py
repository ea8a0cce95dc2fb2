# SPDX-License-Identifier: Apache-2.0
"""Events as ring-buffer pages: the same in both modes (test_pages.py says that they are right)."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.sources.foreign.text import packing
from ghesrace.sources.foreign.text.pages import LAYOUT, Columns, pages
from ghesrace.sources.ring.pages import UNCOUNTED, decode
from tests.build.modes import EDGES, both

EVENT = st.tuples(
    st.sampled_from([0, 1, 9999]),
    st.sampled_from([0, 1, 2**31, 2**59 - 1, 2**59, 2**61 - 1]),
    st.sampled_from([0, 2**31 - 1, -1]),
    st.sampled_from([0, 0x49]),
    st.sampled_from([1, 4096]),
    st.sampled_from([0, 0, 0, UNCOUNTED, 1, 2**40]),
    st.sampled_from(EDGES),
)


def columns(events: list[tuple[int, ...]]) -> Columns:
    table = np.array([event[:6] for event in events], np.int64)
    values = np.zeros((len(events), 10), np.uint64)
    values[:, 0] = values[:, 2] = [event[6] for event in events]
    return Columns(*table.T, values)


@given(events=st.lists(EVENT, min_size=1, max_size=80), width=st.integers(0, 10))
def test_compiled_and_uncompiled_agree(events: list[tuple[int, ...]], width: int) -> None:
    """What is tested without a compiler would not be what runs."""
    found = []
    for module in both(packing.__name__):
        with mock.patch("ghesrace.sources.foreign.text.pages.packing", module):
            found.append(pages(columns(events), width))
    assert found[0] == found[1]


@pytest.mark.parametrize("width", [0, 3, 10])
def test_pages_of_every_width_hold_their_events(width: int) -> None:
    """Narrow events are more to a page; none may be cut off, or count for another CPU."""
    events = [(n % 3, 1000 * n, n, 9, 7, UNCOUNTED if n == 900 else 0, n) for n in range(1000)]
    made = pages(columns(events), width)
    assert sorted(made) == [0, 1, 2]
    for cpu, data in made.items():
        records = decode(bytes(data), LAYOUT)
        assert records.ts.tolist() == list(range(1000 * cpu, 1_000_000, 3000))
        assert set(records.size.tolist()) == {8 + 8 * width}
        assert (records.missed == UNCOUNTED).sum() == (cpu == 0)
