# SPDX-License-Identifier: Apache-2.0
"""Ranges of addresses that meet, compiled and not, beside every byte of them."""

from __future__ import annotations

from itertools import product

import pytest

from ghesrace.checker.core import ranges
from tests.build.uncompiled import uncompiled

TOP = 2**64


@pytest.mark.parametrize("at", [0, 8, TOP - 24])
def test_ranges_meet_where_they_have_a_byte_in_common(at: int) -> None:
    """An invalidation of the byte before the slot would count as the slot's, or an edit that
    reaches to the end of memory as none of the slot's."""
    for module in (ranges, uncompiled(ranges)):
        for addr, size, begin, length in product(range(6), range(1, 6), range(6), range(1, 6)):
            common = {*range(addr, addr + size)} & {*range(begin, begin + length)}
            assert module.meets(at + addr, size, at + begin, length) is bool(common)


def test_no_sum_wraps() -> None:
    """A flush of all addresses from the slot on, which no kernel sends and a file may have, would
    end before the slot."""
    for module in (ranges, uncompiled(ranges)):
        assert module.meets(1, TOP - 1, TOP - 4096, 4096)
        assert module.meets(TOP - 4096, TOP - 1, TOP - 4096, 4096)
        assert module.meets(TOP - 1, TOP - 1, TOP - 4096, 4096)
        assert not module.meets(0, TOP - 4096, TOP - 4096, 4096)
        assert not module.meets(TOP - 4096, TOP - 1, 0, 4096)
