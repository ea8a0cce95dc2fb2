# SPDX-License-Identifier: Apache-2.0
"""The C of a summary against the checker: the same stream, the same verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ghesrace.checker.model import Class
from ghesrace.checker.report import Report
from ghesrace.events import NO_POINT, Context, Events, Kind, mark
from ghesrace.plan import Plan, Probe, Slot
from ghesrace.sources.bpf.summary.plan import NEEDS_EVENTS
from tests.build.judging import judge
from tests.build.trace import A, Trace, V, plan
from tests.litmus.parse import CASES, load

from .native import Native

RUNS = 60

FILES = sorted(CASES.glob("*.litmus"))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


def full(plan: Plan, stream: Events) -> Report:
    # The stale pattern only: the others need events.
    return judge(replace(plan, not_checked=dict.fromkeys(NEEDS_EVENTS, "not here")), stream)


def summary(plan: Plan, stream: Events, native: Native) -> Report:
    native.reset()
    lost = stream[stream["kind"] == Kind.LOSS].copy()
    lost["point"] = [native.point(plan, int(point)) for point in lost["point"]]
    lost = lost[lost["point"] != len(native.plan.probes)]  # of what a summary does not probe
    events = stream[stream["kind"] < Kind.LOSS]
    events = events[np.argsort(events["ts"], kind="stable")]
    for event in events:
        native.run(event)
    end = int(events["ts"].max(initial=0)) + 1
    return judge(native.plan, np.concatenate([lost, native.collect(end), mark(end)]))


def facts(report: Report) -> dict[str, object]:
    return {
        "verdict": report.verdict.word,
        **{
            slot.name: (
                {Class(c).name: n for c, n in enumerate(slot.classes) if n},
                slot.handoffs,
                slot.latent,
                slot.uncertain_at_start,
            )
            for slot in report.slots
        },
        "stale": (report.patterns["stale"].observed, report.patterns["stale"].predicted),
        "findings": sorted(
            (f.severity, f.access, f.cpus, f.frames, f.count) for f in report.findings
        ),
    }


# What a summary can say otherwise, and why.
OTHERWISE = {
    "clock-can-not-order": "the kernel needs no clock: the lock orders holds, memory the luck",
    "luck-within-clock-error": "the same",
    "cpu-online": "without the stamp of its hold's begin a sample counts as touched by a loss",
    "missing-unmap": "what the end of the recording cuts off is not judged",
    "race-untraced-write": "the copy's direction is not probed, only the write itself",
    **dict.fromkeys(
        ("overlap-two-cpus", "overlap-or-a-lost-unmap"),
        "an unmap that another CPU's map overtook leaves its episode uncertain",
    ),
    "overlap-nmi-in-own-slot": "the kernel keeps one episode of a CPU and slot: both are uncertain",
    **dict.fromkeys(
        (
            "clock-error-of-a-pair",
            "flush-after-untraced-read-of-two-pages",
            "loss-of-a-map-end",
            "loss-of-an-unmap",
            "loss-of-an-unmap-that-broadcasts",
            "order-of-more-than-neighbours",
            "order-whatever-the-cut",
        ),
        "the checker is wrong of it today (tests/litmus/wrong-today.txt)",
    ),
    "relaxedvm-shootdown": "a broadcast made of local invalidations is none (summary.py)",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_litmus(path: Path, compiled: Path) -> None:
    """If this fails, the kernel judges by other rules than the checker."""
    case = load(path)
    ours = facts(summary(case.plan, case.stream, Native(case.plan, compiled)))
    theirs = facts(full(case.plan, case.stream))
    assert (ours == theirs) == (path.stem not in OTHERWISE), (ours, theirs)
    if "clean" in (ours["verdict"], theirs["verdict"]) and ours != theirs:
        assert theirs["verdict"] == "clean"  # never clean where the checker is not


class Machine:
    """A random run: CPUs take the slots' locks in turn; luck and NMIs come at any time."""

    def __init__(self, seed: int, slots: int) -> None:
        self.random = np.random.default_rng(seed)
        self.trace = Trace()
        self.slots = slots
        self.inside: dict[int, list[Context]] = {}
        self.waiting: set[int] = set()
        self.cpus = int(self.random.integers(1, 4))
        self.frames = [A + n * 0x1000 for n in range(int(self.random.integers(1, 4)))]
        chance = self.random.choice([0.0, 0.3, 1.0], 5)
        self.flush, self.pre, self.unmap_flush, self.broadcast, self.luck = chance

    def happens(self, chance: float) -> bool:
        return bool(self.random.random() < chance)

    def some_luck(self) -> None:
        if not self.happens(self.luck / 8):
            return
        cpu = int(self.random.integers(self.cpus))
        if cpu in self.waiting:  # its flush is one before the map for the checker, luck here
            return
        here = self.inside.get(cpu, [Context.TASK])[-1]  # only a higher context interrupts
        ctx = Context(int(self.random.integers(int(here), 4)))
        sort = int(self.random.integers(4))
        if sort == 0:
            self.trace.add(cpu, Kind.INV_ALL, ctx)
        elif sort == 1:
            self.trace.add(cpu, Kind.INV_RANGE, ctx, addr=V, size=4096)
        else:
            kind = (Kind.BCAST_ALL, Kind.BCAST_RANGE)[sort - 2]
            self.trace.add(cpu, kind, ctx, addr=V, size=4096)
            if self.happens(0.5):
                self.some_luck()
            self.trace.add(cpu, Kind.BCAST_END, ctx)
        if cpu not in self.inside and self.happens(0.7):  # its context goes on
            self.trace.add(cpu, Kind.NOTIFY_END, Context.TASK)

    def page(self, cpu: int, slot: int, ctx: Context, depth: int) -> None:
        add, v = self.trace.add, V + slot * 0x1000
        if self.happens(self.pre):
            add(cpu, Kind.INV_PAGE, ctx, addr=v)
        frame = int(self.random.choice(self.frames))
        add(cpu, Kind.MAP, ctx, phys=frame, slot=slot)
        if self.happens(self.flush):
            add(cpu, Kind.INV_PAGE, ctx, addr=v)
        self.some_luck()
        self.nest(cpu, slot, depth)
        write = self.happens(0.2)
        add(cpu, Kind.WRITE if write else Kind.READ, ctx, addr=v + 16, size=4)
        self.some_luck()
        add(cpu, Kind.UNMAP, ctx, slot=slot)
        if self.happens(self.broadcast):
            add(cpu, Kind.BCAST_RANGE, ctx, addr=v, size=4096)
            add(cpu, Kind.BCAST_END, ctx)
        elif self.happens(self.unmap_flush):
            add(cpu, Kind.INV_PAGE, ctx, addr=v)

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
        return self.trace.stream()


