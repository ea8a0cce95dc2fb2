# SPDX-License-Identifier: Apache-2.0
"""One step of x86-64 code: what the kernel's compilers make of page-table edits. What is not
modelled here leaves all registers unknown.
"""

from __future__ import annotations

import re
from dataclasses import replace

from .paths import (
    ALL,
    MOST_DEPTH,
    STACK,
    WORD,
    Act,
    Lost,
    State,
    Surroundings,
    Value,
    is_message,
    on_stack,
    returned,
    signed,
    trapped,
)
from .x86_decode import LONGEST, NONE, Instruction, decode
from .x86_operands import address_of, byte, get, put, read, write

RAX, RCX, RDX, RSP, RBP, RSI, RDI = 0, 1, 2, 4, 5, 6, 7
ARGUMENTS = (RDI, RSI, RDX, RCX, 8, 9)
_ZERO, _SIGN, _CARRY, _OVER = range(4)
_INT3, _UD2 = 0xCC, 0x0F0B
_LEAF = 24  # instructions
_ABOVE = 7  # the condition of JA
_NEAR = 16  # bytes between the JA of a switch and the jump by its table
_MOST_CASES = 64
_EVERYTHING = 2  # the type of INVPCID
# ModRM's reg and rm where it names no memory: INVLPGA and INVLPGB; VMCALL and VMMCALL
_INVLPG_BY_REGISTER, _HYPERCALLS = {(3, 7), (7, 6)}, {(0, 1), (3, 1)}
_REPLACES_RETURN = re.compile(rb"[\x48\x4c]\x89[\x04\x0c\x14\x1c\x24\x2c\x34\x3c]\x24")  # (%rsp)
_CALLERS = (RAX, RCX, RDX, RSI, RDI, 8, 9, 10, 11)  # that any call may change
# These change no general register, no flag that matters, and no memory but a CPU's own.
_IDLE = frozenset(
    [0xFA, 0xFB, 0xFC, 0xFD, 0x0F0D, 0x0FAE, 0x0F06, 0x0F09, 0x0F30, 0x0F77,
     *range(0x0F18, 0x0F20)]
)  # fmt: skip
# These write nothing but their ModRM operands (and RAX, RDX), in ways that don't matter.
_OPAQUE = frozenset(
    [0x0FA3, 0x0FAB, 0x0FB3, 0x0FBA, 0x0FBB, 0x0FA4, 0x0FA5, 0x0FAC, 0x0FAD, 0x0FB0, 0x0FB1,
     0x0FC0, 0x0FC1, 0x0FBC, 0x0FBD, 0x86, 0x87, 0xD2, 0xD3,
     0xD0, 0xC0, 0x0F20, 0x0F01, 0x0FC7]
)  # fmt: skip
# Of these ModRM's reg is no general register.
_NO_REG = frozenset([0x0FBA, 0xC0, 0xD0, 0xD2, 0xD3, 0x0F01, 0x0F20, 0x0FC7])


def entry(address: int, arguments: dict[int, Value]) -> State:
    """Return the state at a function's entry, with *arguments* by number (from 1)."""
    registers: list[Value] = [None] * 16
    registers[RSP] = STACK
    for number, value in arguments.items():
        registers[ARGUMENTS[number - 1]] = value
    return State(address, tuple(registers))


