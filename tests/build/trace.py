# SPDX-License-Identifier: Apache-2.0
"""Writes event streams by hand: one call per thing that a CPU does. Times advance by 10 us."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ghesrace.events import NO_POINT, Context, Kind, empty, loss, mark
from ghesrace.plan import Plan, Probe, Slot

V = 0xFFFFFFFFFF57B000
A, B, C = 0x70000000, 0x70001000, 0x70002000
STEP = 10_000

POINTS = ["MAP", "UNMAP", "INV_PAGE", "INV_ALL", "COPY", "COPY_END", "NOTIFY", "NOTIFY_END", "READ"]
POINTS += ["EDIT", "EDIT_END", "SHOOTDOWN"]


def plan(*slots: Slot, cpus: int = 2, error: int = 1000) -> Plan:
    """A plan in which everything is traced; by default one slot whose lock spans a report."""
    slots = slots or (Slot("irq", 644, V, "report"),)
    probes = tuple(Probe(kind.lower(), kind, "f", "kprobe") for kind in POINTS)
    return Plan("x86_64", "test", slots, probes, cpus=tuple(range(cpus)), clock_error_ns=error)


def implying(base: Plan, kind: str, what: str) -> Plan:
    """The same plan, in which the probe of *kind* implies *what*."""
    probes = tuple(replace(p, implies=(what,)) if p.kind == kind else p for p in base.probes)
    return replace(base, probes=probes)


class Trace:
    """A stream under construction."""

    def __init__(self, start: int = 1_000_000) -> None:
        self.now = start
        self.seq: dict[int, int] = {}
        self.records: list[np.ndarray] = []

    def add(self, cpu: int, kind: Kind, ctx: Context = Context.IRQ, **fields: int) -> None:
        event = empty(1)
        self.now += STEP
        event["ts"], event["cpu"], event["kind"], event["ctx"] = self.now, cpu, kind, ctx
        event["pid"] = 100 + cpu
        self.seq[cpu] = self.seq.get(cpu, 0) + 1
        event["seq"] = self.seq[cpu]
        event["point"] = POINTS.index(kind.name) if kind.name in POINTS else NO_POINT
        for name, value in fields.items():
            event[name] = value
        self.records.append(event)

    def page(
        self,
        cpu: int,
        frame: int,
        *,
        slot: int = 0,
        address: int = V,
        pre: bool = False,
        flush: bool = False,
        read: bool = True,
        write: bool = False,
        unmap_flush: bool = True,
        broadcast: bool = False,
        ctx: Context = Context.IRQ,
    ) -> None:
        """One copy of one page: the 2015 protocol unless said otherwise."""
        self.add(cpu, Kind.COPY, ctx, phys=frame, size=64)
        if pre:
            self.add(cpu, Kind.INV_PAGE, ctx, addr=address)
        self.add(cpu, Kind.MAP, ctx, phys=frame, slot=slot)
        if flush:
            self.add(cpu, Kind.INV_PAGE, ctx, addr=address)
        if read:
            self.add(cpu, Kind.WRITE if write else Kind.READ, ctx, addr=address + 16, size=4)
        self.add(cpu, Kind.UNMAP, ctx, slot=slot)
        if broadcast:
            self.add(cpu, Kind.BCAST_RANGE, ctx, addr=address, size=4096)
        elif unmap_flush:
            self.add(cpu, Kind.INV_PAGE, ctx, addr=address)
        self.add(cpu, Kind.COPY_END, ctx)

    def report(self, cpu: int, *frames: int, ctx: Context = Context.IRQ, **how: object) -> None:
        """One notification: its handler copies the pages one after the other."""
        self.add(cpu, Kind.NOTIFY, ctx)
        for frame in frames:
            self.page(cpu, frame, ctx=ctx, **how)  # type: ignore[arg-type]
        self.add(cpu, Kind.NOTIFY_END, ctx)
        self.add(cpu, Kind.NMI_REF, Context.TASK)  # the CPU was back in a task

    def lose(self, begin: int, end: int, **how: int) -> None:
        self.records.append(loss(begin, end, **how))  # type: ignore[arg-type]

    def stream(self) -> np.ndarray:
        return np.concatenate([*self.records, mark(self.now + 1)])


def bounce(
    n: int = 6, frames: tuple[int, ...] = (A, B), *, into: Trace | None = None, **how: object
) -> Trace:
    """*n* notifications on CPUs 0 and 1 in turn, with *frames* in turn; *how*: Trace.page."""
    trace = Trace() if into is None else into
    for number in range(n):
        trace.report(number % 2, frames[number % len(frames)], **how)
    return trace


def batches(stream: np.ndarray, *cuts: int) -> list[np.ndarray]:
    """Cut a stream in time order at these indices, each part closed by its MARK."""
    losses = stream[stream["kind"] == Kind.LOSS]
    events = stream[~np.isin(stream["kind"], (Kind.LOSS, Kind.MARK))]
    events = events[np.argsort(events["ts"], kind="stable")]
    parts, last = [], 0
    for cut in [*sorted({c for c in cuts if c < len(events)}), len(events)]:
        part = events[last:cut]
        until = int(events["ts"][cut]) if cut < len(events) else int(events["ts"][-1]) + 1
        since = int(events["ts"][last]) if last else 0
        mine = losses[(losses["addr"] < until) & (losses["addr"] >= since)]
        parts.append(np.concatenate([mine, part, mark(until)]))
        last = cut
    return parts
