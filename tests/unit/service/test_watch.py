# SPDX-License-Identifier: Apache-2.0
"""The daemon's two engines and its counters, on streams written by hand."""

from __future__ import annotations

import numpy as np

from ghesrace.checker.engine import Engine
from ghesrace.checker.report import Verdict
from ghesrace.events import Cause, Context, Kind, mark
from ghesrace.service.watch import Watch
from tests.build.trace import A, B, Trace, batches, bounce, plan


def fed(watch: Watch, *parts: np.ndarray) -> Watch:
    for part in parts:
        watch.feed(part)
    return watch


def test_counts_what_the_engine_counts() -> None:
    """If this fails, the metrics tell another story than `ghesrace check` of the same events."""
    stream = bounce().stream()
    watch, engine = Watch(plan(), 3600), Engine(plan())
    fed(watch, *batches(stream, 7, 23, 40))
    engine.feed(stream)
    watch.finish()
    engine.finish()
    grown = watch.look()
    expected = engine.report()
    assert {(f.cpus, f.frames, f.count) for f in grown} == {
        (f.cpus, f.frames, f.count) for f in expected.findings
    }
    assert watch.report.verdict is expected.verdict is Verdict.OBSERVED
    assert watch.findings["stale", "observed"] == expected.patterns["stale"].observed > 0
    assert watch.tally.kinds.sum() == expected.events
    assert watch.tally.kinds[Kind.MAP, Context.IRQ] == 6
    assert watch.tally.remap.sum() == sum(s.handoffs for s in expected.slots) == 5


def test_look_tells_a_finding_once_and_again_when_it_recurs() -> None:
    """If this fails, a finding is logged for ever, or its recurrence is never recorded."""
    trace = bounce(2)
    watch = fed(Watch(plan(), 3600), trace.stream())
    watch.feed(mark(trace.now + 2_000_000_000))
    first = watch.look(now=True)
    assert len(first) == 1
    assert watch.look(now=True) == []
    trace.records.clear()
    trace.now += 3_000_000_000
    bounce(4, into=trace)
    watch.feed(trace.stream())
    watch.feed(mark(trace.now + 2_000_000_000))
    again = watch.look(now=True)
    assert first[0].cpus in {f.cpus for f in again}


def test_window_forgets_losses_but_findings_cross_its_border() -> None:
    """If this fails, one lost event makes every later window inconclusive, or a race whose two
    halves lie in two windows is in neither."""
    watch = Watch(plan(), 10)
    trace = bounce(flush=True)
    trace.lose(0, trace.now, cause=Cause.OVERRUN, count=3)
    fed(watch, trace.stream())
    watch.look(now=True)
    assert watch.window is not None
    assert watch.window.verdict is Verdict.INCONCLUSIVE
    assert any(r.startswith("losses") for r in watch.window.reasons)
    trace.records.clear()
    trace.now += 11_000_000_000
    trace.report(0, A)  # x of a race, the last thing of the first window
    watch.feed(trace.stream())
    watch.look(now=True)
    assert sum(watch.windows.values()) == 1
    trace.records.clear()
    trace.now += 2_000_000_000
    trace.report(1, B)
    watch.feed(trace.stream())
    watch.feed(mark(trace.now + 2_000_000_000))
    assert len(watch.look(now=True)) == 1
    assert watch.window.verdict is Verdict.OBSERVED


def test_quiet_window_is_not_clean() -> None:
    """If this fails, a host on which nothing happens, or a blind one, looks proven safe."""
    watch = fed(Watch(plan(), 3600), mark(1_000), mark(2_000_000))
    watch.look(now=True)
    assert watch.window is not None
    assert (watch.window.verdict, watch.window.reasons) == (Verdict.INCONCLUSIVE, ["no-traffic"])


def test_state_stays_bounded() -> None:
    """If this fails, months of traffic end in the memory limit of the unit."""
    watch, trace = Watch(plan(), 1), Trace()
    sizes = []
    for _ in range(40):
        trace.records.clear()
        trace.now += 500_000_000
        bounce(20, into=trace)
        watch.feed(trace.stream())
        watch.look(now=True)
        core = watch.engine.core
        pending = sum(len(state.holds) + len(state.window) for state in core.slots)
        sizes.append(pending + len(core.edits.writes) + len(watch._grown))
    assert max(sizes[20:]) <= max(sizes[:20])
    assert sum(watch.windows.values()) >= 10
