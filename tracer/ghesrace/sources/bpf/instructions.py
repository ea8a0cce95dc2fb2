# SPDX-License-Identifier: Apache-2.0
"""BPF instructions as bytes: what their 64-bit constants name (struct bpf_insn and the
BPF_PSEUDO_* of include/uapi/linux/bpf.h)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

INSTRUCTION = 8  # bytes; a 64-bit constant takes two
_LD_IMM64 = 0x18
_NUMBER, _MAP_FD, _BTF_ID = 0, 1, 3  # source register of such a load: what the constant is


def _constants(code: bytes) -> Iterator[tuple[int, int, int]]:
    """Each 64-bit constant: where it is loaded, what it is, its value."""
    at = 0
    while at + 2 * INSTRUCTION <= len(code):
        if code[at] == _LD_IMM64:
            low, high = (struct.unpack_from("<I", code, at + part)[0] for part in (4, 12))
            yield at, code[at + 1] >> 4, low | high << 32
            at += INSTRUCTION
        at += INSTRUCTION


def _changed(code: bytes, change: Callable[[int, int], tuple[int, int] | None]) -> bytes:
    """The instructions with other constants: *change* takes what one is and its value."""
    made = bytearray(code)
    for at, what, value in _constants(code):
        if (new := change(what, value)) is not None:
            made[at + 1] = made[at + 1] & 0x0F | new[0] << 4
            struct.pack_into("<I", made, at + 4, new[1])
            struct.pack_into("<I", made, at + 12, 0)
    return bytes(made)


def maps(code: bytes) -> set[int]:
    """The descriptors of maps, or what stands for them, that the instructions name."""
    return {value for _, what, value in _constants(code) if what == _MAP_FD}


def name_maps(code: bytes, names: dict[int, int]) -> bytes:
    """The instructions with other descriptors of maps."""
    return _changed(code, lambda what, fd: (_MAP_FD, names[fd]) if what == _MAP_FD else None)


def name_variables(code: bytes, variables: dict[int, int]) -> bytes:
    """The instructions in which the numbers that are keys of *variables* have become references
    to kernel variables by BTF id (kernel/bpf/verifier.c, check_pseudo_btf_id())."""

    def change(what: int, value: int) -> tuple[int, int] | None:
        known = what == _NUMBER and value in variables
        return (_BTF_ID, variables[value]) if known else None

    return _changed(code, change)
