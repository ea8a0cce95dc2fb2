# SPDX-License-Identifier: Apache-2.0
"""The stale pattern against DESIGN.md: the table of classes, prediction, and a plain model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Class
from ghesrace.checker.patterns.stale import Stale
from ghesrace.checker.report import Verdict
from ghesrace.events import ALL_CPUS, Cause, Context, Kind, empty
from ghesrace.plan import Slot
from tests.build.judging import classes, judge
from tests.build.trace import POINTS, STEP, A, B, C, Trace, V, batches, bounce, implying, plan


def test_the_2015_protocol_is_observed() -> None:
    """Without a fix every hand-off to another frame is `none`: the race itself."""
    report = judge(plan(), bounce().stream())
    assert report.verdict is Verdict.OBSERVED
    assert classes(report) == {"NONE": 5, "UNCERTAIN": 1}
    assert report.slots[0].handoffs == 5
    assert report.slots[0].latent == 5
    assert report.patterns["stale"].observed == 5
    finding = report.findings[0]
    assert (finding.cpus, finding.frames, finding.count) == ((0, 1), (A, B), 3)
    assert [s.n for s in finding.steps if s.n] == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("fix", "cls", "latent"),
    [
        ({"flush": True}, "MAP_FLUSH", 5),
        ({"pre": True}, "MAP_FLUSH", 5),
        ({"broadcast": True}, "BROADCAST", 0),
    ],
)
def test_either_fix_is_clean(fix: dict[str, bool], cls: str, latent: int) -> None:
    """A fix that is not recognised would be reported as a race on every sane kernel."""
    report = judge(plan(), bounce(**fix).stream())
    assert report.verdict is Verdict.CLEAN, report.reasons
    assert classes(report)[cls] >= 5
    assert report.slots[0].latent == latent


def test_fixes_that_only_the_plan_knows() -> None:
    """arm64's clear has no flush event: without the implication it would be a false race."""
    trace = bounce(unmap_flush=False)
    assert judge(plan(), trace.stream()).verdict is Verdict.OBSERVED
    told = judge(implying(plan(), "UNMAP", "broadcast-after-clear"), trace.stream())
    assert (told.verdict, classes(told)["BROADCAST"]) == (Verdict.CLEAN, 5)
    flushed = judge(implying(plan(), "MAP", "page-after-set"), trace.stream())
    assert (flushed.verdict, classes(flushed)["MAP_FLUSH"]) == (Verdict.CLEAN, 6)


def test_a_flush_after_an_untraced_access_proves_nothing() -> None:
    """With the access unseen, a flush between map and unmap may come too late."""
    trace = bounce(flush=True, read=False)
    report = judge(plan(), trace.stream())
    assert (report.verdict, classes(report)) == (Verdict.INCONCLUSIVE, {"UNCERTAIN": 6})
    inside = judge(implying(plan(), "MAP", "flush-inside"), trace.stream())
    assert (inside.verdict, classes(inside)) == (Verdict.CLEAN, {"MAP_FLUSH": 6})


def test_same_frame_is_safe_and_not_latent() -> None:
    """Re-mapping the same frame through a stale entry reads the right bytes."""
    report = judge(plan(), bounce(frames=(A,)).stream())
    assert (report.verdict, classes(report)["SAME_FRAME"]) == (Verdict.CLEAN, 4)
    assert report.slots[0].latent == 0


def test_luck_is_predicted_not_observed() -> None:
    """An unrelated invalidation saved the day; the code did not."""
    trace = Trace()
    for i in range(6):
        trace.report(i % 2, (A, B)[i % 2])
        trace.add((i + 1) % 2, Kind.INV_ALL, Context.TASK)
        trace.add((i + 1) % 2, Kind.NMI_REF, Context.TASK)
    report = judge(plan(), trace.stream())
    assert report.verdict is Verdict.PREDICTED
    assert classes(report)["INCIDENTAL"] == 5
    assert report.patterns["stale"].observed == 0


