# SPDX-License-Identifier: Apache-2.0
"""One step of arm64 code: what the kernel's compilers make of page-table edits, by the numbers of
the Arm Architecture Reference Manual (C4.1). What is not known here leaves its register unknown.
"""

from __future__ import annotations

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
    returned,
    signed,
    trapped,
)

SP, ZERO = 31, 32  # registers 0 to 30, the stack pointer, and what is always 0
_PUSH = 0xF800_865E  # STR X30, [X18], #8: to the shadow call stack, which is no PTE
_KPROBE_BRK = 4  # arch/arm64/include/asm/brk-imm.h: KPROBES_BRK_IMM
# CRm of TLBI: who is told. Ranges (RVA...) have others, and are not read.
_LOCAL, _INNER, _OUTER = 7, 3, 1
_SCOPE = {_LOCAL: "", _INNER: "is", _OUTER: "os"}
_TLBI = {0: "vmalle1", 1: "vae1", 2: "aside1", 3: "vaae1", 5: "vale1", 7: "vaale1"}
_PAGE_LEVEL = 3
_DSB_DONE, _DSB_STORES = {0b0011, 0b1011, 0b1111}, {0b0010, 0b1010, 0b1110}  # osh, ish, sy
_DSB_LOCAL, _DSB_LOCAL_STORES = 0b0111, 0b0110  # nsh
_LEAF = 24  # instructions
_MSR_NZCV, _DC_ZVA = 0xD51B_4200, 0xD50B_7420
_RET, _RET_SIGNED = 0xD65F_0000, 0xD65F_0BFF


def entry(address: int, arguments: dict[int, Value]) -> State:
    """Return the state at a function's entry, with *arguments* by number (from 1)."""
    registers: list[Value] = [None] * 33
    registers[SP], registers[ZERO], registers[30] = STACK, 0, None
    for number, value in arguments.items():
        registers[number - 1] = value
    return State(address, tuple(registers))


def step(state: State, around: Surroundings) -> tuple[State, ...]:
    """Return the states behind the instruction at *state*; none behind a trap. Raises Lost."""
    raw = around.code.read(state.pc, 4)
    if len(raw) < 4:
        raise Lost("the code can't be read", state.pc)
    word = int.from_bytes(raw, "little")
    group = word >> 25 & 0xF
    if group & 0b1110 == 0b1000:
        return (_next(_immediate(state, word)),)
    if group & 0b1110 == 0b1010:
        return _branch(state, word, around)
    if group & 0b0101 == 0b0100:
        return (_next(_memory(state, word)),)
    if group & 0b0111 == 0b0101:
        return (_next(_register(state, word)),)
    if group & 0b0111 == 0b0111:  # SIMD and floating point: no general register but Rd
        return (_next(_unknown(state, word)),)
    raise Lost(f"no instruction is {word:08x}", state.pc)


def _next(state: State) -> State:
    return replace(state, pc=state.pc + 4)


def _field(word: int, high: int, low: int) -> int:
    return word >> low & ((1 << (high - low + 1)) - 1)


def _plain(number: int) -> int:
    return ZERO if number == 31 else number


def _put(state: State, number: int, value: Value, wide: int) -> State:
    if number == ZERO:
        return state
    return state.put(number, value if value is None or wide else value & 0xFFFF_FFFF)


def _unknown(state: State, word: int) -> State:
    """An instruction that is not modelled: its destination is unknown, and so are the flags."""
    return replace(_put(state, _plain(word & 31), None, 1), flags=None)


def _add(a: Value, b: Value, wide: int, carry: int) -> tuple[Value, tuple[bool, ...] | None]:
    """AddWithCarry of the manual."""
    if a is None or b is None:
        return None, None
    bits = 64 if wide else 32
    mask = (1 << bits) - 1
    a, b = a & mask, b & mask
    total = a + b + carry
    result = total & mask
    negative = bool(result >> (bits - 1))
    overflow = signed(a, bits) + signed(b, bits) + carry != signed(result, bits)
    return result, (negative, result == 0, total > mask, overflow)


def _arithmetic(state: State, word: int, left: Value, right: Value, target: int) -> State:
    wide = word >> 31
    if word >> 30 & 1:
        result, flags = _add(left, None if right is None else ~right, wide, 1)
    else:
        result, flags = _add(left, right, wide, 0)
    if word >> 29 & 1:
        state = replace(state, flags=flags)
    return _put(state, target, result, wide)


