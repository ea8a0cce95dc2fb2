# SPDX-License-Identifier: Apache-2.0
"""What must hold for every stream, over all patterns (hypothesis)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.checker.engine import Engine
from ghesrace.checker.report import Report, Verdict
from ghesrace.events import PAGE_SIZE, Cause, Context, Flag, Kind, empty
from ghesrace.plan import Plan, Slot
from tests.build.judging import judge
from tests.build.trace import STEP, A, B, C, Trace, V, batches, implying, plan

CPUS = 3
ERROR = 1000
NMI_PAGE = V - PAGE_SIZE
SLOTS = (Slot("irq", 644, V, "report"), Slot("nmi", 645, NMI_PAGE, "report"))
ADDRESS = {0: V, 1: NMI_PAGE}
BROADCASTS = (Kind.BCAST_RANGE, Kind.BCAST_ALL)

cpus, frames = st.integers(0, CPUS - 1), st.sampled_from([A, B, C])
HOW = st.fixed_dictionaries(
    {"flush": st.booleans(), "unmap_flush": st.booleans(), "broadcast": st.booleans()}
)
Act = tuple[str, int, int, int, dict[str, bool]]
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["report", "nmi", "nested", "edited", "beside", "crowd", "ipi", "luck"]),
        cpus,
        cpus,
        frames,
        HOW,
    ),
    min_size=1,
    max_size=9,
)
PLANS = st.sampled_from(["", "EDIT may-allocate", "MAP may-allocate", "EDIT may-free"])


def the_plan(implied: str) -> Plan:
    base = plan(*SLOTS, cpus=CPUS, error=ERROR)
    return implying(base, *implied.split()) if implied else base


def record(acts: list[Act]) -> Trace:
    """Reports, NMIs in them and in edits, edits beside them, a lock that fails, IPIs, luck."""
    trace = Trace()
    for what, cpu, other, frame, how in acts:
        nmi = {"ctx": Context.NMI, "slot": 1, "address": NMI_PAGE}
        if what == "report":
            trace.report(cpu, frame, **how)
        elif what == "nmi":
            trace.report(cpu, frame, **nmi, **how)
        elif what == "nested":
            trace.add(cpu, Kind.NOTIFY)
            trace.add(cpu, Kind.MAP, phys=frame, slot=0)
            same = other == cpu  # the NMI uses the irq slot
            page = {"slot": 0, "address": V} if same else {"slot": 1, "address": NMI_PAGE}
            trace.page(cpu, frame, ctx=Context.NMI, **page, **how)
            trace.add(cpu, Kind.UNMAP, slot=0)
            trace.add(cpu, Kind.INV_PAGE, addr=V)
            trace.add(cpu, Kind.NOTIFY_END)
            trace.add(cpu, Kind.NMI_REF, Context.TASK)
        elif what in ("edited", "beside"):
            where = {A: NMI_PAGE, B: V + PAGE_SIZE, C: V - (4 << 20)}[frame]
            trace.add(cpu, Kind.EDIT, Context.TASK, addr=where, size=PAGE_SIZE)
            trace.page(cpu if what == "edited" else other, A, **nmi, **how)
            trace.add(cpu, Kind.EDIT_END, Context.TASK)
        elif what == "crowd" and cpu != other:
            trace.add(cpu, Kind.MAP, phys=frame, slot=0)
            trace.add(other, Kind.MAP, phys=A, slot=0)
            trace.add(cpu, Kind.UNMAP, slot=0)
            trace.add(other, Kind.UNMAP, slot=0)
            for one in (cpu, other):
                trace.add(one, Kind.INV_PAGE, addr=V)
                trace.add(one, Kind.NMI_REF, Context.TASK)
        elif what == "ipi":
            flags = Flag.IRQS_OFF if frame == A else 0
            trace.add(cpu, Kind.SHOOTDOWN, Context.NMI if frame == B else Context.TASK, flags=flags)
        elif what == "luck":
            trace.add(cpu, Kind.INV_ALL, Context.TASK)
            trace.add(cpu, Kind.NMI_REF, Context.TASK)
    return trace


def told(report: Report, name: Callable[[int], int] = int) -> object:
    """Everything that must not change; CPUs under the name that *name* gives them.

    Where a slot's lock was seen to fail its uses stand in no row, and which of them may be stale
    is not told exactly: then only the verdict, and the other patterns.
    """
    broken = report.patterns["overlap"].observed > 0
    patterns = {
        n: (p.observed, p.predicted, tuple(p.harmless.items()), len(p.uncertain))
        for n, p in report.patterns.items()
        if n != "stale" or not broken
    }
    found = sorted(
        (f.pattern, f.severity, str(f.slot), sorted(map(name, f.cpus)), f.frames or (), f.count)
        for f in report.findings
        if not f.reordered  # of several orders that race any may be shown
        if f.pattern != "stale" or not broken
    )
    classes = [s.classes for s in report.slots if not broken]
    return report.verdict, patterns, found, classes


@settings(max_examples=60, deadline=None)
@given(ACTS, PLANS, st.permutations(range(CPUS)))
def test_names_of_cpus_do_not_matter(acts: list[Act], implied: str, new: list[int]) -> None:
    """A race between CPUs 0 and 1 would be one, and between 1 and 0 none."""
    stream = record(acts).stream()
    renamed = stream.copy()
    events = renamed["kind"] != Kind.MARK
    renamed["cpu"][events] = np.array(new)[stream["cpu"][events]]
    p = the_plan(implied)
    old = {n: o for o, n in enumerate(new)}
    assert told(judge(p, renamed), old.__getitem__) == told(judge(p, stream))


@settings(max_examples=40, deadline=None)
@given(ACTS, PLANS, st.integers(1, 2**50))
def test_the_time_of_day_does_not_matter(acts: list[Act], implied: str, by: int) -> None:
    """A host that is long up would be judged otherwise."""
    stream = record(acts).stream()
    later = stream.copy()
    later["ts"] += np.uint64(by)
    p = the_plan(implied)
    assert told(judge(p, later)) == told(judge(p, stream))


@settings(max_examples=100, deadline=None)
@given(ACTS, PLANS, st.data())
def test_where_the_stream_is_cut_does_not_matter(
    acts: list[Act], implied: str, data: st.DataObject
) -> None:
    """A live check, which gets the stream in pieces, would not say what the file says."""
    stream = record(acts).stream()
    if len(stream) < 2:
        return
    cuts = data.draw(st.lists(st.integers(1, max(len(stream) - 1, 1)), max_size=6))
    p = the_plan(implied)
    assert told(judge(p, *batches(stream, *cuts))) == told(judge(p, stream))


@settings(max_examples=60, deadline=None)
@given(ACTS, PLANS, st.data())
def test_a_follower_says_what_its_leader_says(
    acts: list[Act], implied: str, data: st.DataObject
) -> None:
    """If this fails, the verdict of the daemon's window is not what its events deserve."""
    stream = record(acts).stream()
    if len(stream) < 2:
        return
    cuts = data.draw(st.lists(st.integers(1, max(len(stream) - 1, 1)), max_size=4))
    leader = Engine(the_plan(implied))
    whole, windows = leader.follower(), [leader.follower()]
    for part in batches(stream, *cuts):
        leader.feed(part)
        whole.follow(leader, part)
        windows[-1].follow(leader, part)
        windows.append(leader.follower())
    leader.finish()
    whole.follow(leader, empty())
    windows[-1].follow(leader, empty())
    report = whole.report()
    assert told(report) == told(leader.report())
    assert (report.reasons, report.events) == (leader.report().reasons, leader.report().events)
    # What meets across a border of windows is the leader's alone to find.
    for name, result in report.patterns.items():
        found = sum(w.report().patterns[name].observed for w in windows)
        assert found == result.observed if name == "stale" else found <= result.observed