def test_luck_before_the_clear_does_not_count() -> None:
    """needTLBI1: an invalidation before the unmap can be undone by a refill."""
    trace = Trace()
    trace.report(0, A)
    trace.report(1, A)
    trace.add(0, Kind.NOTIFY)
    trace.add(0, Kind.MAP, phys=B, slot=0)
    trace.add(0, Kind.INV_PAGE, addr=V)
    trace.add(0, Kind.READ, addr=V)
    trace.add(1, Kind.INV_ALL, Context.TASK)
    trace.add(1, Kind.NMI_REF, Context.TASK)
    trace.add(0, Kind.UNMAP, slot=0)
    trace.add(0, Kind.NOTIFY_END)
    trace.report(1, C)
    assert classes(judge(plan(), trace.stream()))["NONE"] == 1


def test_another_order_of_holds_is_predicted() -> None:
    """CPU 0 then CPU 1 shared a frame; swapped around, they would not have."""
    trace = Trace()
    for cpu, frame in ((0, A), (1, A), (1, B)):
        trace.report(cpu, frame)
    report = judge(plan(), trace.stream())
    assert report.verdict is Verdict.PREDICTED
    finding = report.findings[0]
    assert finding.reordered
    assert (finding.cpus, finding.frames) in (((1, 0), (B, A)), ((0, 1), (A, B)))


def test_one_cpu_alone_is_predicted_with_its_assumption() -> None:
    """Tests bound to one CPU would otherwise hide the race; the assumption is named."""
    trace = Trace()
    for frame in (A, B, A, B):
        trace.report(0, frame)
    report = judge(plan(), trace.stream())
    assert report.verdict is Verdict.PREDICTED
    assert "another CPU could have taken" in report.findings[0].explanation
    assert judge(plan(cpus=1), trace.stream()).verdict is Verdict.CLEAN


def test_one_cpu_alone_is_never_clean_without_handlers() -> None:
    """Inlined handlers would make one notification of a whole run: a false clean. Nothing tells
    whether they were several, so a prediction could be a false one."""
    for copies in (True, False):
        trace = Trace()
        for frame in (A, B, A, B):
            trace.page(0, frame)
        stream, base = trace.stream(), plan()
        seen = {"MAP", "UNMAP", "INV_PAGE", "READ", *(("COPY", "COPY_END") if copies else ())}
        if not copies:
            stream = stream[~np.isin(stream["kind"], (Kind.COPY, Kind.COPY_END))]
        # The others' places stay: an event names its probe by number.
        probes = tuple(p if p.kind in seen else replace(p, kind="EDIT") for p in base.probes)
        report = judge(replace(base, probes=probes), stream)
        assert report.verdict is Verdict.INCONCLUSIVE
        assert any("nothing tells them apart" in reason for reason in report.reasons)


def test_one_hold_can_not_race_with_itself() -> None:
    """Whole lock holds move: two pages of one report never meet on two CPUs."""
    trace = Trace()
    trace.report(0, A, B)
    assert not judge(plan(), trace.stream()).findings


def test_a_page_lock_lets_another_cpu_in_between_pages() -> None:
    """Before 5.1 the IRQ slot's lock spans a page: another CPU can map in between."""
    trace = Trace()
    trace.report(1, A, flush=True)
    trace.report(0, A, B)
    by_page = judge(plan(Slot("irq", None, V, "page")), trace.stream())
    assert [(f.cpus, f.frames) for f in by_page.findings] == [((1, 0), (A, B))]
    assert not judge(plan(), trace.stream()).findings


def test_pti_makes_none_uncertain() -> None:
    """With PTI a CR3 write, which is not traced, may have dropped the entry."""
    report = judge(replace(plan(), pti=True), bounce().stream())
    assert classes(report) == {"UNCERTAIN": 6}
    assert report.verdict is not Verdict.CLEAN


def test_a_hypervisors_broadcast_is_no_proof() -> None:
    """HCR_EL2.FB saves a KVM guest whose kernel is not safe on bare metal: neither clean nor
    observed."""
    report = judge(replace(plan(), forced_broadcast=True), bounce().stream())
    assert report.verdict is Verdict.PREDICTED
    assert classes(report)["INCIDENTAL"] == classes(judge(plan(), bounce().stream()))["NONE"]
    assert "bare metal" in report.findings[0].explanation
    bare = judge(replace(plan(), forced_broadcast=True), bounce(unmap_flush=False).stream())
    assert bare.verdict is Verdict.OBSERVED  # nothing that a hypervisor could spread