def _logic(state: State, word: int, left: Value, right: Value, target: int) -> State:
    wide, kind = word >> 31, _field(word, 30, 29)
    result: Value
    if kind in (0, 3) and 0 in (left, right):
        result = 0
    elif left is None or right is None:
        result = None
    else:
        result = (left & right, left | right, left ^ right, left & right)[kind]
        result &= WORD if wide else 0xFFFF_FFFF
    if kind == 3:
        bit = 63 if wide else 31
        known = result is not None
        flags = (bool(result >> bit), result == 0, False, False) if result is not None else None
        state = replace(state, flags=flags if known else None)
    return _put(state, target, result, wide)


def _masks(word: int) -> tuple[int, int] | None:
    """DecodeBitMasks of the manual: (wmask, tmask), or None for what is no instruction."""
    n, immr, imms = _field(word, 22, 22), _field(word, 21, 16), _field(word, 15, 10)
    length = (n << 6 | (~imms & 0x3F)).bit_length() - 1
    if length < 1:
        return None
    size, levels = 1 << length, (1 << length) - 1
    s, r = imms & levels, immr & levels
    ones = (1 << (s + 1)) - 1
    turned = (ones >> r | ones << (size - r)) & ((1 << size) - 1) if r else ones
    d = (s - r) & levels
    low = (1 << (d + 1)) - 1
    times = sum(1 << (size * i) for i in range(64 // size))
    return turned * times, low * times


def _immediate(state: State, word: int) -> State:
    wide, target = word >> 31, word & 31
    kind = _field(word, 25, 23)
    if kind in (0, 1):  # ADR, ADRP
        offset = signed(_field(word, 23, 5) << 2 | _field(word, 30, 29), 21)
        where = (state.pc & ~0xFFF) + (offset << 12) if wide else state.pc + offset
        return _put(state, _plain(target), where & WORD, 1)
    source = _field(word, 9, 5)
    if kind == 2:  # ADD, SUB: register 31 is the stack pointer, but as a destination with flags
        number = _field(word, 21, 10) << (12 * _field(word, 22, 22))
        goal = _plain(target) if word >> 29 & 1 else target
        return _arithmetic(state, word, state.get(source), number, goal)
    if kind == 4:
        masks = _masks(word)
        if masks is None:
            return _unknown(state, word)
        goal = _plain(target) if _field(word, 30, 29) == 3 else target
        return _logic(state, word, state.get(_plain(source)), masks[0], goal)
    if kind == 5:
        return _move(state, word)
    if kind == 6:
        return _bits(state, word)
    return _unknown(state, word)


def _move(state: State, word: int) -> State:
    wide, target, shift = word >> 31, _plain(word & 31), 16 * _field(word, 22, 21)
    number, kind = _field(word, 20, 5) << shift, _field(word, 30, 29)
    if kind == 0:
        return _put(state, target, ~number & WORD, wide)
    if kind == 2:
        return _put(state, target, number, wide)
    old = state.get(target)
    if kind == 3 and old is not None:
        return _put(state, target, old & ~(0xFFFF << shift) | number, wide)
    return _put(state, target, None, wide)


def _bits(state: State, word: int) -> State:
    """SBFM, BFM and UBFM: shifts and bit fields by a constant."""
    wide, kind, target = word >> 31, _field(word, 30, 29), _plain(word & 31)
    masks = _masks(word)
    value, old = state.get(_plain(_field(word, 9, 5))), 0 if kind != 1 else state.get(target)
    if masks is None or value is None or old is None or kind == 3:
        return _put(state, target, None, wide)
    bits = 64 if wide else 32
    full = (1 << bits) - 1
    r, s = _field(word, 21, 16), _field(word, 15, 10)
    value &= full
    rotated = (value >> r | value << (bits - r)) & full if r else value
    wmask, tmask = masks[0] & full, masks[1] & full
    bottom = old & ~wmask | rotated & wmask
    top = old if kind == 1 else (full if kind == 0 and value >> s & 1 else 0)
    return _put(state, target, (top & ~tmask | bottom & tmask) & full, wide)


def _shifted(value: Value, kind: int, amount: int, bits: int) -> Value:
    if value is None:
        return None
    full = (1 << bits) - 1
    value &= full
    if kind == 0:
        return value << amount & full
    if kind == 1:
        return value >> amount
    if kind == 2:
        return signed(value, bits) >> amount & full
    return (value >> amount | value << (bits - amount)) & full if amount else value


def _extended(value: Value, option: int, amount: int) -> Value:
    if value is None:
        return None
    bits = 8 << (option & 3)
    part = signed(value, bits) if option & 4 else value & ((1 << bits) - 1)
    return part << amount & WORD


def _register(state: State, word: int) -> State:
    wide, target = word >> 31, _plain(word & 31)
    bits = 64 if wide else 32
    source, other = _field(word, 9, 5), _field(word, 20, 16)
    left, right = state.get(_plain(source)), state.get(_plain(other))
    kind = _field(word, 28, 24)
    if kind in (0b01010, 0b01011) and not (kind == 0b01011 and word >> 21 & 1):
        moved = _shifted(right, _field(word, 23, 22), _field(word, 15, 10), bits)
        if kind == 0b01011:
            return _arithmetic(state, word, left, moved, target)
        if word >> 21 & 1 and moved is not None:
            moved = ~moved & ((1 << bits) - 1)
        return _logic(state, word, left, moved, target)
    if kind == 0b01011:
        moved = _extended(right, _field(word, 15, 13), _field(word, 12, 10))
        goal = target if word >> 29 & 1 else word & 31
        return _arithmetic(state, word, state.get(source), moved, goal)
    if _field(word, 28, 21) == 0b11010100 and not word >> 29 & 1:
        return _select(state, word, left, right, target)
    if _field(word, 28, 21) == 0b11010010 and word >> 29 & 1 and not word >> 4 & 1:
        return _compare(state, word, left, other if word >> 11 & 1 else right)
    if _field(word, 30, 21) == 0b0011010110 and _field(word, 15, 12) == 0b0010:
        amount = None if right is None else right % bits
        moved = None if amount is None else _shifted(left, _field(word, 11, 10), amount, bits)
        return _put(state, target, moved, wide)
    return _unknown(state, word)


def _compare(state: State, word: int, left: Value, right: Value) -> State:
    """CCMP and CCMN: they compare if a condition holds, else the flags are a number."""
    holds = _holds(state, _field(word, 15, 12))
    if holds is None:
        return replace(state, flags=None)
    if holds:
        return _arithmetic(state, word, left, right, ZERO)
    return replace(state, flags=tuple(bool(word >> bit & 1) for bit in (3, 2, 1, 0)))


def _select(state: State, word: int, left: Value, right: Value, target: int) -> State:
    """CSEL and its kin."""
    holds = _holds(state, _field(word, 15, 12))
    if right is not None and word >> 30 & 1:
        right = ~right
    if right is not None and word >> 10 & 1:
        right = right + 1 & WORD
    if holds is None:
        return _put(state, target, left if left == right else None, word >> 31)
    return _put(
        state, target, left if holds else None if right is None else right & WORD, word >> 31
    )


def _holds(state: State, condition: int) -> bool | None:
    if condition >= 14:
        return True
    if state.flags is None:
        return None
    n, z, c, v = state.flags
    found = (z, c, n, v, c and not z, n == v, n == v and not z)[condition >> 1]
    return found != bool(condition & 1)


def _memory(state: State, word: int) -> State:
    kind = _field(word, 29, 28)
    vector = word >> 26 & 1
    target, base = word & 31, _field(word, 9, 5)
    if word == _PUSH:
        return state.forget({base})
    if kind == 1 and word >> 24 & 1:  # ordered with an offset, tags, and blocks
        state = state.does(Act("write", state.pc, None, "stlur"))
        return replace(state.forget(range(31)), stack=frozenset())
    if kind == 1:  # a literal
        return state if vector else _put(state, _plain(target), None, 1)
    if kind == 2:
        return _pair(state, word)
    size = 1 << _field(word, 31, 30)
    if kind == 0:  # exclusive and ordered, CAS
        state = _put(state, _plain(_field(word, 20, 16)), None, 1)
        load = word >> 22 & 1
        if load:
            state = state.forget({_plain(target), _plain(_field(word, 14, 10))} - {ZERO})
        if not load or word >> 21 & 1:
            state = _store(state, state.get(base), None, size)
        return state
    size = 16 if vector else size
    return _single(state, word, base, target, size)


def _single(state: State, word: int, base: int, target: int, size: int) -> State:
    vector, kind = word >> 26 & 1, _field(word, 23, 22)
    at, behind = state.get(base), None
    if word >> 24 & 1:
        at = None if at is None else at + _field(word, 21, 10) * size & WORD
    elif not word >> 21 & 1:
        offset, form = signed(_field(word, 20, 12), 9), _field(word, 11, 10)
        moved = None if at is None else at + offset & WORD
        behind = (moved,) if form in (1, 3) else None
        at = at if form == 1 else moved
    elif _field(word, 11, 10) == 2:
        shift = (size.bit_length() - 1) * (word >> 12 & 1)
        index = _extended(state.get(_plain(_field(word, 20, 16))), _field(word, 15, 13), shift)
        at = None if at is None or index is None else at + index & WORD
    else:  # atomics, and loads with an authenticated pointer
        state = state.forget({_plain(target), base} - {ZERO, SP})
        return _store(state, at, None, size)
    if kind == 0 or (vector and kind == 2):
        value = None if vector else state.get(_plain(target))
        state = _store(state, at, value, size)
    elif not vector and not (size == 8 and kind == 2):
        value = state.load(at) if size == 8 else None
        state = _put(state, _plain(target), value, 1)
    return state if behind is None else state.put(base, behind[0])


def _pair(state: State, word: int) -> State:
    vector, base, form = word >> 26 & 1, _field(word, 9, 5), _field(word, 24, 23)
    scale = 2 + _field(word, 31, 30) if vector else 2 + (word >> 31)
    size = 1 << scale
    start = state.get(base)
    moved = None if start is None else start + (signed(_field(word, 21, 15), 7) << scale) & WORD
    at = start if form == 1 else moved
    for number, target in enumerate((word & 31, _field(word, 14, 10))):
        place = None if at is None else at + number * size & WORD
        if not word >> 22 & 1:
            value = None if vector else state.get(_plain(target))
            state = _store(state, place, value, size)
        elif not vector:
            state = _put(state, _plain(target), state.load(place) if size == 8 else None, 1)
    return state.put(base, moved) if form in (1, 3) else state


def _store(state: State, at: Value, value: Value, size: int) -> State:
    return state.store(at, value, size, "str")


def _branch(state: State, word: int, around: Surroundings) -> tuple[State, ...]:
    if _field(word, 30, 26) == 0b00101:
        target = state.pc + (signed(_field(word, 25, 0), 26) << 2)
        if word >> 31:
            return (_call(state, target, around),)
        if target in around.flushes:
            return (returned(_flushed(state, target, around)),)
        return (replace(state, pc=target),)
    if _field(word, 31, 24) == 0b01010100:
        target = state.pc + (signed(_field(word, 23, 5), 19) << 2)
        return _either(state, target, _holds(state, word & 15))
    if _field(word, 30, 25) == 0b011010:
        value = state.get(_plain(word & 31))
        if value is not None and not word >> 31:
            value &= 0xFFFF_FFFF
        target = state.pc + (signed(_field(word, 23, 5), 19) << 2)
        taken = None if value is None else (value != 0) == bool(word >> 24 & 1)
        return _either(state, target, taken)
    if _field(word, 30, 25) == 0b011011:
        value, bit = state.get(_plain(word & 31)), word >> 26 & 32 | _field(word, 23, 19)
        target = state.pc + (signed(_field(word, 18, 5), 14) << 2)
        taken = None if value is None else (value >> bit & 1) == (word >> 24 & 1)
        return _either(state, target, taken)
    if _field(word, 31, 25) == 0b1101011:
        kind = _field(word, 24, 21)
        if kind == 2:
            return (returned(state),)
        if kind in (1, 9):
            return (_call(state, None, around),)
        return (returned(state.does(Act("call", state.pc, None, "br"))),)
    if _field(word, 31, 24) == 0b11010100:
        return _exception(state, word)
    if _field(word, 31, 22) != 0b1101010100:
        raise Lost(f"no branch that is known is {word:08x}", state.pc)
    return (_next(_system(state, word)),)


def _either(state: State, target: int, taken: bool | None) -> tuple[State, ...]:
    ways = (replace(state, pc=target), _next(state))
    return ways if taken is None else (ways[0 if taken else 1],)


def _call(state: State, target: Value, around: Surroundings) -> State:
    """A call. A compiler reads a register behind a call only if it knows that the call leaves it
    alone, so that all but what it returns keep their values."""
    behind = _next(state)
    if target is not None and target in around.flushes:
        return _next(_flushed(state, target, around))
    deep = len(state.callers) >= MOST_DEPTH
    if target is not None and not deep and (target in around.through or _is_leaf(target, around)):
        return replace(state, pc=target, callers=(*state.callers, behind.pc))
    kind = "message" if is_message(around, state.get(0)) else "call"
    behind = behind.lends(range(8))
    return behind.does(Act(kind, state.pc, target, "bl")).forget((0, 1))


def _is_leaf(target: int, around: Surroundings) -> bool:
    """Say whether the function at *target* is short, straight and calls nothing: it is followed,
    whatever it is called."""
    for _ in range(_LEAF):
        raw = around.code.read(target, 4)
        word = int.from_bytes(raw, "little")
        if len(raw) < 4 or target in around.flushes:
            return False
        if word & 0xFFFF_FC1F == _RET or word | 1 << 10 == _RET_SIGNED | 1 << 10:
            return True
        if _field(word, 31, 26) == 0b000101:
            target += signed(_field(word, 25, 0), 26) << 2
            continue
        if _field(word, 28, 26) == 0b101 and _field(word, 31, 22) != 0b1101010100:
            return False  # A branch, a call or a trap; what is left of its group are barriers.
        target += 4
    return False


def _flushed(state: State, target: int, around: Surroundings) -> State:
    text = f"call of {around.flushes[target]}"
    act = Act("flush", state.pc, state.get(0), text, watched=True)
    return state.does(act).forget((0, 1))


def _exception(state: State, word: int) -> tuple[State, ...]:
    if word & 0xFFE0_001F == 0xD420_0000:  # BRK: BUG, or a probe in place of an instruction
        if _field(word, 20, 5) == _KPROBE_BRK:
            raise Lost("a kprobe hides an instruction", state.pc)
        return trapped(state)
    act = Act("call", state.pc, None, "hvc")
    return (_next(state.does(act)).forget(range(18)),)


def _system(state: State, word: int) -> State:
    if word & 0xFFFF_F01F == 0xD503_201F:  # hints: NOP, BTI, PACIASP
        return state
    if word & 0xFFFF_F01F == 0xD503_301F:
        return _barrier(state, _field(word, 7, 5), _field(word, 11, 8))
    if word & 0xFFF8_0000 == 0xD508_0000 and _field(word, 15, 12) in (8, 9):
        return _tlbi(state, word)
    if word >> 21 & 1:  # MRS, SYSL
        return _put(state, _plain(word & 31), None, 1)
    if word & ~31 == _MSR_NZCV:
        return replace(state, flags=None)
    if word & ~31 == _DC_ZVA:
        return state.does(Act("write", state.pc, None, "dc zva"))
    return state


def _barrier(state: State, kind: int, domain: int) -> State:
    if kind == 1 and domain in (0b0010, 0b1010, 0b1110):
        return state.does(Act("barrier", state.pc, None, "dsb nxs", True))
    if kind == 4 and domain in (_DSB_LOCAL, *_DSB_DONE):
        return state.does(Act("barrier", state.pc, None, "dsb", domain != _DSB_LOCAL))
    if kind == 4 and domain in (_DSB_LOCAL_STORES, *_DSB_STORES):
        everywhere = domain != _DSB_LOCAL_STORES
        return state.does(Act("store-barrier", state.pc, None, "dsb st", everywhere))
    return state


def _tlbi(state: State, word: int) -> State:
    domain, kind = _field(word, 11, 8), _field(word, 7, 5)
    if _field(word, 18, 16) != 0 or domain not in _SCOPE or kind not in _TLBI:
        return state.does(Act("flush", state.pc, None, "a tlbi that is not read"))
    name = f"tlbi {_TLBI[kind]}{_SCOPE[domain]}" + "nxs" * (_field(word, 15, 12) == 9)
    if kind == 2:  # by ASID: the kernel's entries are global
        return state
    value = ALL if kind == 0 else state.get(_plain(word & 31))
    if value is not None and kind != 0:
        if value >> 46 & 3 and value >> 44 & 3 != _PAGE_LEVEL:
            return state  # The level that it names (TTL) is another than a page's.
        value = signed(value & ((1 << 44) - 1), 44) << 12 & WORD
    return state.does(Act("flush", state.pc, value, name, domain != _LOCAL))
