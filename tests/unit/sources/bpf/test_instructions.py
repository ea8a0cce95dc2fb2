# SPDX-License-Identifier: Apache-2.0
"""Maps and kernel variables are named in BPF instructions, and nothing else is touched."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from ghesrace.sources.bpf.instructions import maps, name_maps, name_variables

INSN = struct.Struct("<BBhi")
MAGIC = 0x6768657372616365
MOVE = INSN.pack(0xB7, 0x01, 0, 7)
NUMBER = INSN.pack(0x18, 0x02, 0, MAGIC & 0xFFFFFFFF) + INSN.pack(0, 0, 0, MAGIC >> 32)
SEVEN = INSN.pack(0x18, 0x02, 0, 7) + bytes(8)


def a_map(fd: int, register: int = 1) -> bytes:
    return INSN.pack(0x18, 0x10 | register, 0, fd) + bytes(8)


def test_variables_are_named_in_the_code() -> None:
    """If this fails, the verifier refuses every program, or one reads a wrong variable."""
    named = INSN.pack(0x18, 0x32, 0, 4711) + bytes(8)
    assert name_variables(MOVE + NUMBER + a_map(5), {MAGIC: 4711}) == MOVE + named + a_map(5)


def test_maps_are_named_in_the_code() -> None:
    """If this fails, a program writes another ring, or a constant of the plan is another one."""
    code = MOVE + a_map(7) + SEVEN + a_map(9, 3) + NUMBER
    assert maps(code) == {7, 9}
    assert name_maps(code, {7: 0, 9: 1}) == MOVE + a_map(0) + SEVEN + a_map(1, 3) + NUMBER


def test_the_second_half_of_a_constant_is_no_instruction() -> None:
    """If this fails, a constant that looks like the load of a map is changed."""
    looks = INSN.pack(0x18, 0x02, 0, 5) + INSN.pack(0x18, 0x11, 0, 7)
    assert maps(looks + MOVE) == set()


@given(st.lists(st.binary(min_size=8, max_size=8) | st.just(a_map(7))).map(b"".join))
def test_any_bytes(code: bytes) -> None:
    """If this fails, a damaged entry of the cache ends in a traceback, or in another program."""
    changed = name_maps(code, dict.fromkeys(maps(code), 0))
    assert len(changed) == len(code)
    assert maps(changed) == ({0} if maps(code) else set())
    assert name_variables(code, {}) == code
