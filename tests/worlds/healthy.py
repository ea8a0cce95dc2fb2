# SPDX-License-Identifier: Apache-2.0
"""What healthy looks like: how often a run of a kernel that is safe is called `clean`.

`python -m tests.worlds.healthy --runs 20 --json FILE --markdown FILE`. A run is `hits` probe hits
long: CPUs take notifications of one slot under its lock, each a report of three copies (peek,
block, clear), as of Linux 5.1 on. The lock passes on `apart` ns after it was dropped; who waits for
it has entered its handler already. Every hit is missed with a probability of `misses` in 10^5, and
a counter that is read every 50 ms tells how many of which probe. The recording starts anywhere.
An engine that calls such a run anything but clean or inconclusive is wrong, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np

from ghesrace.events import (
    ALL_CPUS,
    NO_POINT,
    NO_SLOT,
    Cause,
    Context,
    Events,
    Kind,
    empty,
    loss,
    mark,
)
from ghesrace.plan import Plan

from .__main__ import engine_of
from .kernel import FRAMES, IRQ, KERNELS, Kernel, Task

TICK = 50_000_000  # ns between two readings of the counters of missed hits
EPOCH = 1_000_000_000
CPUS = (2, 8, 64)
ERRORS = (100, 1000)  # ns
APART = (200, 20_000)  # ns between two holds
MISSES = (0, 1, 10)  # in 10^5 hits
SOURCES = 4  # error sources: each has one status block, in a frame of its own
READ = ", code read"  # which proves what its functions imply
NAMES = ("x86 fixmap", "x86 fixmap" + READ, "x86 fixmap, flushes implied", "arm64", "arm64" + READ)


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of the table: a kernel, its CPUs, E (ns), ns between holds, misses in 10^5."""

    kernel: str
    cpus: int
    error: int
    apart: int
    misses: int


@dataclass(slots=True)
class Outcome:
    """What came of a cell: runs by verdict, and the reasons of those that were not clean."""

    cell: Cell
    runs: int = 0
    hits: int = 0
    missed: int = 0
    span_ns: int = 0
    verdicts: dict[str, dict[str, int]] = field(default_factory=dict)
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)

    def clean(self, engine: str) -> float:
        """The part of the runs that *engine* calls clean."""
        return self.verdicts.get(engine, {}).get("clean", 0) / max(self.runs, 1)


@dataclass(slots=True)
class Traffic:
    """A run in true time: one row an event, each CPU's in buffer order."""

    kernel: Kernel
    cpus: int
    events: Events  # `ts` is the true time of the stamp, ns
    span: int


def kernel_of(name: str) -> Kernel:
    """The kernel of one of NAMES."""
    kernel = next(k for k in KERNELS if k.name == name.removesuffix(READ))
    return kernel.read() if name.endswith(READ) else kernel


