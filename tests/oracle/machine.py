# SPDX-License-Identifier: Apache-2.0
"""The machine: one page table, a TLB per CPU, and everything that they may do.

A TLB cell (one CPU, one slot) is kept as the set of what it can contain. It may always be
empty (entries are evicted at will) and may be filled at any instant at which the translation
is live, so a set says exactly what some choice of fills and evictions reaches, and the cells
do not depend on each other. `counterexample` makes the choices one by one instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from .protocol import Op, Protocol

UNKNOWN = "?"  # a frame from before the trace
Program = tuple[tuple[Op, ...], ...]  # of each CPU, in its order
Entry = tuple[str, int]  # a frame and the CPU that mapped it


class Memory(NamedTuple):
    """`pt`: per slot what is mapped; `tlb`: per CPU, per slot, what may be cached."""

    pt: tuple[Entry | None, ...]
    tlb: tuple[tuple[frozenset[Entry], ...], ...]

    def stale(self, cpu: int, slot: int) -> set[Entry]:
        """The entries of another frame that an access by *cpu* may use."""
        live = self.pt[slot]
        assert live is not None, "a CPU reads inside its own hold only"
        return {entry for entry in self.tlb[cpu][slot] if entry[0] != live[0]}


def boot(cpus: int, slots: int, unknown: bool) -> Memory:
    """Nothing is mapped; each TLB is empty or, if *unknown*, may hold a frame from before."""
    cell: frozenset[Entry] = frozenset({(UNKNOWN, -1)} if unknown else ())
    return Memory((None,) * slots, ((cell,) * slots,) * cpus)


def micro_steps(op: Op, protocol: Protocol, cpus: int) -> tuple[tuple[str, int], ...]:
    """The effects of *op*, one after the other: what, and on which CPU's TLB."""
    everybody = tuple(("invalidate", cpu) for cpu in range(cpus))
    effects: dict[str, tuple[tuple[str, int], ...]] = {
        "map": (("set", op.cpu),),
        "flush": (("invalidate", op.cpu),),
        "read": (("access", op.cpu),),
        "unmap": (("clear", op.cpu), *(everybody if protocol.on_unmap == "implied" else ())),
        "bcast": everybody,
        "luck": (("luck", op.cpu),),
    }
    return effects.get(op.what, ())


def apply(memory: Memory, op: Op, what: str, target: int) -> Memory:
    """The memory after one effect of *op*."""
    pt, tlb = list(memory.pt), [list(cells) for cells in memory.tlb]
    slot = op.slot
    if what == "set":
        pt[slot] = (op.frame, op.cpu)
        for cells in tlb:  # whoever wants can load it from now on
            cells[slot] |= {pt[slot]}
    elif what == "clear":
        pt[slot] = None
    elif what == "invalidate":
        tlb[target][slot] = frozenset({pt[slot]} if pt[slot] else ())
    elif what == "luck":
        # What a CPU held before the trace counts as gone only after an invalidation that the
        # code always does (DESIGN.md, "Losses"): luck leaves it.
        for at, cell in enumerate(tlb[target]):
            kept = {entry for entry in cell if entry[0] == UNKNOWN}
            tlb[target][at] = frozenset(kept | ({pt[at]} if pt[at] else set()))
    return Memory(tuple(pt), tuple(map(tuple, tlb)))


class Seen(NamedTuple):
    """One access of a trace: where, and whether it may be stale.

    `stale`: yes, no, or maybe if that depends on when, after their stamps, effects happened.
    `unknown`: it may use what its CPU held before the trace.
    """

    cpu: int
    slot: int
    stale: str
    unknown: bool


class _World(NamedTuple):
    """One way in which a trace can have gone so far.

    `pending`: number in the trace, operation and effects still to come.
    `answers`: for each access its number, whether it is stale, whether it may be unknown.
    """

    memory: Memory
    pending: tuple[tuple[int, Op, tuple[tuple[str, int], ...]], ...] = ()
    answers: tuple[tuple[int, bool, bool], ...] = ()


RANK = {"task": 0, "irq": 1, "nmi": 2}


def _due(pending: Op, op: Op) -> bool:
    """Whether *op* proves that the effect of *pending* has happened.

    The CPU went on in that context or in one that it had interrupted; or another hold of the
    slot begins, so that the lock was released.
    """
    went_on = pending.cpu == op.cpu and RANK[pending.ctx] >= RANK[op.ctx]
    released = op.what == "map" and bool(pending.hold) and pending.slot == op.slot
    return went_on or released


def _settle(worlds: set[_World]) -> set[_World]:
    """All worlds that these can become before the next event: pending effects, in any order.

    An effect's interval is that of DESIGN.md, "Order", and no finer: that a context stands
    still while a handler interrupts it is not used.
    """
    found, todo = set(worlds), list(worlds)
    while todo:
        world = todo.pop()
        for at, (number, op, steps) in enumerate(world.pending):
            (what, target), rest = steps[0], steps[1:]
            left = ((number, op, rest),) if rest else ()
            answers = world.answers
            if what == "access":
                frames = {frame for frame, _ in world.memory.stale(op.cpu, op.slot)}
                answers = (*answers, (number, bool(frames - {UNKNOWN}), UNKNOWN in frames))
            new = _World(
                apply(world.memory, op, what, target),
                world.pending[:at] + left + world.pending[at + 1 :],
                answers,
            )
            if new not in found:
                found.add(new)
                todo.append(new)
    return found