def step(state: State, around: Surroundings) -> tuple[State, ...]:
    """Return the states behind the instruction at *state*; none behind a trap. Raises Lost."""
    try:
        one = decode(around.code.read(state.pc, LONGEST))
    except Lost as lost:
        raise Lost(str(lost), state.pc) from None
    op = one.opcode
    if op == _INT3:
        raise Lost("a breakpoint hides an instruction", state.pc)
    if op in (_UD2, 0x0FB9, 0x0FFF):
        return trapped(state)
    if op in (0xE8, 0xE9, 0xEB, 0xC2, 0xC3) or (op == 0xFF and one.reg & 7 in (2, 4)):
        return _transfer(state, one, around)
    if 0xE0 <= op <= 0xE3:  # LOOP and JRCXZ
        return _either(state.forget((RCX,)), one, None)
    if 0x70 <= op <= 0x7F or 0x0F80 <= op <= 0x0F8F:
        ways = _either(state, one, _holds(state, op & 15))
        if around.tables and op & 15 == _ABOVE and state.limit and state.limit[1] == state.pc:
            behind, number = state.pc + one.size, state.limit[0]
            ways = tuple(
                replace(way, limit=(number, behind, True)) if way.pc == behind else way
                for way in ways
            )
        return ways
    after = replace(_plain(state, one), pc=state.pc + one.size)
    if around.tables and _compares(one):
        after = replace(after, limit=(one.immediate, after.pc, False))
    return (after,)


def _compares(one: Instruction) -> bool:
    """Say whether *one* compares with a number."""
    return one.opcode in (0x3C, 0x3D) or (one.opcode in (0x80, 0x81, 0x83) and one.reg & 7 == 7)


def _either(state: State, one: Instruction, taken: bool | None) -> tuple[State, ...]:
    behind = replace(state, pc=state.pc + one.size)
    there = replace(state, pc=state.pc + one.size + one.immediate & WORD)
    return (there, behind) if taken is None else (there if taken else behind,)


def _holds(state: State, condition: int) -> bool | None:
    if state.flags is None:
        return None
    zero, sign, carry, over = state.flags
    less = None if sign is None or over is None else sign != over
    found = (over, carry, zero, _one_of(zero, carry), sign, None, less, _one_of(zero, less))
    holds = found[condition >> 1]
    return None if holds is None else holds != bool(condition & 1)


def _one_of(a: bool | None, b: bool | None) -> bool | None:
    return True if a or b else None if a is None or b is None else False


def _transfer(state: State, one: Instruction, around: Surroundings) -> tuple[State, ...]:
    """Calls, jumps and returns."""
    op, behind = one.opcode, state.pc + one.size
    if op in (0xC2, 0xC3):
        return (returned(replace(state, flags=None)),)
    target = behind + one.immediate & WORD if op != 0xFF else _pointed(state, one, around)
    if op == 0xE8 or (op == 0xFF and one.reg & 7 == 2):
        return (_call(state, target, behind, around),)
    if target is not None and _is_entry(around, target) and is_message(around, state.get(RDI)):
        return (returned(state.does(Act("message", state.pc)).forget(_CALLERS)),)
    if ways := _cases(state, one, around):
        return ways
    if target is None:  # to where a register or memory says
        return (returned(state.does(Act("call", state.pc, None, "jmp"))),)
    if target in around.flushes:
        return (returned(_flushed(state, target, "jmp", around)),)
    if around.tables and target not in around.through and _is_entry(around, target):
        return (returned(state.does(Act("call", state.pc, target, "jmp"))),)
    if _is_return_thunk(around.code.read(target, 7)):
        return (returned(state),)
    if _is_retpoline(target, around):
        return (returned(state.does(Act("call", state.pc, None, "jmp"))),)
    return (replace(state, pc=target),)


def _cases(state: State, one: Instruction, around: Surroundings) -> tuple[State, ...]:
    """Return the states behind a jump by the table of a switch: CMP with the last case, JA, and JMP
    through that number of entries and one."""
    if not around.tables or not state.limit or one.memory is None or one.percpu:
        return ()
    (last, behind, above), (base, index, scale, table) = state.limit, one.memory
    near = above and 0 <= state.pc - behind <= _NEAR
    if not near or (base, scale) != (NONE, 8) or index == NONE or not 0 <= last < _MOST_CASES:
        return ()
    raw = around.code.read(table & WORD, 8 * (last + 1))
    targets = {int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw), 8)}
    if len(raw) < 8 * (last + 1):
        return ()
    return tuple(replace(state, pc=target, flags=None, limit=None) for target in sorted(targets))


