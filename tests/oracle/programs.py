# SPDX-License-Identifier: Apache-2.0
"""Which records there are: everything that the kernel's code can make, small.

A protocol says how a page is mapped and unmapped. CPUs run handlers under the slots' locks; a
`Chooser` decides who goes on, what interrupts whom, where luck falls, and how stamps lie. All its
choices are every order (`every`), random ones are a sample (`sample`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from typing import NamedTuple

from ghesrace.events import PAGE_SIZE, Cause, Context, Kind
from ghesrace.plan import Plan, Probe, Slot

from .record import BROADCASTS, LOCAL, Ev, Loss, Record

FIRST_ADDRESS = 0xFFFFFFFFFF57B000
FIRST_FRAME = 0x70000000
ERROR = 1000  # ns
STEPS = {"far": 10_000, "near": 600, "same": 20}
KINDS = (
    Kind.NOTIFY,
    Kind.NOTIFY_END,
    Kind.MAP,
    Kind.MAP_END,
    Kind.UNMAP,
    Kind.UNMAP_END,
    Kind.COPY,
    Kind.COPY_END,
    Kind.READ,
    Kind.WRITE,
    Kind.INV_PAGE,
    Kind.INV_RANGE,
    Kind.INV_ALL,
    Kind.BCAST_RANGE,
    Kind.BCAST_ALL,
    Kind.BCAST_END,
    Kind.NMI_REF,
    Kind.EDIT,
    Kind.EDIT_END,
    Kind.SHOOTDOWN,
)


class Protocol(NamedTuple):
    """How one page is mapped and unmapped. `lock`: what the first slot's lock spans; `flush`: what
    flushes before, at and after; `implied`: what only the plan knows."""

    name: str
    lock: str
    pre: bool
    on_map: bool
    on_unmap: str  # local, broadcast, none
    implied: tuple[tuple[Kind, str], ...] = ()


PROTOCOLS = (
    Protocol("2015", "page", False, False, "local"),
    Protocol("2015, report lock", "report", False, False, "local"),
    Protocol("2015, no flush", "page", False, False, "none"),
    Protocol("2015, flush before map", "page", True, False, "local"),
    Protocol("2015, flush before map, report lock", "report", True, False, "local"),
    Protocol("2015, flush on map", "page", False, True, "local"),
    Protocol("2015, broadcast", "page", False, False, "broadcast"),
    Protocol("x86 fixmap", "report", False, True, "local"),
    Protocol(
        "x86 fixmap, implied",
        "report",
        False,
        False,
        "none",
        ((Kind.MAP, "page-after-set"), (Kind.UNMAP, "page-after-clear")),
    ),
    Protocol(
        "arm64 fixmap", "report", False, False, "none", ((Kind.UNMAP, "broadcast-after-clear"),)
    ),
)

READS = (Kind.READ, Kind.WRITE)
RETURNS = (Kind.MAP_END, Kind.UNMAP_END)
HANDLERS = (Kind.NOTIFY, Kind.NOTIFY_END)
COPIES = (Kind.COPY, Kind.COPY_END)
UNTRACED: tuple[tuple[Kind, ...], ...] = (
    (*RETURNS, *COPIES),
    RETURNS,
    (*RETURNS, *READS),
    COPIES,
    (*COPIES, *READS),
    (*HANDLERS, *RETURNS, *COPIES),
    (*HANDLERS, *RETURNS),
    READS,
)


def plan(
    protocol: Protocol,
    cpus: int,
    slots: int = 1,
    untraced: tuple[Kind, ...] = UNTRACED[0],
    error: int = ERROR,
    pti: bool = False,
) -> Plan:
    """The plan of a kernel that runs *protocol*; what is *untraced* has no probe."""
    names = ("irq", "nmi")[:slots]
    units = (protocol.lock, "report")
    probes = tuple(
        Probe(
            kind.name.lower(),
            kind.name,
            "f",
            "kprobe",
            implies=tuple(what for of, what in protocol.implied if of == kind),
        )
        for kind in KINDS
        if kind not in untraced
    )
    return Plan(
        "x86_64",
        "litmus",
        tuple(
            Slot(name, n, FIRST_ADDRESS + n * 16 * PAGE_SIZE, units[n])  # type: ignore[arg-type]
            for n, name in enumerate(names)
        ),
        probes,
        cpus=tuple(range(cpus)),
        pti=pti,
        clock_error_ns=error,
    )


def frame(letter: str) -> int:
    """The physical address (bytes) of a frame's letter."""
    return FIRST_FRAME + (ord(letter) - ord("A")) * PAGE_SIZE


