# SPDX-License-Identifier: Apache-2.0
"""Addresses that lost digits: the same in both modes (test_debris.py says which they are)."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.sources.foreign.text import cuts
from ghesrace.sources.foreign.text.debris import cut_short
from tests.build.modes import EDGES, both

ADDRESS = st.one_of(
    st.sampled_from([*EDGES, 0xFFFF, 0xFFFFC9000000A00, 18446, 1 << 48, 4095, 4096]),
    st.integers(0, 2**64 - 1),
    st.integers(0, 60).map(lambda lost: 0xFFFFC9000000A123 >> lost),
    st.integers(0, 19).map(lambda lost: 18446683604861_123456 // 10**lost),
)


def digits_lost(value: int) -> bool:
    """What `cut_short` says in words."""
    hexadecimal = f"{value:x}".startswith("ffff") and len(f"{value:x}") < 16
    decimal = str(value).startswith("18446") and len(str(value)) < 20
    return 0 < value < 4096 or 1 << 48 <= value < 1 << 63 or hexadecimal or decimal


@given(address=ADDRESS)
def test_what_lost_digits_is_found(address: int) -> None:
    """A page that no slot has would be flushed, and the slot's not."""
    assert cut_short(np.array([address], np.uint64)).tolist() == [digits_lost(address)]


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.lists(ADDRESS, min_size=3, max_size=3)), max_size=20
    )
)
def test_each_event_is_asked_for_its_own_addresses(rows: list[tuple[int, list[int]]]) -> None:
    """Another argument would be taken for an address; both modes must look at the same."""
    ident = np.array([row[0] for row in rows], np.int64)
    values = np.array([row[1] for row in rows], np.uint64).reshape(-1)
    places = np.array([-1, -1, 1, -1, -1, 2, 0, 2], np.int64)
    for module in both(cuts.__name__):
        found = np.zeros(len(rows), np.uint8)
        module.find_cut(ident.data, values.data, 3, places.data, found.data)
        for (number, row), told in zip(rows, found.tolist(), strict=True):
            mine = [row[at] for at in places[2 * number : 2 * number + 2].tolist() if at >= 0]
            expected = any(map(digits_lost, mine)) or (len(mine) == 2 and mine[1] < mine[0])
            assert bool(told) == expected