def _is_entry(around: Surroundings, target: int) -> bool:
    """Say whether a function begins at *target*, as those that ftrace can hook do: with a call, or
    the NOP that boot put in its place."""
    head = around.code.read(target, 9)
    head = head.removeprefix(b"\xf3\x0f\x1e\xfa")
    return head[:1] == b"\xe8" or head[:5] == b"\x0f\x1f\x44\x00\x00"


def _pointed(state: State, one: Instruction, around: Surroundings) -> Value:
    """Return where a jump through memory at a known address leads: paravirt's, where boot did not
    patch it (its table is read-only once the kernel has booted)."""
    at = None if one.memory is None or one.percpu else address_of(state, one)
    raw = b"" if at is None or on_stack(at) else around.code.read(at, 8)
    return int.from_bytes(raw, "little") if len(raw) == 8 else None


def _is_return_thunk(code: bytes) -> bool:
    """Say whether *code* calls and then traps: srso_return_thunk(), to which returns are patched on
    AMD's CPUs. Taken for a return, other code that looks so makes one path more."""
    return code[:1] == b"\xe8" and code[5:7] == b"\x0f\x0b"


def _is_retpoline(target: int, around: Surroundings) -> bool:
    """Say whether the code at *target* calls a few bytes on, where a register replaces the return
    address: a jump to where that register says (arch/x86/lib/retpoline.S)."""
    head = around.code.read(target, 5)
    if head[:1] != b"\xe8" or not 0 <= int.from_bytes(head[1:], "little") < _NEAR:
        return False
    move = around.code.read(target + 5 + int.from_bytes(head[1:], "little"), 4)
    return bool(_REPLACES_RETURN.fullmatch(move))


def _is_leaf(target: int, around: Surroundings, depth: int = 3) -> bool:
    """Say whether the function at *target* is short, straight and calls nothing that is not: it is
    followed, whatever it is called."""
    for _ in range(_LEAF):
        try:
            one = decode(around.code.read(target, LONGEST))
        except Lost:
            return False
        op, behind = one.opcode, target + one.size
        if op == 0xC3:
            return True
        if op == 0xE8 and not (
            depth > 0 and _is_leaf(behind + one.immediate & WORD, around, depth - 1)
        ):
            return False
        if op in (0xC2, 0xFF, _INT3, _UD2) or 0x70 <= op <= 0x7F or 0x0F80 <= op <= 0x0F8F:
            return False
        target = behind + one.immediate & WORD if op in (0xE9, 0xEB) else behind
        if target in around.flushes:
            return False
    return False


def _call(state: State, target: Value, behind: int, around: Surroundings) -> State:
    """A call. A compiler reads a register behind a call only if it knows that the call leaves it
    alone (paravirt's callee-save calls), so that all but what it returns keep their values."""
    if target is not None and target in around.flushes:
        return replace(_flushed(state, target, "call", around), pc=behind)
    deep = len(state.callers) >= MOST_DEPTH
    if target is not None and not deep and (target in around.through or _is_leaf(target, around)):
        return replace(state, pc=target, callers=(*state.callers, behind), flags=None)
    if is_message(around, state.get(RDI)):
        state = state.does(Act("message", state.pc, target, "call")).forget(_CALLERS)
    else:
        state = state.lends(ARGUMENTS)
        state = state.does(Act("call", state.pc, target, "call")).forget((RAX, RDX))
    return replace(state, pc=behind, flags=None)


def _flushed(state: State, target: int, how: str, around: Surroundings) -> State:
    act = Act("flush", state.pc, state.get(RDI), f"{how} {around.flushes[target]}", watched=True)
    return replace(state.does(act).forget((RAX, RDX)), flags=None)