class Run(NamedTuple):
    """One run of a handler: `frames` are mapped one after the other."""

    cpu: int
    ctx: Context
    slot: int
    frames: str


class Luck(NamedTuple):
    """An invalidation that has nothing to do with GHES, somewhere on *cpu*. A task is seen again
    later, which shows that its invalidation is over."""

    cpu: int
    kind: Kind
    ctx: Context
    exact: bool = False


Choose = Callable[[int], int]


@dataclass(slots=True)
class Shape:
    """What happens, but for the order."""

    plan: Plan
    protocol: Protocol
    runs: tuple[Run, ...]
    luck: tuple[Luck, ...] = ()
    step: str = "far"
    locks: bool = True  # False: a kernel whose locks do not hold.


@dataclass(slots=True, eq=False)
class _Active:
    steps: list[tuple[str, Ev | None]]
    at: int = 0


@dataclass(slots=True)
class _Kernel:
    """Runs a shape, one step after the other."""

    shape: Shape
    choose: Choose
    traced: frozenset[int]
    now: int = 1_000_000
    offset: dict[int, int] = field(default_factory=dict)
    cpus: dict[int, list[Ev]] = field(default_factory=dict)
    log: list[Ev] = field(default_factory=list)  # Everything in true order, traced or not.
    stacks: dict[int, list[_Active]] = field(default_factory=dict)
    owner: dict[int, _Active] = field(default_factory=dict)

    def run(self) -> dict[int, list[Ev]]:
        waiting: list[Run | Luck] = [*self.shape.runs, *self.shape.luck]
        for cpu in self.shape.plan.cpus:
            self.cpus[cpu], self.stacks[cpu] = [], []
        while True:
            moves = self.moves(waiting)
            if not moves:
                break
            cpu, what = moves[self.choose(len(moves)) if len(moves) > 1 else 0]
            if what is None:
                self.advance(cpu)
            else:
                waiting.remove(what)
                self.stacks[cpu].append(_Active(self.steps(what)))
                self.advance(cpu)
        return self.cpus

    def moves(self, waiting: list[Run | Luck]) -> list[tuple[int, Run | Luck | None]]:
        found: list[tuple[int, Run | Luck | None]] = []
        for cpu in self.shape.plan.cpus:
            stack = self.stacks[cpu]
            if stack and self.free(stack[-1]):
                found.append((cpu, None))
            busy = self.context(cpu)
            masked = self.shape.locks and any(a in self.owner.values() for a in stack)
            seen = set()
            for one in waiting:
                if one.cpu != cpu or isinstance(one, Run) in seen:
                    continue
                if isinstance(one, Run):
                    seen.add(True)  # The runs of one CPU start in their order.
                if busy is None or (one.ctx > busy and (one.ctx == Context.NMI or not masked)):
                    found.append((cpu, one))
        return found

    def context(self, cpu: int) -> int | None:
        stack = self.stacks[cpu]
        if not stack:
            return None
        return max(e.ctx for _, e in stack[-1].steps if e is not None)

    def free(self, active: _Active) -> bool:
        what, event = active.steps[active.at]
        return (
            what != "lock"
            or not self.shape.locks
            or self.owner.get(event.slot if event else 0) is None
        )

    def advance(self, cpu: int) -> None:
        """One traced event, and the steps around it that no probe sees."""
        stack = self.stacks[cpu]
        active = stack[-1]
        while active.at < len(active.steps) and self.free(active):
            what, event = active.steps[active.at]
            active.at += 1
            assert event is not None
            if what == "lock":
                self.owner[event.slot] = active
            elif what == "unlock":
                self.owner.pop(event.slot, None)
            else:
                self.log.append(event)
                if event.kind in self.traced:
                    self.emit(cpu, event)
                    break
        while active.at < len(active.steps) and active.steps[active.at][0] == "unlock":
            event = active.steps[active.at][1]
            active.at += 1
            self.owner.pop(event.slot if event else 0, None)
        if active.at == len(active.steps):
            stack.pop()

    def emit(self, cpu: int, event: Ev) -> None:
        self.now += STEPS[self.shape.step]
        event.ts = event.until = self.now + self.offset.get(cpu, 0)
        self.cpus[cpu].append(event)

    def steps(self, what: Run | Luck) -> list[tuple[str, Ev | None]]:
        if isinstance(what, Luck):
            event = self.event(what.cpu, what.ctx, what.kind, 0)
            if not what.exact and what.kind in (Kind.INV_RANGE, Kind.BCAST_RANGE):
                event.addr -= PAGE_SIZE
                event.size = 16 * PAGE_SIZE
            steps: list[tuple[str, Ev | None]] = [("event", event)]
            if what.kind in BROADCASTS:
                steps.append(("event", self.event(what.cpu, what.ctx, Kind.BCAST_END, 0)))
            if what.ctx == Context.TASK:
                steps.append(("event", self.event(what.cpu, what.ctx, Kind.NMI_REF, 0)))
            return steps
        return list(_handler(self, what))

    def event(self, cpu: int, ctx: int, kind: Kind, slot: int, letter: str = "") -> Ev:
        made = Ev(cpu, int(ctx), int(kind), 0, 0)
        page = self.shape.plan.slots[slot].address or 0
        if kind in (Kind.MAP, Kind.UNMAP, Kind.MAP_END, Kind.UNMAP_END, *READS):
            made.slot = slot
        if letter:
            made.frame = frame(letter)
        if kind in (Kind.INV_PAGE, Kind.INV_RANGE, Kind.BCAST_RANGE, *READS):
            made.addr = page
            made.size = {Kind.INV_PAGE: 0, Kind.READ: 4, Kind.WRITE: 4}.get(kind, PAGE_SIZE)
        if kind == Kind.COPY:
            made.size = 64
        names = [probe.kind for probe in self.shape.plan.probes]
        if kind.name in names:
            made.point = names.index(kind.name)
        return made


