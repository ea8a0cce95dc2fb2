# SPDX-License-Identifier: Apache-2.0
"""This module reads and changes what the 64-bit constants in BPF instructions name.

The instructions are bytes, laid out as struct bpf_insn of include/uapi/linux/bpf.h says; that file
has the BPF_PSEUDO_* too, which say what a constant is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from ghesrace.host.syscalls import INSTRUCTION  # the load of a 64-bit constant takes two

_LD_IMM64 = 0x18
_NUMBER, _MAP_FD, _BTF_ID = 0, 1, 3  # The load's source register says what the constant is.


def _constants(code: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield, for each 64-bit constant, the offset where it is loaded (bytes), what it is, and its
    value."""
    at = 0
    while at + 2 * INSTRUCTION <= len(code):
        if code[at] == _LD_IMM64:
            low, high = (struct.unpack_from("<I", code, at + part)[0] for part in (4, 12))
            yield at, code[at + 1] >> 4, low | high << 32
            at += INSTRUCTION
        at += INSTRUCTION


def _changed(code: bytes, change: Callable[[int, int], tuple[int, int] | None]) -> bytes:
    """Return the instructions with other constants. *change* gets what a constant is and its value,
    and returns both anew, or None to leave it."""
    made = bytearray(code)
    for at, what, value in _constants(code):
        if (new := change(what, value)) is not None:
            made[at + 1] = made[at + 1] & 0x0F | new[0] << 4
            struct.pack_into("<I", made, at + 4, new[1] & 0xFFFFFFFF)
            struct.pack_into("<I", made, at + 12, new[1] >> 32)
    return bytes(made)


def maps(code: bytes) -> set[int]:
    """Return the descriptors of maps, or the numbers that stand for them, that *code* names."""
    return {value for _, what, value in _constants(code) if what == _MAP_FD}


def numbers(code: bytes) -> set[int]:
    """Return the 64-bit constants of *code* that are numbers, and name nothing."""
    return {value for _, what, value in _constants(code) if what == _NUMBER}


def change_numbers(code: bytes, values: dict[int, int]) -> bytes:
    """Return the instructions with other numbers; *values* maps the old to the new.

    >>> code = bytes([0x18, 0x01, 0, 0, 3, 0, 0, 0, *bytes(8)])  # r1 = 3
    >>> numbers(change_numbers(code, {3: 1 << 40})) == {1 << 40}
    True
    """

    def change(what: int, value: int) -> tuple[int, int] | None:
        known = what == _NUMBER and value in values
        return (_NUMBER, values[value]) if known else None

    return _changed(code, change)


def name_maps(code: bytes, names: dict[int, int]) -> bytes:
    """Return the instructions with other descriptors of maps; *names* maps the old to the new.

    >>> code = bytes([0x18, 0x11, 0, 0, 3, 0, 0, 0, *bytes(8)])  # r1 = the map with descriptor 3
    >>> maps(name_maps(code, {3: 7}))
    {7}
    """
    return _changed(code, lambda what, fd: (_MAP_FD, names[fd]) if what == _MAP_FD else None)


def name_variables(code: bytes, variables: dict[int, int]) -> bytes:
    """Return the instructions in which each number that is a key of *variables* has become a
    reference to the kernel variable with that BTF id (check_pseudo_btf_id() in
    kernel/bpf/verifier.c)."""

    def change(what: int, value: int) -> tuple[int, int] | None:
        known = what == _NUMBER and value in variables
        return (_BTF_ID, variables[value]) if known else None

    return _changed(code, change)