def traffic(kernel: Kernel, cpus: int, apart: int, hits: int, seed: int) -> Traffic:
    """About *hits* events of *kernel* on *cpus* CPUs whose holds are *apart* ns apart."""
    dice = np.random.default_rng((seed, cpus, apart))
    plan = kernel.plan(cpus, 1000)
    copies = [((FRAMES[i],),) * 3 for i in range(SOURCES)]
    reports = [
        [op for op in kernel.ops(_report(of)) if op.kind in kernel.traced()] for of in copies
    ]
    steps = len(reports[0])
    n = max(hits // steps, 2)
    source = dice.integers(0, SOURCES, n)
    cpu = dice.integers(0, cpus, n)
    # A step takes 20 to 400 ns, log-uniform.
    took = np.exp(dice.uniform(np.log(20), np.log(400), (n, steps))).astype(np.int64)
    took[:, 0] = 0
    inside = np.cumsum(took, axis=1)  # since the hold's first event
    # The lock is dropped between the last copy's end (the event before the last) and the last.
    held = inside[:, -2] + took[:, -1] // 2
    begin = np.concatenate([[0], np.cumsum(held[:-1] + apart)])
    at = begin[:, None] + inside
    # Who waits for the lock has entered its handler up to 5 us before, but after its last one.
    entered = begin - dice.integers(30, 5000, n)
    free = np.zeros(cpus, np.int64) - 10_000
    for i in range(n):
        entered[i] = min(max(entered[i], free[cpu[i]] + 20), begin[i] - 1)
        free[cpu[i]] = max(at[i, -1], entered[i])
        if i + 1 < n and cpu[i + 1] == cpu[i] and free[cpu[i]] + 40 > begin[i + 1]:
            # The same CPU again: it has to leave its handler first.
            late = free[cpu[i]] + 40 - begin[i + 1]
            begin[i + 1 :] += late
            at[i + 1 :] += late
            entered[i + 1 :] += late
    at[:, 0] = entered
    events = empty(n * steps)
    points = _points(plan)
    for s, ops in enumerate(reports):
        for j, op in enumerate(ops):
            rows = np.flatnonzero(source == s) * steps + j
            assert op.kind is not None
            events["addr"][rows] = (
                0 if kernel.arch == "arm64" and op.kind == Kind.UNMAP else op.addr
            )
            events["phys"][rows], events["size"][rows] = op.phys, op.size
            events["slot"][rows] = op.slot if op.slot >= 0 else NO_SLOT
            events["kind"][rows], events["flags"][rows] = op.kind, op.flags
            events["point"][rows] = points.get(op.kind.name, NO_POINT)
    events["ctx"] = Context.IRQ
    events["cpu"], events["ts"] = np.repeat(cpu, steps), at.ravel() + 20_000
    order = np.lexsort((events["ts"], events["cpu"]))
    events = events[order]
    return Traffic(kernel, cpus, events, int(events["ts"].max()))


def _report(copies: tuple[tuple[int, ...], ...]) -> Task:
    return Task(0, 0, Context.IRQ, "report", 0, IRQ, copies, writes=True)


def _points(plan: Plan) -> dict[str, int]:
    points: dict[str, int] = {}
    for index, probe in enumerate(plan.probes):
        points[probe.kind] = index
        if probe.clear_kind is not None:
            points[probe.clear_kind] = index
    return points


def recorded(run: Traffic, error: int, misses: int, seed: int) -> tuple[list[Events], int, int]:
    """The batches of one recording of *run*, its hits, and how many of them were missed."""
    dice = np.random.default_rng((seed, error, misses))
    events = run.events.copy()
    swing = max(error - 4, 0)
    offset = dice.integers(0, swing + 1, run.cpus)
    offset[dice.random(run.cpus) < 0.3] = swing
    events["ts"] += (EPOCH + offset[events["cpu"]]).astype(np.uint64)
    start = EPOCH + int(dice.integers(0, run.span // 4))
    events = events[events["ts"] >= start]
    hits = len(events)
    gone = dice.random(hits) < misses / 100_000
    missed, events = events[gone], events[~gone]
    first = np.searchsorted(events["cpu"], events["cpu"])
    events["seq"] = np.arange(len(events)) - first + 1
    events["pid"] = 0
    # Read with a phase of its own: the first reading is the start.
    ticks = [start, *range(start + int(dice.integers(1, TICK)), EPOCH + run.span + 2 * TICK, TICK)]
    batches = []
    for since, until in pairwise(ticks):
        here = events[(events["ts"] >= since) & (events["ts"] < until)]
        lost = missed[(missed["ts"] >= since) & (missed["ts"] < until)]
        told = [
            loss(since, until, Cause.MISSED, ALL_CPUS, n, point)
            for point, n in sorted(Counter(lost["point"].tolist()).items())
        ]
        batches.append(np.concatenate([empty(), *told, here, mark(until)]))
    return batches, hits, int(gone.sum())


def cells(names: tuple[str, ...] = NAMES) -> Iterator[Cell]:
    """Every line of the table."""
    for name, cpus, apart, error, misses in product(names, CPUS, APART, ERRORS, MISSES):
        yield Cell(name, cpus, error, apart, misses)


def measure(
    engines: dict[str, Any], runs: int, hits: int, seed: int = 0, names: tuple[str, ...] = NAMES
) -> list[Outcome]:
    """Every cell, *runs* runs of *hits* hits each, judged by *engines* (name -> class)."""
    found = []
    made: tuple[Any, Traffic] | None = None
    for cell in cells(names):
        kernel = kernel_of(cell.kernel)
        base = (cell.kernel, cell.cpus, cell.apart)
        if made is None or made[0] != base:
            made = (base, traffic(kernel, cell.cpus, cell.apart, hits, seed))
        outcome = Outcome(cell, span_ns=made[1].span)
        plan = kernel.plan(cell.cpus, cell.error)
        for run in range(runs):
            batches, seen, missed = recorded(made[1], cell.error, cell.misses, seed + run)
            outcome.runs += 1
            outcome.hits += seen
            outcome.missed += missed
            for name, engine in engines.items():
                checker = engine(plan)
                for batch in batches:
                    checker.feed(batch)
                checker.finish()
                report = checker.report()
                verdicts = outcome.verdicts.setdefault(name, {})
                word = report.verdict.word
                verdicts[word] = verdicts.get(word, 0) + 1
                reasons = outcome.reasons.setdefault(name, {})
                for reason in report.reasons:
                    # Numbers differ from run to run: the kind of reason is counted.
                    words = "".join(c for c in reason if not c.isdigit() and c != ",")
                    reasons[" ".join(words.split())] = reasons.get(" ".join(words.split()), 0) + 1
        found.append(outcome)
    return found


def markdown(outcomes: list[Outcome], seed: int = 0) -> str:
    """The table, one line for each kernel, CPUs, distance and E; a column each of misses."""
    engines = list(outcomes[0].verdicts)
    runs, hits = outcomes[0].runs, sum(o.hits for o in outcomes) // sum(o.runs for o in outcomes)
    head = [f"{engine}, {m} missed" for engine in engines for m in MISSES]
    lines = [
        "<!-- SPDX-" + "License-Identifier: Apache-2.0 -->",  # of the table, not of this file
        f"Runs called `clean`, of {runs} of each sort (seed {seed}), {hits:,} hits each, "
        f"{min(o.span_ns for o in outcomes) / 1e6:.0f} to "
        f"{max(o.span_ns for o in outcomes) / 1e6:.0f} ms long; misses in 10^5 hits. "
        "`!`: a run was called a race.",
        "",
        "| kernel | CPUs | hold to hold | E | " + " | ".join(head) + " |",
        "| --- |" + " --- |" * (3 + len(head)),
    ]
    rows: dict[tuple[Any, ...], dict[int, Outcome]] = {}
    for o in outcomes:
        c = o.cell
        rows.setdefault((c.kernel, c.cpus, c.apart, c.error), {})[c.misses] = o
    for (kernel, cpus, apart, error), of in rows.items():
        cells = [_percent(of[m], engine) for engine in engines for m in MISSES]
        lines.append(
            f"| {kernel} | {cpus} | {_ns(apart)} | {_ns(error)} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines) + "\n"


def _percent(outcome: Outcome, engine: str) -> str:
    raced = any("race" in word for word in outcome.verdicts[engine])
    return f"{100 * outcome.clean(engine):.0f}%{' !' if raced else ''}"


def _ns(ns: int) -> str:
    return f"{ns // 1000} us" if ns >= 1000 else f"{ns} ns"


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(prog="python -m tests.worlds.healthy", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="of each line of the table")
    parser.add_argument("--hits", type=int, default=100_000, help="of each run, about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kernel", action="append", choices=NAMES, help="default: all")
    parser.add_argument(
        "--engine", action="append", help="NAME=MODULE:CLASS, may be repeated; default: today's"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args(argv)
    engines = {}
    for one in args.engine or ["today="]:
        name, _, where = one.partition("=")
        engines[name] = engine_of(where)
    begun = time.monotonic()
    outcomes = measure(engines, args.runs, args.hits, args.seed, tuple(args.kernel or NAMES))
    table = markdown(outcomes, args.seed)
    print(table)
    print(f"{time.monotonic() - begun:.0f} s")
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(o) for o in outcomes], indent=1) + "\n")
    if args.markdown is not None:
        args.markdown.write_text(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