@settings(max_examples=80, deadline=None)
@given(ACTS, PLANS, st.data())
def test_order_within_the_clock_error_does_not_matter(
    acts: list[Act], implied: str, data: st.DataObject
) -> None:
    """Two CPUs' stamps that the clocks can't order would decide the verdict."""
    stream = record(acts).stream()
    near, swapped = stream.copy(), stream.copy()
    at = data.draw(st.integers(0, max(len(stream) - 3, 0)))
    if len(stream) < 3 or stream["cpu"][at] == stream["cpu"][at + 1]:
        return
    # All else is ten times the error apart.
    middle = int(stream["ts"][at]) + STEP // 2
    near["ts"][at : at + 2] = middle, middle + ERROR // 2
    swapped["ts"][at : at + 2] = middle + ERROR // 2, middle
    p = the_plan(implied)
    assert judge(p, swapped).verdict == judge(p, near).verdict


@settings(max_examples=100, deadline=None)
@given(ACTS, PLANS, st.data())
def test_a_recorded_loss_never_makes_it_clean(
    acts: list[Act], implied: str, data: st.DataObject
) -> None:
    """The worst bug: what was lost may have been the race."""
    trace = record(acts)
    stream = trace.stream()
    if len(stream) < 2:
        return
    p = the_plan(implied)
    begin = data.draw(st.integers(0, len(stream) - 2))
    end = data.draw(st.integers(begin + 1, len(stream) - 1))
    cpu = data.draw(cpus)
    hit = (np.arange(len(stream)) >= begin) & (np.arange(len(stream)) < end)
    hit &= (stream["cpu"] == cpu) & (stream["kind"] != Kind.MARK)
    lossy = Trace(trace.now)
    lossy.records = [stream[~hit][:-1]] if (~hit).sum() > 1 else []
    lossy.lose(int(stream["ts"][begin]), int(stream["ts"][end]), cause=Cause.OVERRUN, cpu=cpu)
    if judge(p, stream).verdict is not Verdict.CLEAN:
        assert judge(p, lossy.stream()).verdict is not Verdict.CLEAN


@settings(max_examples=100, deadline=None)
@given(ACTS, PLANS, st.data())
def test_another_invalidation_never_makes_it_worse(
    acts: list[Act], implied: str, data: st.DataObject
) -> None:
    """An invalidation can only remove stale entries. (One between an unmap and its broadcast would
    be the unmap's flush in its stead, as the first one is.)"""
    stream = record(acts).stream()
    if len(stream) < 2:
        return
    at = data.draw(st.integers(0, len(stream) - 2))
    if stream["kind"][at] == Kind.UNMAP and stream["kind"][at + 1] in BROADCASTS:
        return
    more = stream[at : at + 1].copy()
    kind = data.draw(st.sampled_from([Kind.INV_PAGE, Kind.INV_ALL]))
    for name in ("phys", "size", "flags"):
        more[name] = 0
    more["slot"], more["kind"], more["addr"] = -1, kind, V
    more["point"] = [probe.kind for probe in plan().probes].index(kind.name)
    more["ts"] += np.uint64(STEP // 2)
    apart = stream.copy()
    apart["seq"] *= np.uint64(2)
    more["seq"] = apart["seq"][at] + np.uint64(1)
    added = np.concatenate([apart[: at + 1], more, apart[at + 1 :]])
    p = replace(the_plan(implied))
    assert judge(p, added).verdict <= judge(p, stream).verdict
