# SPDX-License-Identifier: Apache-2.0
"""This follows a function's code along every path, and notes what each path does to page tables
and TLBs.

Registers hold numbers as long as they are known: the arguments are, what memory says is not. A
branch on what is known goes one way, any other goes both. So a loop over one page runs once, and
the address that is invalidated is a number that can be compared. Nothing is run: bytes are read.
Whatever bytes there are, the answer is a list of paths or a `Lost` that says why there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

Value = int | None  # None: not known
WORD = (1 << 64) - 1
# The stack is where nothing else is, so that what is stored there is told from page tables.
STACK = 0x5AC0_0000_0000_0000
_STACK_SIZE = 1 << 16
MOST_DEPTH = 6
_MOST_STEPS, _MOST_ENDS, _MOST_ACTS = 20_000, 256, 64


class Lost(Exception):
    """The code can't be followed at the address `at` (0: as a whole); the text says why."""

    def __init__(self, why: str, at: int = 0) -> None:
        super().__init__(why)
        self.at = at


@dataclass(frozen=True, slots=True)
class Act:
    """An act is what one instruction does that matters.

    `kind` is "write" (8 bytes or more to memory that is not the stack), "call" (of what was not
    followed), "message" (a call of printk(), with which a path gives up), "trap" (a BUG() or a
    WARN(), at which a path is followed no further), "flush" (an invalidation), "barrier" (all
    before it is done behind it) or "store-barrier" (stores alone).
    A flush or a barrier is for all CPUs where `everywhere` is true. `value` is the address written
    or invalidated; None is not known, and ALL is everything. `text` is the instruction's name.
    `watched` marks a flush by a call of what has a probe of its own. `data` is what a write writes.
    """

    kind: str
    at: int
    value: Value = None
    text: str = ""
    everywhere: bool = False
    watched: bool = False
    data: Value = None


ALL = -1
_LEVELS = tuple(bytes([n]) for n in b"01234567c")
Acts = tuple[Act, ...]


@dataclass(frozen=True, slots=True)
class State:
    """A state is where a path is: registers, flags, what the stack holds, and whence it was
    called. `limit` is the number that something was just compared with, the address behind that,
    and whether it is behind the jump for more, too."""

    pc: int
    registers: tuple[Value, ...]
    flags: tuple[bool | None, ...] | None = None
    stack: frozenset[tuple[int, Value]] = frozenset()
    callers: tuple[int, ...] = ()
    acts: Acts = ()
    limit: tuple[int, int, bool] | None = None

    def get(self, number: int) -> Value:
        """Return what the register *number* holds."""
        return self.registers[number]

    def put(self, number: int, value: Value) -> State:
        """Return the state with *value* in the register *number*."""
        kept = list(self.registers)
        kept[number] = None if value is None else value & WORD
        return replace(self, registers=tuple(kept))

    def forget(self, numbers: Iterable[int]) -> State:
        """Return the state in which nobody knows what the registers *numbers* hold."""
        kept = list(self.registers)
        for number in numbers:
            kept[number] = None
        return replace(self, registers=tuple(kept))

    def does(self, act: Act) -> State:
        """Return the state behind *act*. Raises Lost if the path does too much."""
        if len(self.acts) >= _MOST_ACTS:
            raise Lost("a path does too much to follow it", act.at)
        return replace(self, acts=(*self.acts, act))

    def load(self, address: Value) -> Value:
        """Return the 8 bytes at *address*, if it is on the stack and they are known."""
        return next((value for at, value in self.stack if at == address), None)

    def lends(self, numbers: Iterable[int]) -> State:
        """Return the state behind a call that is given what the registers *numbers* hold: what lies
        on the stack from such an address on may be changed by it."""
        lent = [at for at in map(self.get, numbers) if at is not None and on_stack(at)]
        if not lent:
            return self
        kept = {(at, value) for at, value in self.stack if at + 8 <= min(lent)}
        return replace(self, stack=frozenset(kept))

    def store(self, address: Value, value: Value, size: int, text: str) -> State:
        """Return the state behind a store of *size* bytes."""
        if address is None:
            return self.does(Act("write", self.pc, None, text, data=value)) if size >= 8 else self
        if on_stack(address):
            kept = {(at, v) for at, v in self.stack if at + 8 <= address or address + size <= at}
            if size == 8:
                kept.add((address, value))
            return replace(self, stack=frozenset(kept))
        return self.does(Act("write", self.pc, address, text, data=value)) if size >= 8 else self


def on_stack(address: int) -> bool:
    """Say whether *address* is on the stack.

    >>> on_stack(STACK - 8), on_stack(0xffff800082411000)
    (True, False)
    """
    return abs(address - STACK) < _STACK_SIZE


class Reader(Protocol):
    """A reader has the kernel's bytes (host/code.py)."""

    def read(self, address: int, size: int) -> bytes:
        """Return up to *size* bytes at *address*, fewer or none where it has no more."""
        ...


@dataclass(slots=True)
class Surroundings:
    """What is known around a function: the bytes, the functions that are followed into, those
    whose call is the invalidation of their first argument, and whether the tables of switches are
    read and a jump to another function is a call of it."""

    code: Reader
    through: frozenset[int] = frozenset()
    flushes: dict[int, str] = field(default_factory=dict)
    tables: bool = False


Step = Callable[[State, Surroundings], tuple[State, ...]]


def ends(start: State, around: Surroundings, step: Step) -> list[Acts]:
    """Return what each path from *start* to a return does, once each.

    A path that ends in a trap (BUG) returns nowhere. *step* takes a state to the next ones; a
    return is a state with the address 0. Raises Lost.
    """
    found: dict[Acts, None] = {}
    seen: set[State] = set()
    open_ = [start]
    steps = 0
    while open_:
        state = open_.pop()
        if state.pc == 0:
            found[state.acts] = None
            if len(found) > _MOST_ENDS:
                raise Lost("it has too many paths to follow")
            continue
        if state in seen:
            continue
        seen.add(state)
        steps += 1
        if steps > _MOST_STEPS:
            raise Lost("it is too long to follow")
        open_ += step(state, around)
    return list(found)


def returned(state: State) -> State:
    """Return the state behind the return of a function."""
    if state.callers:
        return replace(state, pc=state.callers[-1], callers=state.callers[:-1])
    return replace(state, pc=0)


def trapped(state: State) -> tuple[State, ...]:
    """Return the states behind a trap. Behind BUG() there is none, but a WARN() goes on, and they
    are one instruction: a path that wrote and has not invalidated yet may, or may not."""
    last = next((act for act in reversed(state.acts) if act.kind in ("write", "flush")), None)
    if last is None or last.kind == "flush":
        return ()
    return (replace(state.does(Act("trap", state.pc)), pc=0),)


def is_message(around: Surroundings, address: Value) -> bool:
    """Say whether the text at *address* is one for printk(): it begins with a log level
    (include/linux/kern_levels.h). What is called with it prints, and edits no page table."""
    if address is None or on_stack(address):
        return False
    head = around.code.read(address, 2)
    return head[:1] == b"\x01" and head[1:] in _LEVELS


def signed(value: int, bits: int) -> int:
    """Return the two's complement number of *bits* bits.

    >>> signed(0xff, 8)
    -1
    """
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
