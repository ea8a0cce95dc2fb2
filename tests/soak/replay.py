# SPDX-License-Identifier: Apache-2.0
"""Pass 10^8 made-up events through the daemon's engine, recorder and metrics.

Memory must stay flat meanwhile. The traffic is that of four CPUs and two slots on today's x86
protocol (every map is flushed), with an unrelated invalidation here and there and a counted loss in
every thousandth block.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from ghesrace.events import Cause, Context, Events, Kind, loss, mark
from ghesrace.plan import Slot
from ghesrace.service.config import RecorderSettings
from ghesrace.service.evidence.recorder import FlightRecorder
from ghesrace.service.health import Health, HealthState
from ghesrace.service.metrics.families import publish
from ghesrace.service.watch import Watch
from tests.build.trace import A, B, C, Trace, V, plan

CPUS = 4
_REPORTS = 2500  # per block
_LOSS_EVERY = 1000
_FIRST = 50  # Caches and pools are warm after so many blocks, when the first RSS is taken.


@dataclass(slots=True)
class Outcome:
    """An outcome says what a replay ended with.

    RSS and *memory* (the recorder's recent events) are in bytes. *counted* is what the engine
    counted of *events*, *lost* what it counted as lost; both must be as expected.
    """

    events: int
    seconds: float
    rss_first: int
    rss_last: int
    rss_most: int
    findings: int
    lost: int
    lost_expected: int
    counted: int
    memory: int


def block() -> Events:
    """Return one block of traffic with the MARK at its end, as events in the order of time."""
    trace = Trace(0)
    frames = (A, B, C)
    for i in range(_REPORTS):
        cpu = (i * 7 // 3) % CPUS
        ctx = Context.NMI if i % 5 == 0 else Context.IRQ
        trace.report(cpu, frames[i % 3], ctx=ctx, flush=True, slot=int(ctx == Context.NMI),
                     address=V + 4096 * (ctx == Context.NMI))  # fmt: skip
        if i % 50 == 0:
            trace.add((i + 1) % CPUS, Kind.INV_ALL, Context.TASK)
    return trace.stream()


def run(events: int, directory: Path) -> Outcome:
    """Replay at least *events* events; captures, should there be any, go to *directory*.

    The first figure is small unless something leaks, and the second must be 0:

        outcome = run(10_000_000, Path("captures"))
        print(outcome.rss_last - outcome.rss_first, outcome.findings)
    """
    slots = (Slot("irq", 644, V, "report"), Slot("nmi", 645, V + 4096, "report"))
    the_plan = plan(*slots, cpus=CPUS)
    watch = Watch(the_plan, 3600)
    settings = RecorderSettings(directory=str(directory))
    recorder = FlightRecorder(settings, the_plan, {}, lambda *a, **k: None, lambda *a: None)
    recorder.start()
    health = Health(HealthState.WATCHING, "replay")
    base = block()
    real = base["kind"] < Kind.LOSS
    span = int(base["ts"].max()) + 1_000_000
    steps = int(base["seq"].max()) + 1
    process = psutil.Process()
    rss_first = rss_most = 0
    done = number = lost = 0
    begin = time.monotonic()
    while done < events:
        batch = base.copy()
        batch["ts"] += np.uint64(number * span)
        batch["seq"][real] += np.uint64(number * steps)
        if number % _LOSS_EVERY == _LOSS_EVERY - 1:
            at = number * span
            gone = loss(at, at + 1, Cause.OVERRUN, cpu=1, count=3)
            batch = np.concatenate([gone, batch])
            lost += 3
        watch.feed(batch)
        recorder.add(batch)
        recorder.found(watch.look())
        recorder.tick()
        if number % 20 == 0:
            publish(watch, health, recorder)
        done += int(real.sum())
        number += 1
        if number % 10 == 0:
            rss = process.memory_info().rss
            rss_first = rss_first or (rss if number >= _FIRST else 0)
            rss_most = max(rss_most, rss)
    watch.feed(mark(number * span + 2_000_000_000))
    watch.finish()
    recorder.found(watch.look(now=True))
    recorder.stop()
    return Outcome(
        done,
        time.monotonic() - begin,
        rss_first,
        process.memory_info().rss,
        rss_most,
        sum(watch.findings.values()),
        int(watch.tally.lost.sum()),
        lost,
        int(watch.tally.kinds.sum()),
        recorder.memory.bytes,
    )