def test_a_flush_by_everybody_during_the_unmap_is_a_broadcast() -> None:
    """A shootdown made of local invalidations protects like a TLBI IS."""
    trace = Trace()
    for i in range(6):
        x, y = i % 2, (i + 1) % 2
        trace.add(x, Kind.NOTIFY)
        trace.add(x, Kind.MAP, phys=(A, B)[x], slot=0)
        trace.add(x, Kind.READ, addr=V)
        trace.add(x, Kind.UNMAP, slot=0)
        trace.add(y, Kind.INV_PAGE, addr=V)
        trace.add(y, Kind.NMI_REF, Context.TASK)  # its flush is over
        trace.add(x, Kind.INV_PAGE, addr=V)
        trace.add(x, Kind.NOTIFY_END)
    report = judge(plan(), trace.stream())
    assert (report.verdict, classes(report)["BROADCAST"]) == (Verdict.CLEAN, 5)


@pytest.mark.parametrize("copy", [False, True])
def test_a_broadcast_after_the_next_map_is_none_of_the_unmap(copy: bool) -> None:
    """A module may have no copy function, and a broadcast may come when the lock is dropped:
    one that y's access did not wait for would make the access look safe."""
    trace = Trace()
    trace.report(0, B)
    trace.report(1, A)
    if copy:
        trace.add(1, Kind.COPY, phys=A, size=64)
    trace.add(1, Kind.MAP, phys=A, slot=0)
    trace.add(1, Kind.READ, addr=V, size=64)
    for kind in (Kind.UNMAP, Kind.INV_PAGE, Kind.UNMAP_END):
        trace.add(1, kind, addr=V, slot=0)
    trace.report(0, B)
    trace.add(1, Kind.BCAST_ALL)
    trace.add(1, Kind.BCAST_END)
    if copy:
        trace.add(1, Kind.COPY_END)
    report = judge(plan(), trace.stream())
    assert classes(report) == {"UNCERTAIN": 1, "NONE": 2, "FRESH": 1}


def test_touched_episodes_never_predict() -> None:
    """A flush that was lost must not turn into a predicted race."""
    trace = Trace()
    for frame in (A, B, A, B):
        trace.report(0, frame)
    trace.lose(0, trace.now, cause=Cause.MISSED, point=POINTS.index("INV_PAGE"), cpu=ALL_CPUS)
    assert not judge(plan(), trace.stream()).findings


def test_order_within_the_clock_error_is_uncertain() -> None:
    """With clocks this bad nobody can say who came first: not observed, not clean."""
    report = judge(plan(error=10**9), bounce().stream())
    assert classes(report) == {"UNCERTAIN": 6}
    assert report.patterns["stale"].observed == 0
    flushed = judge(plan(error=10**9), bounce(flush=True).stream())
    assert classes(flushed) == {"MAP_FLUSH": 6}
    # Whether two CPUs were in the slot at once is open too, but its lock is known.
    assert flushed.verdict is Verdict.CLEAN


def test_late_stamp_loses_against_buffer_order() -> None:
    """An NMI in the clock read stamps the outer event late; the buffer knows better."""
    trace = bounce(flush=True)
    stream = trace.stream()
    late = np.flatnonzero(stream["kind"] == Kind.MAP)[2]
    stream["ts"][late] += 3 * STEP
    assert judge(plan(), stream).verdict is Verdict.CLEAN


PAGE = st.fixed_dictionaries(
    {
        "cpu": st.integers(0, 2),
        "frames": st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=2),
        "flush": st.booleans(),
        "pre": st.booleans(),
        "unmap_flush": st.booleans(),
        "broadcast": st.booleans(),
    }
)
LUCK = st.fixed_dictionaries({"cpu": st.integers(0, 2), "luck": st.just(True)})
RUNS = st.lists(st.one_of(PAGE, LUCK), min_size=1, max_size=14)


