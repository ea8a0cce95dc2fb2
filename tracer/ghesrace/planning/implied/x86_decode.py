# SPDX-License-Identifier: Apache-2.0
"""This cuts x86-64 code into instructions: how long one is, and where its operands are.

It knows what kernels are compiled to: the one-byte and two-byte opcodes and 0F 38 and 0F 3A, by
the maps of Intel's manual (volume 2, appendix A), and no VEX or EVEX, which kernel code does not
use outside of kernel_fpu_begin(). Anything else is Lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from .paths import Lost, signed

LONGEST = 15
_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
_SEGMENTS = frozenset(b"\x64\x65")  # FS and GS: per CPU or per task
RIP, NONE = 16, 17  # what stands for a base or an index besides the registers


def _set(*ranges: tuple[int, int] | int) -> frozenset[int]:
    found: set[int] = set()
    for one in ranges:
        found.update(range(one[0], one[1] + 1) if isinstance(one, tuple) else (one,))
    return frozenset(found)


_ALU = frozenset(op for op in range(0x40) if op & 7 < 4)
_MODRM = _ALU | _set(0x63, 0x69, 0x6B, (0x80, 0x81), (0x83, 0x8F), 0xC0, 0xC1, 0xC6, 0xC7,
                     (0xD0, 0xD3), (0xD8, 0xDF), 0xF6, 0xF7, 0xFE, 0xFF)  # fmt: skip
_BYTE = frozenset(op for op in range(0x40) if op & 7 == 4) | _set(
    0x6A, 0x6B, (0x70, 0x7F), 0x80, 0x83, 0xA8, (0xB0, 0xB7), 0xC0, 0xC1, 0xC6, 0xCD,
    (0xE0, 0xE7), 0xEB)  # fmt: skip
_FULL = frozenset(op for op in range(0x40) if op & 7 == 5) | _set(
    0x68, 0x69, 0x81, 0xA9, (0xB8, 0xBF), 0xC7, 0xE8, 0xE9)  # fmt: skip
_INVALID = frozenset(op for op in range(0x40) if op & 7 in (6, 7)) | _set(
    (0x40, 0x4F), (0x60, 0x62), 0x82, 0x9A, 0xC4, 0xC5, (0xD4, 0xD6), 0xEA)  # fmt: skip
_TWO_BARE = _set((0x05, 0x09), 0x0B, 0x0E, (0x30, 0x37), 0x77, (0x80, 0x8F), (0xA0, 0xA2),
                 (0xA8, 0xAA), (0xC8, 0xCF))  # fmt: skip
_TWO_BYTE = _set((0x70, 0x73), 0xA4, 0xAC, 0xBA, 0xC2, (0xC4, 0xC6))
_TWO_INVALID = _set(0x04, 0x0A, 0x0C, 0x0F, (0x24, 0x27), 0x39, (0x3B, 0x3F), 0xA6, 0xA7)


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction of `size` bytes.

    `opcode` has its escape bytes (0x0F01, 0x0F38F6). `wide` is the operands' size in bytes. `reg`
    and `rm` are the registers of ModRM (`rm` of the opcode, if there is none). `memory` is (base,
    index, scale, displacement) if rm is memory, and `percpu` says that it is behind FS or GS.
    `immediate` is signed.
    """

    size: int
    opcode: int
    wide: int
    reg: int = 0
    rm: int = 0
    memory: tuple[int, int, int, int] | None = None
    percpu: bool = False
    immediate: int = 0
    repeated: bool = False
    rex: bool = False


def decode(data: bytes) -> Instruction:
    """Return the first instruction of *data*. Raises Lost if there is none, or it is cut.

    >>> decode(bytes.fromhex("e896000000")).immediate
    150
    """
    try:
        return _decode(data)
    except IndexError:
        raise Lost("an instruction is cut off") from None


def _decode(data: bytes) -> Instruction:
    at, rex, prefixes = 0, 0, set()
    while data[at] in _PREFIXES:
        prefixes.add(data[at])
        at += 1
        if at >= LONGEST:
            raise Lost("an instruction has too many prefixes")
    if data[at] & 0xF0 == 0x40:
        rex = data[at]
        at += 1
    opcode = data[at]
    at += 1
    if opcode == 0x0F:
        opcode = 0x0F00 | data[at]
        at += 1
        if opcode in (0x0F38, 0x0F3A):
            opcode = opcode << 8 | data[at]
            at += 1
    wide = 8 if rex & 8 else 2 if 0x66 in prefixes else 4
    modrm, short, full = _shape(opcode)
    reg, rm, memory = 0, opcode & 7 | (rex & 1) << 3, None
    if modrm:
        byte = data[at]
        reg, rm = byte >> 3 & 7 | (rex & 4) << 1, byte & 7 | (rex & 1) << 3
        at += 1
        if byte < 0xC0:
            memory, at = _memory(data, at, byte, rex)
            if 0x67 in prefixes and opcode != 0x0F1F:
                raise Lost("an address has 32 bits")
        if opcode in (0xF6, 0xF7) and byte >> 3 & 7 < 2:
            short, full = opcode == 0xF6, opcode == 0xF7
    number = 2 if full and wide == 2 and opcode not in (0xE8, 0xE9) else 4 if full else 0
    if opcode in range(0xB8, 0xC0) and rex & 8:
        number = 8
    number += {0xC2: 2, 0xC8: 3, 0xCA: 2}.get(opcode, 8 if 0xA0 <= opcode <= 0xA3 else 0)
    number += short
    if at + number > len(data):
        raise Lost("an instruction is cut off")
    if at + number > LONGEST:
        raise Lost("an instruction is too long")
    immediate = int.from_bytes(data[at : at + number], "little", signed=True) if number else 0
    at += number
    return Instruction(
        at, opcode, wide, reg, rm, memory, bool(prefixes & _SEGMENTS), immediate,
        bool(prefixes & {0xF2, 0xF3}), bool(rex),
    )  # fmt: skip


def _shape(opcode: int) -> tuple[bool, bool, bool]:
    """Return whether there is a ModRM byte, a byte and a full number behind it."""
    if opcode >> 8 == 0:
        if opcode in _INVALID:
            raise Lost(f"no instruction begins with {opcode:02x}")
        return opcode in _MODRM, opcode in _BYTE, opcode in _FULL
    if opcode >> 8 == 0x0F:
        low = opcode & 0xFF
        if low in _TWO_INVALID:
            raise Lost(f"no instruction begins with 0f {low:02x}")
        return low not in _TWO_BARE, low in _TWO_BYTE, 0x80 <= low <= 0x8F
    return True, opcode >> 8 == 0x0F3A, False


def _memory(data: bytes, at: int, byte: int, rex: int) -> tuple[tuple[int, int, int, int], int]:
    """Return the memory operand behind the ModRM *byte*, and what is behind it."""
    mod, low = byte >> 6, byte & 7
    base, index, scale = low | (rex & 1) << 3, NONE, 1
    if low == 4:
        sib = data[at]
        at += 1
        scale, index = 1 << (sib >> 6), sib >> 3 & 7 | (rex & 2) << 2
        index = NONE if index == 4 else index
        base = sib & 7 | (rex & 1) << 3
        if sib & 7 == 5 and mod == 0:
            base, mod = NONE, 2
    elif low == 5 and mod == 0:
        base, mod = RIP, 2
    size = (0, 1, 4)[mod]
    offset = signed(int.from_bytes(data[at : at + size], "little"), 8 * size) if size else 0
    if at + size > len(data):
        raise Lost("an instruction is cut off")
    return (base, index, scale, offset), at + size
