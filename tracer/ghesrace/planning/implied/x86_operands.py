# SPDX-License-Identifier: Apache-2.0
"""The operands of x86-64 instructions: what registers and the stack hold, as far as it is known."""

from __future__ import annotations

from .paths import WORD, State, Value
from .x86_decode import NONE, RIP, Instruction


def address_of(state: State, one: Instruction) -> Value:
    """Return the address that ModRM names, or None if it is not known."""
    assert one.memory is not None
    base, index, scale, offset = one.memory
    if one.percpu:
        return None
    start = state.pc + one.size if base == RIP else 0 if base == NONE else state.get(base)
    step_ = 0 if index == NONE else state.get(index)
    if start is None or step_ is None:
        return None
    return start + step_ * scale + offset & WORD


def get(state: State, number: int, wide: int) -> Value:
    """Return the low *wide* bytes of a register."""
    value = state.get(number)
    return None if value is None else value & ((1 << 8 * wide) - 1)


def is_high(one: Instruction, number: int, wide: int) -> bool:
    """Say whether the register operand is AH to BH, which are 4 to 7 without REX."""
    return wide == 1 and not one.rex and number >= 4


def byte(state: State, one: Instruction, number: int, wide: int) -> Value:
    """Return what a register operand holds."""
    if not is_high(one, number, wide):
        return get(state, number, wide)
    value = state.get(number - 4)
    return None if value is None else value >> 8 & 0xFF


def put(state: State, one: Instruction, number: int, value: Value, wide: int) -> State:
    """Return the state with *value* in the low *wide* bytes of a register operand; those of 4 bytes
    clear the rest."""
    if wide < 4:  # The rest of the register stays.
        number, low = (number - 4, 8) if is_high(one, number, wide) else (number, 0)
        old, mask = state.get(number), (1 << 8 * wide) - 1 << low
        if old is None or value is None:
            return state.put(number, None)
        return state.put(number, old & ~mask | value << low & mask)
    return state.put(number, None if value is None else value & ((1 << 8 * wide) - 1))


def read(state: State, one: Instruction, wide: int) -> Value:
    """Return the operand that ModRM names."""
    if one.memory is None:
        return byte(state, one, one.rm, wide)
    return state.load(address_of(state, one)) if wide == 8 and not one.percpu else None


def write(state: State, one: Instruction, value: Value, wide: int, text: str = "mov") -> State:
    """Return the state with *value* in the operand that ModRM names."""
    if one.memory is None:
        return put(state, one, one.rm, value, wide)
    if one.percpu:
        return state
    return state.store(address_of(state, one), value, wide, text)