def record(run: list[dict[str, object]]) -> Trace:
    trace = Trace()
    for op in run:
        how = dict(op)
        cpu = int(how.pop("cpu"))  # type: ignore[call-overload]
        if how.pop("luck", False):
            trace.add(cpu, Kind.INV_ALL, Context.TASK)
            trace.add(cpu, Kind.NMI_REF, Context.TASK)
        else:
            frames = how.pop("frames")
            trace.report(cpu, *frames, **how)  # type: ignore[misc]
    return trace


def model(stream: np.ndarray, cpus: int = 3) -> list[bool]:
    """For each access: may its CPU hold another frame? Stepwise, straight from "May hold"."""
    may: list[set[int]] = [set() for _ in range(cpus)]
    live: int | None = None
    answers = []
    for e in stream[np.argsort(stream["ts"], kind="stable")]:
        cpu, kind = int(e["cpu"]), Kind(int(e["kind"]))
        if kind == Kind.MAP:
            live = int(e["phys"])
            for held in may:
                held.add(live)
        elif kind == Kind.UNMAP:
            live = None
        elif kind in (Kind.INV_PAGE, Kind.INV_ALL):
            may[cpu] = {live} - {None}
        elif kind == Kind.BCAST_RANGE:
            may = [{live} - {None} for _ in range(cpus)]
        elif kind == Kind.READ:
            answers.append(bool(may[cpu] - {live}))
    return answers


@settings(max_examples=120, deadline=None)
@given(RUNS)
def test_none_is_exactly_what_the_model_allows(run: list[dict[str, object]]) -> None:
    """Every possible stale access is `none`, and nothing else is: no false clean, no false race."""
    stream = record(run).stream()
    engine = Engine(plan(cpus=3))
    judged = engine.feed(stream) + engine.finish()
    got = [int(c) == Class.NONE for slot in judged for c in slot.cls]
    assert got == model(stream)


@settings(max_examples=50, deadline=None)
@given(RUNS, st.data())
def test_batches_do_not_matter(run: list[dict[str, object]], data: st.DataObject) -> None:
    """A live daemon cuts the stream anywhere; the verdict must not depend on where."""
    stream = record(run).stream()
    cuts = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=6))
    whole, parts = judge(plan(cpus=3), stream), judge(plan(cpus=3), *batches(stream, *cuts))
    assert parts.verdict == whole.verdict
    assert [s.classes for s in parts.slots] == [s.classes for s in whole.slots]
    assert [s.handoffs for s in parts.slots] == [s.handoffs for s in whole.slots]
    assert [s.latent for s in parts.slots] == [s.latent for s in whole.slots]
    assert [(f.cpus, f.frames, f.count) for f in parts.findings] == [
        (f.cpus, f.frames, f.count) for f in whole.findings
    ]


@settings(max_examples=50, deadline=None)
@given(RUNS, st.data())
def test_losing_events_never_makes_it_clean(
    run: list[dict[str, object]], data: st.DataObject
) -> None:
    """The worst bug: a lossy capture that says clean although the whole one does not."""
    trace = record(run)
    stream = trace.stream()
    whole = judge(plan(cpus=3), stream)
    begin = data.draw(st.integers(0, len(stream) - 2))
    end = data.draw(st.integers(begin + 1, len(stream) - 1))
    cpu = data.draw(st.integers(0, 2))
    hit = (np.arange(len(stream)) >= begin) & (np.arange(len(stream)) < end)
    hit &= (stream["cpu"] == cpu) & (stream["kind"] != Kind.MARK)
    lossy = Trace(trace.now)
    lossy.records = [stream[~hit][:-1]] if (~hit).sum() > 1 else []
    lossy.lose(int(stream["ts"][begin]), int(stream["ts"][end]), cause=Cause.OVERRUN, cpu=cpu)
    if whole.verdict is not Verdict.CLEAN:
        assert judge(plan(cpus=3), lossy.stream()).verdict is not Verdict.CLEAN


def test_what_happened_in_the_recorded_order() -> None:
    """Evidence of a race that luck saved would not be kept, or that of another order be."""
    for field in ("observed", "incidental", "never_safe", ""):
        stale = Stale(plan(), lambda _: empty())
        if field:
            setattr(stale, field, 1)
        assert stale.happened is bool(field)
        assert stale.predicted == (field in ("incidental", "never_safe"))