# As a summary has it: no copies, nor what only their edges tell.
KINDS = (
    *("MAP", "UNMAP", "INV_PAGE", "INV_RANGE", "INV_ALL", "BCAST_RANGE", "BCAST_ALL"),
    *("BCAST_END", "READ", "WRITE", "NOTIFY", "NOTIFY_END"),
)


@pytest.mark.slow
@pytest.mark.parametrize("locks", [["report"], ["page"], ["page", "report"]])
def test_random_runs(locks: list[str], tmp_path: Path) -> None:
    """If this fails, some order of flushes, luck and NMIs is judged otherwise by the kernel."""
    slots = [Slot(f"s{n}", 600 + n, V + n * 0x1000, lock) for n, lock in enumerate(locks)]
    probes = tuple(Probe(kind.lower(), kind, "f", "kprobe") for kind in KINDS)
    plans = {}
    for cpus in (1, 2, 3):
        plans[cpus] = replace(plan(*slots, cpus=cpus, error=0), probes=probes)
    native = Native(plans[3], tmp_path)
    tried: set[object] = set()
    for seed in range(RUNS):
        machine = Machine(seed, len(slots))
        stream = machine.run(12)
        of = plans[machine.cpus]
        stream["point"] = [
            KINDS.index(Kind(int(k)).name) if Kind(int(k)).name in KINDS else NO_POINT
            for k in stream["kind"]
        ]
        native.plan = replace(native.plan, cpus=of.cpus)
        ours, theirs = facts(summary(of, stream, native)), facts(full(of, stream))
        assert ours == theirs, seed
        tried.add(theirs["verdict"])
    assert tried >= {"clean", "race-observed"}