def _plain(state: State, one: Instruction) -> State:
    """What goes on with the next instruction."""
    op = one.opcode
    if op in _IDLE:
        return state
    if op < 0x40 or op in (0x84, 0x85, 0xA8, 0xA9) or 0x80 <= op <= 0x83:
        return _arithmetic(state, one)
    if 0x50 <= op <= 0x5F or op in (0x68, 0x6A, 0x8F, 0x9C, 0x9D, 0xC9):
        return _stack(state, one)
    if op in (0x88, 0x89, 0x8A, 0x8B, 0x8D, 0xC6, 0xC7) or 0xB0 <= op <= 0xBF:
        return _move(state, one)
    if op in (0x63, 0x0FB6, 0x0FB7, 0x0FBE, 0x0FBF):
        return _extend(state, one)
    if op == 0xC1 or op == 0xD1:
        return _shift(state, one)
    if 0x0F40 <= op <= 0x0F4F:
        value, old = read(state, one, one.wide), get(state, one.reg, one.wide)
        holds = _holds(state, op & 15)
        if holds is None:
            return put(state, one, one.reg, value if value == old else None, one.wide)
        return put(state, one, one.reg, value if holds else old, one.wide)
    if 0x0F90 <= op <= 0x0F9F:
        holds = _holds(state, op & 15)
        return write(state, one, None if holds is None else int(holds), 1)
    if op in (0x0FAF, 0x69, 0x6B):
        left, right = read(state, one, one.wide), get(state, one.reg, one.wide)
        right = right if op == 0x0FAF else one.immediate
        value = None if left is None or right is None else left * right
        return put(replace(state, flags=None), one, one.reg, value, one.wide)
    if op in (0xFE, 0xFF):
        return _count(state, one)
    if op in (0xF6, 0xF7):
        return _unary(state, one)
    if 0x90 <= op <= 0x97:
        return _swap(state, one)
    if op in (0x98, 0x99):
        return state.forget((RAX, RDX))
    if op in (0xF5, 0xF8, 0xF9):  # the carry alone
        return replace(state, flags=None)
    if op == 0x0FA3 or (op == 0x0FBA and one.reg & 7 == 4):
        return _bit_test(state, one)
    if op in (0xA4, 0xA5, 0xAA, 0xAB):  # a block; on the stack, too
        state = state.does(Act("write", state.pc, None, "stos"))
        return replace(state, stack=frozenset()).forget((RCX, RSI, RDI))
    if op == 0x0F01 and one.memory is not None and one.reg & 7 == 7:
        if one.percpu:
            return state.does(Act("flush", state.pc, None, "invlpg"))
        return state.does(Act("flush", state.pc, address_of(state, one), "invlpg"))
    if op == 0x0F3882:  # INVPCID: of its types 2 alone covers global entries, as the kernel's are
        value = ALL if state.get(one.reg) == _EVERYTHING else None
        return state.does(Act("flush", state.pc, value, "invpcid"))
    form = (one.reg & 7, one.rm) if op == 0x0F01 and one.memory is None else None
    if op == 0x0F22 or form in _INVLPG_BY_REGISTER:
        # What a control register invalidates depends on what it held, and on PCID.
        return state.does(Act("flush", state.pc, None, "mov to cr" if op == 0x0F22 else "invlpgb"))
    if op == 0x0F05 or form in _HYPERCALLS:
        return replace(state.does(Act("call", state.pc)), flags=None).forget(_CALLERS)
    if op in _OPAQUE:
        state = write(replace(state, flags=None), one, None, _width(one), "xchg")
        return state.forget({RAX, RDX} if op in _NO_REG else {RAX, RDX, one.reg})
    return _lost_track(state, one)


def _bit_test(state: State, one: Instruction) -> State:
    """BT: the bit becomes the carry."""
    at = one.immediate if one.opcode == 0x0FBA else get(state, one.reg, one.wide)
    value = read(state, one, one.wide)
    if one.memory is not None or at is None or value is None:
        return replace(state, flags=None)
    return replace(state, flags=(None, None, bool(value >> at % (8 * one.wide) & 1), None))


