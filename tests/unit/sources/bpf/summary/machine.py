# SPDX-License-Identifier: Apache-2.0
"""Random runs: CPUs take the slots' locks in turn, with luck, NMIs and losses at any time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ghesrace.events import NO_POINT, Cause, Context, Events, Kind, joined, loss
from ghesrace.plan import Plan, Probe, Slot
from tests.build.trace import A, Trace, V, plan

# As a summary has it: no copies, nor what only their edges tell.
KINDS = (
    *("MAP", "UNMAP", "INV_PAGE", "INV_RANGE", "INV_ALL", "BCAST_RANGE", "BCAST_ALL"),
    *("BCAST_END", "READ", "WRITE", "NOTIFY", "NOTIFY_END"),
)
WIDE = 0x10000  # of a range that merely spans the slot


def plan_of(locks: tuple[str, ...], cpus: int) -> Plan:
    """A plan of a slot for each of *locks*, whose probes are KINDS."""
    slots = [Slot(f"s{n}", 600 + n, V + n * 0x1000, lock) for n, lock in enumerate(locks)]
    probes = tuple(Probe(kind.lower(), kind, "f", "kprobe") for kind in KINDS)
    return replace(plan(*slots, cpus=cpus, error=0), probes=probes)


class Machine:
    """One run. *odd* ones do what no kernel does: more than one flush of a map or an unmap, of
    wider ranges; maps that nothing unmaps, and unmaps of nothing."""

    def __init__(self, seed: int, slots: int, odd: bool = False) -> None:
        self.random = np.random.default_rng(seed)
        self.trace = Trace()
        self.slots = slots
        self.odd = odd
        self.inside: dict[int, list[Context]] = {}
        self.waiting: set[int] = set()
        self.telling: dict[int, Context] = {}  # the sender waits: only a higher context goes on
        self.cpus = int(self.random.integers(1, 4))
        self.frames = [A + n * 0x1000 for n in range(int(self.random.integers(1, 4)))]
        chance = self.random.choice([0.0, 0.3, 1.0], 5)
        self.flush, self.pre, self.unmap_flush, self.broadcast, self.luck = chance

    def happens(self, chance: float) -> bool:
        return bool(self.random.random() < chance)

    def oddly(self) -> bool:
        return self.odd and self.happens(0.08)

    def some_luck(self) -> None:
        if not self.happens(self.luck / 8):
            return
        cpu = int(self.random.integers(self.cpus))
        if cpu in self.waiting and not self.odd:
            return
        here = int(self.inside.get(cpu, [Context.TASK])[-1])  # only a higher context interrupts
        here = max(here, self.telling[cpu] + 1) if cpu in self.telling else here
        if here > Context.NMI:
            return
        ctx = Context(int(self.random.integers(here, 4)))
        sort = int(self.random.integers(4))
        if sort == 0:
            self.trace.add(cpu, Kind.INV_ALL, ctx)
        elif sort == 1:
            self.range(cpu, Kind.INV_RANGE, ctx, V)
        else:
            self.range(cpu, (Kind.BCAST_ALL, Kind.BCAST_RANGE)[sort - 2], ctx, V)
            outer = self.telling.pop(cpu, None)
            self.telling[cpu] = ctx
            if self.happens(0.5):
                self.some_luck()
            del self.telling[cpu]
            if outer is not None:
                self.telling[cpu] = outer
            self.trace.add(cpu, Kind.BCAST_END, ctx)
        if (
            cpu not in self.inside and cpu not in self.telling and self.happens(0.7)
        ):  # its context goes on
            self.trace.add(cpu, Kind.NOTIFY_END, Context.TASK)

    def range(self, cpu: int, kind: Kind, ctx: Context, v: int) -> None:
        """An invalidation of the page or, in an odd run, of more."""
        wide = self.odd and self.happens(0.5)
        self.trace.add(cpu, kind, ctx, addr=v, size=WIDE if wide else 4096)

    def strange(self, cpu: int, slot: int, ctx: Context) -> None:
        """Some flush that the page at hand does not need, in its own context."""
        if not self.oddly():
            return
        v = V + slot * 0x1000
        sort = int(self.random.integers(4))
        if sort == 0:
            self.range(cpu, Kind.INV_RANGE, ctx, v)
        elif sort == 1:
            self.trace.add(cpu, Kind.INV_PAGE, ctx, addr=v)
        elif sort == 2:
            self.trace.add(cpu, Kind.INV_ALL, ctx)
        else:
            self.range(cpu, Kind.BCAST_RANGE, ctx, v)
            if not self.oddly():
                self.trace.add(cpu, Kind.BCAST_END, ctx)

    def page(self, cpu: int, slot: int, ctx: Context, depth: int) -> None:
        add, v = self.trace.add, V + slot * 0x1000
        if self.happens(self.pre):
            add(cpu, Kind.INV_PAGE, ctx, addr=v)
        frame = int(self.random.choice(self.frames))
        if self.oddly():
            add(cpu, Kind.UNMAP, ctx, slot=slot)
        add(cpu, Kind.MAP, ctx, phys=frame, slot=slot)
        if self.happens(self.flush):
            add(cpu, Kind.INV_PAGE, ctx, addr=v)
        self.strange(cpu, slot, ctx)
        self.some_luck()
        self.nest(cpu, slot, depth)
        write = self.happens(0.2)
        add(cpu, Kind.WRITE if write else Kind.READ, ctx, addr=v + 16, size=4)
        self.some_luck()
        self.strange(cpu, slot, ctx)
        if self.oddly():
            return
        add(cpu, Kind.UNMAP, ctx, slot=slot)
        self.strange(cpu, slot, ctx)
        if self.happens(self.broadcast):
            add(cpu, Kind.BCAST_RANGE, ctx, addr=v, size=4096)
            add(cpu, Kind.BCAST_END, ctx)
        elif self.happens(self.unmap_flush):
            add(cpu, Kind.INV_PAGE, ctx, addr=v)
        self.strange(cpu, slot, ctx)

    def nest(self, cpu: int, slot: int, depth: int) -> None:
        """An NMI in the middle of it, at the other slot."""
        if depth == 0 and slot == 0 and self.slots > 1 and self.happens(0.1):
            self.report(cpu, 1, Context.NMI, 1)

    def early(self, cpu: int, slot: int, ctx: Context) -> None:
        """A flush before another CPU's hold."""
        self.trace.add(cpu, Kind.INV_PAGE, ctx, addr=V + slot * 0x1000)
        if others := sorted(set(range(self.cpus)) - set(self.inside)):
            self.waiting.add(cpu)
            self.report(int(self.random.choice(others)), slot, ctx, 1)
            self.waiting.remove(cpu)

    def report(self, cpu: int, slot: int, ctx: Context, depth: int = 0) -> None:
        self.inside.setdefault(cpu, []).append(ctx)
        self.trace.add(cpu, Kind.NOTIFY, ctx)
        if depth == 0 and self.happens(0.1):
            self.early(cpu, slot, ctx)
        for _ in range(int(self.random.integers(1, 4))):
            self.page(cpu, slot, ctx, depth)
        self.trace.add(cpu, Kind.NOTIFY_END, ctx)
        self.inside[cpu].pop()
        if not self.inside[cpu]:
            del self.inside[cpu]

    def run(self, reports: int) -> Events:
        for _ in range(reports):
            slot = int(self.random.integers(self.slots))
            ctx = Context.NMI if slot else Context(int(self.random.integers(1, 3)))
            self.report(int(self.random.integers(self.cpus)), slot, ctx)
            self.some_luck()
        stream = self.trace.stream()
        stream["point"] = [point_of(int(kind)) for kind in stream["kind"]]
        return stream


