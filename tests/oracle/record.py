# SPDX-License-Identifier: Apache-2.0
"""A small record: what a few CPUs' buffers hold, what was lost, and the plan.

The oracle reads nothing else. A record comes from the event array that a checker is fed
(`Record.of`), and becomes one again (`Record.stream`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ghesrace.events import (
    ALL_CPUS,
    NO_POINT,
    NO_SLOT,
    PAGE_SIZE,
    Cause,
    Events,
    Kind,
    empty,
    joined,
    loss,
    mark,
)
from ghesrace.plan import Plan

LOCAL = (Kind.INV_PAGE, Kind.INV_RANGE, Kind.INV_ALL)
BROADCASTS = (Kind.BCAST_RANGE, Kind.BCAST_ALL)
# What no function that broadcasts does itself.
OF_CALLERS = (
    Kind.NOTIFY,
    Kind.NOTIFY_END,
    Kind.COPY,
    Kind.COPY_END,
    Kind.MAP,
    Kind.MAP_END,
    Kind.READ,
    Kind.WRITE,
    Kind.UNMAP,
    Kind.UNMAP_END,
)


@dataclass(slots=True, eq=False)
class Ev:
    """One event of one CPU. `ts` and `until` (ns) bound its stamp: equal, unless it is hidden.

    `frame` is a physical address in bytes, or None where a world has a frame that no other event
    names. `slot` is also that of an access, by its address.
    """

    cpu: int
    ctx: int
    kind: int
    ts: int
    until: int
    slot: int = NO_SLOT
    frame: int | None = 0
    addr: int = 0
    size: int = 0
    flags: int = 0
    point: int = NO_POINT
    hidden: bool = False

    def covers(self, page: int) -> bool:
        """Whether this invalidation drops an entry of the page at *page*."""
        if self.kind in (Kind.INV_ALL, Kind.BCAST_ALL):
            return True
        if self.kind == Kind.INV_PAGE:
            return self.addr // PAGE_SIZE == page // PAGE_SIZE
        if self.kind in (Kind.INV_RANGE, Kind.BCAST_RANGE):
            return self.addr < page + PAGE_SIZE and self.addr + max(self.size, 1) > page
        return False

    def exactly(self, page: int) -> bool:
        """Whether this invalidation names that page and no other."""
        if self.kind == Kind.INV_PAGE:
            return self.covers(page)
        if self.kind in (Kind.INV_RANGE, Kind.BCAST_RANGE):
            return self.covers(page) and self.addr >= page and self.size <= PAGE_SIZE
        return False


@dataclass(slots=True, frozen=True)
class Loss:
    """Events that a CPU (None: any) lost, stamped within [begin, end] (ns).

    `kinds`: of which kinds, None for any; `count`: how many at most, None if unknown.
    """

    cpu: int | None
    begin: int
    end: int
    kinds: frozenset[int] | None
    count: int | None
    cause: Cause


@dataclass(slots=True)
class Record:
    """The events of each CPU in its buffer's order, the losses, the plan.

    `errors` (ns) says how far two CPUs' stamps may differ where that is not the plan's bound.
    """

    plan: Plan
    cpus: dict[int, list[Ev]]
    losses: list[Loss] = field(default_factory=list)
    errors: dict[tuple[int, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, stream: Events) -> Record:
        """The record in *stream*, whose events stand per CPU in buffer order."""
        cpus: dict[int, list[Ev]] = {cpu: [] for cpu in plan.cpus}
        losses = []
        pages = {
            slot.address // PAGE_SIZE: number
            for number, slot in enumerate(plan.slots)
            if slot.address is not None
        }
        for row in stream:
            kind = int(row["kind"])
            if kind == Kind.LOSS:
                losses.append(_loss(plan, row))
            elif kind != Kind.MARK:
                slot = int(row["slot"])
                if kind in (Kind.READ, Kind.WRITE) and slot == NO_SLOT:
                    slot = pages.get(int(row["addr"]) // PAGE_SIZE, NO_SLOT)
                ts = int(row["ts"])
                event = Ev(int(row["cpu"]), int(row["ctx"]), kind, ts, ts, slot)
                event.frame, event.addr = int(row["phys"]), int(row["addr"])
                event.size, event.flags = int(row["size"]), int(row["flags"])
                event.point = int(row["point"])
                cpus.setdefault(event.cpu, []).append(event)
        errors = {(x, y): error for x, y, error in plan.pair_errors_ns}
        return cls(plan, cpus, losses, errors)

    def error(self, a: int, b: int) -> int:
        """How far the stamps of CPUs *a* and *b* may differ, ns."""
        pair = (a, b) if a < b else (b, a)
        return self.errors.get(pair, self.plan.clock_error_ns)

    def traced(self, kind: int) -> bool:
        """Whether the plan has a probe for events of *kind*."""
        name = Kind(kind).name
        return any(name in (p.kind, p.clear_kind) for p in self.plan.probes)

    def implied(self, event: Ev) -> tuple[str, ...]:
        """What the symbol of *event* does besides, says the plan."""
        if event.point < len(self.plan.probes):
            return self.plan.probes[event.point].implies
        return ()

    def assumed(self, event: Ev) -> tuple[str, ...]:
        """What the symbol of *event* does besides, says the plan, without a proof."""
        if event.point >= len(self.plan.probes):
            return ()
        probe = self.plan.probes[event.point]
        proven = {
            i.what
            for i in self.plan.implications
            if (i.point, i.symbol, i.state) == (probe.point, probe.symbol, "proven")
        }
        return tuple(what for what in probe.implies if what not in proven)

    @property
    def unmaps_are_proven(self) -> bool:
        """Whether this kernel's code was read to invalidate at every unmap, seen or not."""
        unmaps = [p for p in self.plan.probes if Kind.UNMAP.name in (p.kind, p.clear_kind)]
        after_clear = ("broadcast-after-clear", "page-after-clear")
        return bool(unmaps) and any(
            all(self.plan.proves(probe, what) for probe in unmaps) for what in after_clear
        )

    @property
    def flushes_are_proven(self) -> bool:
        """Whether this kernel's code was read to flush inside every map and unmap."""
        kinds = (Kind.MAP.name, Kind.UNMAP.name)
        points = [p for p in self.plan.probes if {p.kind, p.clear_kind} & set(kinds)]
        return bool(points) and all(self.plan.proves(probe, "flush-inside") for probe in points)

    def point(self, kind: int) -> int:
        """The number of the first probe of *kind*; NO_POINT if there is none."""
        name = Kind(kind).name
        for number, probe in enumerate(self.plan.probes):
            if name in (probe.kind, probe.clear_kind):
                return number
        return NO_POINT

    @property
    def size(self) -> int:
        """How many events there are."""
        return sum(map(len, self.cpus.values()))

    def stream(self) -> Events:
        """The event array of this record, in time order as far as each buffer's order allows."""
        rows: list[tuple[int, int, Events]] = []
        last = 0
        for cpu, events in self.cpus.items():
            so_far = 0
            for seq, ev in enumerate(events, 1):
                so_far = max(so_far, ev.ts)
                rows.append((so_far, seq, _row(ev, cpu, seq)))
                last = max(last, ev.ts)
        rows.sort(key=lambda row: row[0])
        tables = [row for _, _, row in rows]
        for one in self.losses:
            point = NO_POINT
            if one.kinds is not None:
                point = min(self.point(kind) for kind in one.kinds)
            cpu = ALL_CPUS if one.cpu is None else one.cpu
            tables.append(loss(one.begin, one.end, one.cause, cpu, one.count or 0, point))
            last = max(last, one.end)
        return joined([*tables, mark(last + 100_000_000)])

    def without(self, gone: Iterable[Ev] = (), losses: list[Loss] | None = None) -> Record:
        """This record without the events *gone*, and with *losses* instead of its own."""
        names = {id(event) for event in gone}
        cpus = {c: [e for e in evs if id(e) not in names] for c, evs in self.cpus.items()}
        return replace(self, cpus=cpus, losses=self.losses if losses is None else losses)


def _loss(plan: Plan, row: Events) -> Loss:
    cause, point = Cause(int(row["aux"])), int(row["point"])
    kinds = None
    if point < len(plan.probes) and cause != Cause.NMI_UNMATCHED:
        probe = plan.probes[point]
        kinds = frozenset(int(Kind[name]) for name in (probe.kind, probe.clear_kind) if name)
    cpu = None if row["cpu"] == ALL_CPUS else int(row["cpu"])
    count = int(row["size"]) or None
    if cause == Cause.NMI_UNMATCHED:
        count = None  # It counts handlers, and each hides whatever it did.
    return Loss(cpu, int(row["addr"]), int(row["ts"]), kinds, count, cause)


def _row(ev: Ev, cpu: int, seq: int) -> Events:
    row = empty(1)
    row["ts"], row["cpu"], row["seq"], row["pid"] = ev.ts, cpu, seq, 100 + cpu
    row["kind"], row["ctx"], row["flags"], row["point"] = ev.kind, ev.ctx, ev.flags, ev.point
    row["addr"], row["size"], row["phys"] = ev.addr, ev.size, ev.frame or 0
    row["slot"] = NO_SLOT if ev.kind in (Kind.READ, Kind.WRITE) else ev.slot
    return row