def _swap(state: State, one: Instruction) -> State:
    """XCHG with RAX; NOP is that of RAX with itself, and changes nothing."""
    if one.rm == RAX:
        return state
    mine, other = get(state, RAX, one.wide), get(state, one.rm, one.wide)
    return put(put(state, one, RAX, other, one.wide), one, one.rm, mine, one.wide)


def _width(one: Instruction) -> int:
    """Return how many bytes an instruction of `_OPAQUE` writes."""
    return 1 if one.opcode in (0x0FB0, 0x0FC0, 0x86, 0xC0, 0xD0, 0xD2) else one.wide


def _lost_track(state: State, one: Instruction) -> State:
    """An instruction that is not modelled may write anything."""
    state = state.does(Act("write", state.pc, None, f"opcode {one.opcode:x}"))
    kept = state.get(RSP)
    return replace(state.forget(range(16)).put(RSP, kept), flags=None)


def _result(state: State, kind: int, a: Value, b: Value, wide: int) -> tuple[Value, State]:
    """What ADD, OR, ADC, SBB, AND, SUB, XOR or CMP (0 to 7) makes of two operands."""
    bits = 8 * wide
    full = (1 << bits) - 1
    if kind == 4 and 0 in (a, b):
        a = b = 0
    if a is None or b is None or kind in (2, 3):
        return None, replace(state, flags=None)
    a, b = a & full, b & full
    carry = over = False
    if kind == 0:
        value = a + b
        carry, value = value > full, value & full
        over = signed(a, bits) + signed(b, bits) != signed(value, bits)
    elif kind in (5, 7):
        value, carry = a - b & full, a < b
        over = signed(a, bits) - signed(b, bits) != signed(value, bits)
    else:
        value = a | b if kind == 1 else a & b if kind == 4 else a ^ b
    flags = (value == 0, bool(value >> (bits - 1)), carry, over)
    return value, replace(state, flags=flags)


def _arithmetic(state: State, one: Instruction) -> State:
    op = one.opcode
    wide = one.wide if op & 1 else 1
    if op in (0x84, 0x85, 0xA8, 0xA9):
        if op >= 0xA8:
            return _result(state, 4, get(state, RAX, wide), one.immediate, wide)[1]
        mine, other = byte(state, one, one.reg, wide), read(state, one, wide)
        return _result(state, 4, mine, other, wide)[1]
    if op >= 0x80:
        wide = 1 if op == 0x80 else one.wide
        kind, right = one.reg & 7, one.immediate
        value, state = _result(state, kind, read(state, one, wide), right, wide)
        return state if kind == 7 else write(state, one, value, wide, "and")
    kind, form = op >> 3, op & 7
    if form >= 4:
        value, state = _result(state, kind, get(state, RAX, wide), one.immediate, wide)
        return state if kind == 7 else put(state, one, RAX, value, wide)
    mine, other = byte(state, one, one.reg, wide), read(state, one, wide)
    if kind in (5, 6) and one.memory is None and one.reg == one.rm and wide >= 4:
        mine = other = 0  # SUB or XOR of a register with itself
    left, right_ = (mine, other) if form & 2 else (other, mine)
    value, state = _result(state, kind, left, right_, wide)
    if kind == 7:
        return state
    if form & 2:
        return put(state, one, one.reg, value, wide)
    return write(state, one, value, wide, "and")


def _move(state: State, one: Instruction) -> State:
    op = one.opcode
    if 0xB0 <= op < 0xC0:
        return put(state, one, one.rm, one.immediate, one.wide if op >= 0xB8 else 1)
    if op == 0x8D:
        value = None if one.memory is None else address_of(state, one)
        return put(state, one, one.reg, value, one.wide)
    if op in (0xC6, 0xC7):
        return write(state, one, one.immediate, one.wide if op & 1 else 1)
    wide = one.wide if op & 1 else 1
    if op & 2:
        return put(state, one, one.reg, read(state, one, wide), wide)
    return write(state, one, byte(state, one, one.reg, wide), wide)