def _handler(kernel: _Kernel, run: Run) -> Iterator[tuple[str, Ev | None]]:
    protocol = kernel.shape.protocol
    unit = kernel.shape.plan.slots[run.slot].lock

    def event(kind: Kind, letter: str = "") -> tuple[str, Ev]:
        return "event", kernel.event(run.cpu, run.ctx, kind, run.slot, letter)

    def lock(what: str) -> tuple[str, Ev]:
        return what, Ev(run.cpu, int(run.ctx), 0, 0, 0, run.slot)

    yield event(Kind.NOTIFY)
    if unit == "report":
        yield lock("lock")
    yield event(Kind.COPY, run.frames[0])
    for letter in run.frames:
        if unit == "page":
            yield lock("lock")
        if protocol.pre:
            yield event(Kind.INV_PAGE)
        yield event(Kind.MAP, letter)
        if protocol.on_map:
            yield event(Kind.INV_PAGE)
        yield event(Kind.MAP_END)
        yield event(Kind.READ)
        yield event(Kind.UNMAP)
        if protocol.on_unmap == "local":
            yield event(Kind.INV_PAGE)
        elif protocol.on_unmap == "broadcast":
            yield event(Kind.BCAST_RANGE)
            yield event(Kind.BCAST_END)
        yield event(Kind.UNMAP_END)
        if unit == "page":
            yield lock("unlock")
    yield event(Kind.COPY_END)
    if unit == "report":
        yield lock("unlock")
    yield event(Kind.NOTIFY_END)


def made(
    shape: Shape, choose: Choose, offset: dict[int, int] | None = None
) -> tuple[Record, list[Ev]]:
    """The record of *shape* with these choices, and everything that happened in true order."""
    traced = frozenset(int(Kind[probe.kind]) for probe in shape.plan.probes)
    kernel = _Kernel(shape, choose, traced, offset=offset or {})
    return Record(shape.plan, kernel.run()), kernel.log


def small() -> Iterator[tuple[str, Record]]:
    """Every order of every small shape, with a name that finds it again."""
    for number, shape in enumerate(small_shapes()):
        for order, record in enumerate(every(shape)):
            yield f"small {number}.{order}", record


