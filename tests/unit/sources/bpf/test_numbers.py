# SPDX-License-Identifier: Apache-2.0
"""Numbers of a boot, and what stands for them in programs of any boot."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.sources.bpf.numbers import (
    FIRST,
    MOST,
    Numbers,
    Placeholders,
    patched,
    placeholders,
)


def ld_imm64(value: int, what: int = 0) -> bytes:
    """lddw r1, value: two slots of 8 bytes. *what* is 1 for a map's descriptor."""
    low, high = value & 0xFFFFFFFF, value >> 32
    return struct.pack("<BBhIBBhI", 0x18, what << 4 | 1, 0, low, 0, 0, 0, high)


NUMBER = st.integers(0, 2**64 - 1).filter(lambda n: not 0 <= n - FIRST < MOST)


@given(st.lists(st.tuples(st.integers(0, MOST - 1), NUMBER), min_size=1), st.lists(NUMBER))
def test_each_placeholder_becomes_its_number(
    pairs: list[tuple[int, int]], others: list[int]
) -> None:
    """If this fails, a program of another boot filters by the address of this one, or by half of
    it: it sees nothing, and nothing looks clean."""
    values = {FIRST + n: value for n, value in pairs}
    used = [FIRST + n for n, _ in pairs]
    code = b"".join(map(ld_imm64, used)) + b"".join(map(ld_imm64, others))
    assert placeholders(code) == values.keys()
    made = patched(code, values)
    assert made == b"".join(ld_imm64(values[p]) for p in used) + b"".join(map(ld_imm64, others))
    assert placeholders(made) == set()


def test_a_placeholder_without_a_number_is_refused() -> None:
    """If this fails, a program filters by nonsense, and says that nothing happened."""
    with pytest.raises(ValueError, match=f"{FIRST + 1:#x}"):
        patched(ld_imm64(FIRST) + ld_imm64(FIRST + 1), {FIRST: 7})


def test_the_index_of_a_map_is_no_placeholder() -> None:
    """If this fails, a program gets a number for a map."""
    code = ld_imm64(FIRST, what=1)
    assert placeholders(code) == set()
    assert patched(code, {FIRST: 7}) == code


def test_what_differs_from_boot_to_boot() -> None:
    """If this fails, an address of the build host is compiled in, or an index has no constant."""
    numbers = Placeholders()
    assert numbers.said(644, "644ULL") == "644ULL"
    assert numbers.said(0xFFFF_FFFF, "x") == "x"
    first = numbers.said(0xFFFF_8000_0000_0000, "x")
    second = numbers.said(0xFFFF_8000_0000_0000, "x")
    assert first != second  # Equal addresses on one boot need not be equal on another.
    task = numbers.said(77, "77ULL", varies=True)
    assert task == f"BOOT({FIRST + 2:#x}ULL)"
    assert list(numbers.values.values()) == [0xFFFF_8000_0000_0000] * 2 + [77]
    assert Numbers().said(0xFFFF_8000_0000_0000, "x", varies=True) == "x"