def _stack(state: State, one: Instruction) -> State:
    """PUSH, POP and LEAVE; of the flags nothing is known behind POPF."""
    op, top = one.opcode, state.get(RSP)
    if op == 0xC9:
        frame = state.get(RBP)
        state = state.put(RBP, state.load(frame))
        return state.put(RSP, None if frame is None else frame + 8)
    if 0x58 <= op <= 0x5F or op in (0x8F, 0x9D):
        value = state.load(top)
        state = state.put(RSP, None if top is None else top + 8)
        if op == 0x8F:  # Its address is that behind the step of the stack pointer.
            return write(state, one, value, 8, "pop")
        return replace(state, flags=None) if op == 0x9D else state.put(one.rm, value)
    value = state.get(one.rm) if op <= 0x57 else one.immediate if op != 0x9C else None
    below = None if top is None else top - 8 & WORD
    return state.put(RSP, below).store(below, value, 8, "push")


def _extend(state: State, one: Instruction) -> State:
    """MOVZX, MOVSX and MOVSXD."""
    op = one.opcode
    narrow = 4 if op == 0x63 else 1 << (op & 1)
    value = read(state, one, narrow)
    if value is not None and op in (0x63, 0x0FBE, 0x0FBF):
        value = signed(value, 8 * narrow) & WORD
    return put(state, one, one.reg, value, one.wide)


def _shift(state: State, one: Instruction) -> State:
    """SHL, SHR and SAR by a constant; rotations are not followed."""
    kind, bits = one.reg & 7, 8 * one.wide
    count = 1 if one.opcode == 0xD1 else one.immediate & (63 if bits == 64 else 31)
    old = read(state, one, one.wide)
    if old is None or kind < 4:
        return write(replace(state, flags=None), one, None, one.wide, "shl")
    if count == 0:
        return write(state, one, old, one.wide, "shl")
    full = signed(old, bits) if kind == 7 else old
    value = old << count if kind in (4, 6) else full >> count
    out = bool(value >> bits & 1 if kind in (4, 6) else full >> count - 1 & 1)
    value &= (1 << bits) - 1
    flags = (value == 0, bool(value >> bits - 1), out, None)
    return write(replace(state, flags=flags), one, value, one.wide, "shl")


def _count(state: State, one: Instruction) -> State:
    """INC, DEC and PUSH of what ModRM names."""
    kind, wide = one.reg & 7, one.wide if one.opcode & 1 else 1
    if kind == 6:
        top = state.get(RSP)
        below = None if top is None else top - 8 & WORD
        return state.put(RSP, below).store(below, read(state, one, 8), 8, "push")
    if kind > 1:
        raise Lost("no instruction", state.pc)
    value, behind = _result(state, (0, 5)[kind], read(state, one, wide), 1, wide)
    if behind.flags:  # all but the carry
        zero, sign, _, over = behind.flags
        carry = state.flags[_CARRY] if state.flags else None
        behind = replace(behind, flags=(zero, sign, carry, over))
    return write(behind, one, value, wide, "inc")


def _unary(state: State, one: Instruction) -> State:
    """TEST, NOT and NEG; what multiplies and divides leaves RAX and RDX unknown."""
    kind, wide = one.reg & 7, one.wide if one.opcode & 1 else 1
    value = read(state, one, wide)
    if kind < 2:
        return _result(state, 4, value, one.immediate, wide)[1]
    if kind == 2:
        return write(state, one, None if value is None else ~value, wide, "not")
    if kind == 3:
        value, state = _result(state, 5, 0, value, wide)
        return write(state, one, value, wide, "neg")
    return replace(state, flags=None).forget((RAX, RDX))