def few() -> Iterator[tuple[str, Record]]:
    """One order of every small shape: always the same."""
    for number, shape in enumerate(small_shapes()):
        yield f"few {number}", made(shape, random.Random(number).randrange)[0]


def every(shape: Shape) -> Iterator[Record]:
    """The record of *shape* in every order, each once."""
    known = set()
    for record in _orders(shape):
        events = [e for mine in record.cpus.values() for e in mine]
        order = tuple((e.cpu, e.ctx, e.kind) for e in sorted(events, key=lambda e: e.ts))
        if order not in known:
            known.add(order)
            yield record


def _orders(shape: Shape) -> Iterator[Record]:
    path: list[int] = []
    counts: list[int] = []
    while True:
        depth = 0

        def choose(count: int) -> int:
            nonlocal depth
            if depth == len(path):
                path.append(0)
                counts.append(count)
            counts[depth] = count
            depth += 1
            return path[depth - 1]

        yield made(shape, choose)[0]
        del path[depth:], counts[depth:]
        while path and path[-1] + 1 >= counts[-1]:
            path.pop()
            counts.pop()
        if not path:
            return
        path[-1] += 1


def small_shapes() -> Iterator[Shape]:
    """Up to 3 episodes on 2 CPUs and one slot: every protocol, frame choice and placement."""
    for protocol, step in product(PROTOCOLS, STEPS):
        untraced = (*RETURNS, *COPIES) if protocol.lock == "report" else RETURNS
        if protocol.lock == "page":
            untraced = (*RETURNS, *HANDLERS, Kind.COPY_END)
        base = plan(protocol, 2, 1, untraced)
        for runs in _placements(protocol):
            yield Shape(base, protocol, runs, (), step)
            if [run.frames for run in runs] == ["A", "B"] and step != "same":
                for cpu in (0, 1):
                    for luck in (
                        Luck(cpu, Kind.INV_ALL, Context.TASK),
                        Luck(cpu, Kind.INV_ALL, Context.NMI),
                        Luck(cpu, Kind.BCAST_ALL, Context.TASK),
                    ):
                        yield Shape(base, protocol, runs, (luck,), step)


def _placements(protocol: Protocol) -> Iterator[tuple[Run, ...]]:
    irq = Context.IRQ
    for frames in ("A", "AA", "AB"):
        yield (Run(0, irq, 0, frames),)
    for one, two in (("A", "A"), ("A", "B"), ("AB", "A"), ("AB", "B"), ("AB", "C"), ("A", "BA")):
        yield Run(0, irq, 0, one), Run(1, irq, 0, two)
        if len(one + two) == 2:
            yield Run(0, irq, 0, one), Run(0, irq, 0, two)
    for frames in ("AAA", "AAB", "ABA", "ABB", "ABC"):
        for cpus in ((0, 1, 0), (0, 0, 1), (0, 1, 1)):
            yield tuple(Run(cpu, irq, 0, f) for cpu, f in zip(cpus, frames, strict=True))


MOST_EVENTS = 16


def sample(seed: int) -> Record:
    """Record number *seed*: up to 4 episodes, 16 events, 3 CPUs and 2 slots."""
    return happened(seed)[0]


def happened(seed: int) -> tuple[Record, list[Ev]]:
    """Record number *seed*, and what happened in true order, unseen or lost things too: with each
    effect just after its event that is one of the record's worlds."""
    for attempt in range(1000):
        dice = random.Random(f"{seed}.{attempt}")
        record, log = _random(dice)
        if 0 < record.size <= MOST_EVENTS:
            return record, log
    raise AssertionError(f"seed {seed} makes no small record")


def broken(seed: int) -> Record:
    """As `sample`, of a kernel whose locks do not hold; of every other one no context is known."""
    for attempt in range(1000):
        dice = random.Random(f"broken {seed}.{attempt}")
        record, _ = _random(dice, locks=False)
        if 0 < record.size <= MOST_EVENTS:
            if seed % 2:
                for events in record.cpus.values():
                    for event in events:
                        event.ctx = int(Context.TASK)
            return record
    raise AssertionError(f"seed {seed} makes no small record")


