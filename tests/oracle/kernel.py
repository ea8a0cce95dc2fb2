# SPDX-License-Identifier: Apache-2.0
"""A small kernel: what each protocol does to a page, and CPUs that run it under the slots' locks.

A protocol says how a page is mapped and unmapped; a `Shape` which handlers run where. Whoever
chooses says who goes on, what interrupts whom and where luck falls; `every` makes all choices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ghesrace.events import PAGE_SIZE, Context, Kind
from ghesrace.plan import Plan, Probe, Slot

from .record import BROADCASTS, Ev, Record

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
        while active.at < len(active.steps):  # It returns and unlocks before anything else.
            what, event = active.steps[active.at]
            assert event is not None
            if what == "unlock":
                self.owner.pop(event.slot, None)
            elif event.kind not in RETURNS or event.kind in self.traced:
                break
            active.at += 1
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