def point_of(kind: int) -> int:
    """The probe of *kind* in `plan_of`."""
    name = Kind(kind).name
    return KINDS.index(name) if name in KINDS else NO_POINT


def lossy(stream: Events, random: np.random.Generator, losses: int) -> Events:
    """*stream* without some of its events, with the losses that say so."""
    events = np.flatnonzero(stream["kind"] < Kind.LOSS)
    gone: set[int] = set()
    told = []
    for at in random.choice(events, min(losses, len(events)), replace=False):
        one = stream[at]
        burst = [int(at)]
        if random.random() < 0.4:  # all of a CPU's next events
            mine = events[(events >= at) & (stream["cpu"][events] == one["cpu"])]
            burst = [int(i) for i in mine[: int(random.integers(2, 8))]]
        gone.update(burst)
        early, late = (int(n) for n in random.integers(0, 60_000, 2))
        begin, end = int(one["ts"]) - early, int(stream["ts"][burst[-1]]) + late
        single = len(burst) == 1
        cause = Cause.MISSED if single else Cause.OVERRUN
        point = int(one["point"]) if single else NO_POINT
        told.append(loss(begin, end, cause, int(one["cpu"]), len(burst), point))
    kept = np.delete(stream, sorted(gone))
    return joined([*told, kept])