def _random(dice: random.Random, locks: bool = True) -> tuple[Record, list[Ev]]:
    protocol = dice.choice(PROTOCOLS)
    cpus, slots = dice.choice((1, 2, 2, 2, 3)), dice.choice((1, 1, 1, 2))
    error = dice.choice((0, ERROR, ERROR, ERROR))
    # (pti is rare on a machine that has GHES, and asks nothing of the order.)
    chosen = plan(protocol, cpus, slots, dice.choice(UNTRACED), error, pti=dice.random() < 0.03)
    letters = "".join(dice.choice("AAB" if dice.random() < 0.8 else "ABC") for _ in range(4))
    runs: list[Run] = []
    used = 0
    for _ in range(dice.choice((1, 2, 2, 3, 3, 4))):
        slot = dice.randrange(slots)
        pages = dice.choice((1, 1, 1, 2))
        if used + pages > 4:
            break
        ctx = Context.NMI if slot else dice.choice((Context.IRQ, Context.IRQ, Context.SOFTIRQ))
        runs.append(Run(dice.randrange(cpus), ctx, slot, letters[used : used + pages]))
        used += pages
    luck = tuple(
        Luck(
            dice.randrange(cpus),
            dice.choice((*LOCAL, *BROADCASTS)),
            dice.choice((Context.TASK, Context.TASK, Context.NMI)),
            dice.random() < 0.3,
        )
        for _ in range(dice.choice((0, 0, 1, 1, 2)))
    )
    step = dice.choice(("far", "far", "near", "same"))
    shape = Shape(chosen, protocol, tuple(runs), luck, step, locks)
    offset = {cpu: dice.randint(0, error) for cpu in range(cpus)}
    record, log = made(shape, dice.randrange, offset if step != "far" else {})
    _late(record, dice)
    if not locks:
        return record, log
    return (_lossy(record, dice) if dice.random() < 0.15 else record), log


def _late(record: Record, dice: random.Random) -> None:
    """An NMI in the probe's clock read stamps an event late."""
    for events in record.cpus.values():
        for event, behind in pairwise(events):
            if behind.ctx == Context.NMI > event.ctx and dice.random() < 0.2:
                event.ts = event.until = behind.ts + dice.randrange(1, 5_000)


def _lossy(record: Record, dice: random.Random) -> Record:
    """What one loss of a random kind leaves of *record*."""
    cpu = dice.choice([cpu for cpu, events in record.cpus.items() if events] or [0])
    events = record.cpus[cpu]
    if not events:
        return record
    last = max(e.ts for evs in record.cpus.values() for e in evs)
    cause = dice.choice(("missed", "missed", "window", "overrun", "overrun", "nmi", "online"))
    at = dice.randrange(len(events))
    if cause in ("missed", "window"):
        gone = [events[at]]
        kinds = frozenset({events[at].kind})
        begin, end = _around(events, at, at, last) if cause == "window" else (0, last + 5_000)
        count: int | None = dice.choice((1, 1, 2))
        if events[at].kind == Kind.NMI_REF:
            return record
        one = Loss(cpu, begin, end, kinds, count, Cause.MISSED)
    elif cause == "overrun":
        until = min(len(events), at + dice.randint(1, 3)) - 1
        gone = events[at : until + 1]
        begin, end = _around(events, at, until, last)
        one = Loss(cpu, begin, end, None, dice.choice((len(gone), None)), Cause.OVERRUN)
    elif cause == "nmi":
        gone = [e for e in events if e.ctx == Context.NMI]
        if not any(e.kind == Kind.MAP for e in gone):
            return record
        first, end_at = events.index(gone[0]), events.index(gone[-1])
        begin, end = _around(events, first, end_at, last)
        gone = [e for e in events[first : end_at + 1] if e.ctx == Context.NMI]
        one = Loss(cpu, begin, end, None, None, Cause.NMI_UNMATCHED)
    else:
        gone = events[: at + 1]
        begin, end = _around(events, 0, at, last)
        one = Loss(cpu, 0, end, None, None, Cause.CPU_ONLINE)
    return replace(record.without(gone), losses=[one])


def _around(events: list[Ev], first: int, last: int, end: int) -> tuple[int, int]:
    """A window around these events that touches no stamp of their neighbours."""
    before = events[first - 1].ts if first else 0
    behind = events[last + 1].ts if last + 1 < len(events) else end + 10_000
    begin = (before + events[first].ts) // 2
    return begin, max(begin, (events[last].ts + behind) // 2)