def replay(
    trace: Sequence[Op], protocol: Protocol, cpus: int, slots: int, unknown: bool = True
) -> list[Seen]:
    """What each access of *trace* may see, over every fill and every moment of each effect.

    An effect happens after its stamp and before what `_due` says.
    """
    worlds = {_World(boot(cpus, slots, unknown))}
    for number, op in enumerate(trace):
        worlds = _settle(worlds)
        worlds = {w for w in worlds if not any(_due(p, op) for _, p, _ in w.pending)}
        if steps := micro_steps(op, protocol, cpus):
            worlds = {w._replace(pending=(*w.pending, (number, op, steps))) for w in worlds}
    worlds = {w for w in _settle(worlds) if not w.pending}
    assert worlds, "some execution explains every trace"
    answers = [{number: rest for number, *rest in w.answers} for w in worlds]
    seen = []
    for number in sorted(answers[0]):
        stale = {a[number][0] for a in answers}
        word = "maybe" if len(stale) == 2 else "yes" if True in stale else "no"
        op = trace[number]
        seen.append(Seen(op.cpu, op.slot, word, any(a[number][1] for a in answers)))
    return seen


class Stale(NamedTuple):
    """A stale access: *y* reads *slot* where *q* is mapped, through *x*'s old entry of *p*."""

    x: int
    y: int
    slot: int
    p: str
    q: str


def reachable(program: Program, protocol: Protocol, slots: int) -> frozenset[Stale]:
    """Every stale access that some order of the holds of *program* reaches.

    All interleavings of the CPUs are explored; the slots' locks keep holds whole. An effect
    comes with its stamp: inside a hold nobody can tell, and luck stays where it was.
    """
    runs = tuple(tuple(op for op in ops if op.memory) for ops in program)
    last = {op.hold: (cpu, at) for cpu, ops in enumerate(runs) for at, op in enumerate(ops)}
    found: set[Stale] = set()
    start = ((0,) * len(runs), ("",) * slots, boot(len(runs), slots, False))
    known, todo = {start}, [start]
    while todo:
        positions, owners, memory = todo.pop()
        for cpu, ops in enumerate(runs):
            at = positions[cpu]
            if at == len(ops):
                continue
            op, after = ops[at], memory
            if op.hold and owners[op.slot] not in ("", op.hold):
                continue
            if op.what == "read":
                live = memory.pt[op.slot]
                assert live is not None
                for frame, x in memory.stale(cpu, op.slot):
                    found.add(Stale(x, cpu, op.slot, frame, live[0]))
            for what, target in micro_steps(op, protocol, len(runs)):
                after = apply(after, op, what, target)
            held = list(owners)
            if op.hold:
                held[op.slot] = "" if last[op.hold] == (cpu, at) else op.hold
            state = ((*positions[:cpu], at + 1, *positions[cpu + 1 :]), tuple(held), after)
            if state not in known:
                known.add(state)
                todo.append(state)
    return frozenset(found)


def counterexample(program: Program, protocol: Protocol) -> list[tuple[Op, str]] | None:
    """The shortest run of *program* that ends in a stale access, or None. One slot.

    Here each TLB really holds one entry or none, and a fill is a step of its own: returned as
    (operation of the CPU, "fill"), every other step with "".
    """
    last = {op.hold: (c, i) for c, ops in enumerate(program) for i, op in enumerate(ops)}
    State = tuple[tuple[int, ...], str, Entry | None, tuple[Entry | None, ...]]
    start: State = ((0,) * len(program), "", None, (None,) * len(program))
    came: dict[State, tuple[State, tuple[Op, str]] | None] = {start: None}
    todo = deque([start])

    def path(state: State) -> list[tuple[Op, str]]:
        back = came[state]
        return [*path(back[0]), back[1]] if back else []

    while todo:
        state = todo.popleft()
        positions, owner, live, tlb = state
        steps: list[tuple[State, tuple[Op, str]]] = []
        for cpu, ops in enumerate(program):
            if live and tlb[cpu] is None:
                filled = (positions, owner, live, (*tlb[:cpu], live, *tlb[cpu + 1 :]))
                steps.append((filled, (Op(cpu, "fill", "any", frame=live[0]), "fill")))
            at = positions[cpu]
            if at == len(ops) or (ops[at].hold and owner not in ("", ops[at].hold)):
                continue
            op, now, cached = ops[at], live, list(tlb)
            if op.what == "read" and cached[cpu] and live and cached[cpu][0] != live[0]:
                return [*path(state), (op, "")]
            for what, target in micro_steps(op, protocol, len(program)):
                if what == "set":
                    now = (op.frame, cpu)
                elif what == "clear":
                    now = None
                elif what == "invalidate":
                    cached[target] = None
            mine = owner
            if op.hold:
                mine = "" if last[op.hold] == (cpu, at) else op.hold
            moved = (*positions[:cpu], at + 1, *positions[cpu + 1 :])
            steps.append(((moved, mine, now, tuple(cached)), (op, "")))
        for new, step in steps:
            if new not in came:
                came[new] = (state, step)
                todo.append(new)
    return None
