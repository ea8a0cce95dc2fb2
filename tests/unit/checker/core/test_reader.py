# SPDX-License-Identifier: Apache-2.0
"""Effects and their bounds, read from storms a second time: by each event's place alone, as
DESIGN says it ("Effects"), and without the reader's state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ghesrace.checker.core import run, words
from ghesrace.events import Context, Kind, empty, joined
from ghesrace.plan import Probe, Slot
from tests.build.trace import A, B, Trace, V, implying, plan
from tests.build.uncompiled import all_uncompiled
from tests.mutate import storm

from .reading import covered, feed

CORE = all_uncompiled(run)
NEVER, NOWHERE = words.NEVER, words.NOWHERE
BROADCASTS = (Kind.BCAST_RANGE, Kind.BCAST_ALL, Kind.BCAST_END)
OWN = (Kind.INV_PAGE, Kind.INV_RANGE, Kind.INV_ALL)


class Buffer:
    """One CPU's events by their places, which begin at 1, with stamps that none of the next
    contradicts."""

    def __init__(self, events: Any) -> None:
        self.events = [None, *events]
        self.stamps = [0, *events["ts"].tolist()]
        for at in range(len(self.stamps) - 2, 0, -1):
            self.stamps[at] = min(self.stamps[at], self.stamps[at + 1])

    def kind(self, at: int) -> int:
        return int(self.events[at]["kind"])

    def over(self, at: int) -> int:
        """The place of the next event in that context, or in one that it interrupted."""
        ctx = self.events[at]["ctx"]
        behind = range(at + 1, len(self.events))
        return next((n for n in behind if self.events[n]["ctx"] <= ctx), NEVER)

    def stamp(self, at: int) -> int:
        return NEVER if at == NEVER else self.stamps[at]

    def newest(self, before: int, page: int, slot: int) -> tuple[int, int]:
        """Stamp and place of the newest own invalidation of a page that is over by a place."""
        over = [
            at
            for at in range(1, before)
            if self.kind(at) in OWN and self.over(at) <= before
            if covered(self.events[at], page) or self.events[at]["slot"] == slot
        ]
        return (self.stamps[over[-1]], over[-1]) if over else (NOWHERE, NOWHERE)


def read(made: Any) -> tuple[Any, dict[int, Buffer]]:
    """A core that has read a storm, without its broadcasts, and judged nothing; the buffers."""
    events = made.events[~(joined([empty(), made.events])["kind"] >= Kind.LOSS)]
    for kind in BROADCASTS:
        events = events[events["kind"] != kind]
    core = CORE.Core(made.plan)
    core.feed(events)
    return core, {cpu: Buffer(events[events["cpu"] == cpu]) for cpu in range(3)}


def test_when_each_effect_took_place() -> None:
    """A bound that is too tight proves an order that was not; one too wide leaves all open."""
    episodes = 0
    for seed in range(2000, 2025):
        made = storm.Storm(seed)
        core, buffers = read(made)
        for slot in core.slots:
            for hold in slot.holds:
                buffer = buffers[hold.cpu]
                assert hold.end_first <= buffer.stamp(hold.end_pos)
                assert hold.map_first <= hold.end_first <= hold.close
                assert hold.begin_last == hold.map_first == buffer.stamps[hold.pos_first]
                assert NOWHERE <= hold.since_pos <= hold.pos_first
                if hold.entry_pos != NOWHERE:
                    assert hold.entry == buffer.stamps[hold.entry_pos]
                    begun = Kind.NOTIFY if hold.in_handler else Kind.COPY
                    assert buffer.kind(hold.entry_pos) in (begun, Kind.COPY)
                for one in hold.all():
                    episodes += one.judged
                    if one.judged:
                        check(one, buffer, slot)
    assert episodes > 150


def check(one: Any, buffer: Buffer, slot: Any) -> None:
    """One episode's bounds."""
    event = buffer.events[one.map_pos]
    assert (buffer.kind(one.map_pos), int(event["slot"])) == (Kind.MAP, slot.number)
    assert one.frame == int(event["phys"])
    assert one.seq_map == int(event["seq"])
    assert one.map_first == buffer.stamps[one.map_pos]
    assert one.map_last == buffer.stamp(buffer.over(one.map_pos))
    if one.pre_first == NEVER and slot.address:
        newest = buffer.newest(one.map_pos, slot.address, slot.number)
        assert (one.luck_map_first, one.luck_map_pos) == newest
    if one.read_seen:
        (at,) = (n for n in range(1, len(buffer.events)) if buffer.events[n]["seq"] == one.read_seq)
        assert buffer.kind(at) in (Kind.READ, Kind.WRITE)
        assert one.writes == (buffer.kind(at) == Kind.WRITE) or one.writes
        assert (one.read_first, one.read_last) == (buffer.stamps[at], buffer.stamp(buffer.over(at)))
        if slot.address:
            assert (one.luck_first, one.luck_pos) == buffer.newest(at, slot.address, slot.number)
    else:
        assert one.read_first == one.map_first
    if one.unmapped and not one.left_open:
        at = one.clear_pos_first
        assert buffer.kind(at) == (Kind.MAP if one.replaced else Kind.UNMAP) or one.unmap_over
        if buffer.kind(at) in (Kind.MAP, Kind.UNMAP) and at != one.map_pos:
            assert one.unmap_first == buffer.stamps[at]
            assert one.clear_pos_last == buffer.over(at)
            assert one.clear_last == buffer.stamp(buffer.over(at))
    if one.left_open and not one.unmapped:
        assert one.clear_pos_first == one.map_pos
        assert one.unmap_first == (one.read_first if one.read_seen else one.map_first)
    if one.flush_first != NEVER and one.unmapped:
        flushes = {
            buffer.stamps[n]: buffer.stamp(buffer.over(n))
            for n in range(one.map_pos, len(buffer.events))
            if buffer.kind(n) in OWN
        }
        assert one.flush_first in flushes
        assert one.flush_last in (NEVER, *flushes.values())


def test_when_tasks_go_on_is_noted_a_microsecond_apart() -> None:
    """All of a busy task's events would be kept for a second; or the first behind an interrupt
    would not, which ends what a loss hid."""
    trace = Trace()
    for at, kind in ((100, 0), (1_099, 0), (1_100, 0), (1_500, 2), (1_600, 0), (1_700, 0)):
        trace.add(0, Kind.NMI_REF, storm.TASK if not kind else storm.IRQ)
        trace.records[-1]["ts"] = at
    assert feed(trace).reader.cpus[0].tasks == [100, 1_100, 1_600]


def unknown() -> Any:
    """A plan of slots whose pages nobody knows."""
    slots = [Slot(name, n, None, "report") for n, name in enumerate(("a", "b"))]
    return replace(plan(), slots=tuple(slots))


def test_an_access_that_names_its_slot_is_of_no_other() -> None:
    """The page of a slot would be learnt from another slot's access."""
    for named, seen in ((0, False), (1, True), (-1, True)):
        trace = Trace()
        trace.add(0, Kind.MAP, phys=A, slot=1)
        trace.add(0, Kind.READ, addr=V + 8, slot=named)
        core = CORE.Core(unknown())
        core.walk(joined(trace.records))  # without a look at the batch first
        slot = core.slots[1]
        assert slot.holds[0].first.read_seen is seen
        assert (slot.known, slot.address) == ((True, V) if seen else (False, 0))


def test_a_flush_just_before_a_map_is_over_before_what_follows_it() -> None:
    """A broadcast behind it would make it last longer."""
    trace = Trace()
    trace.add(0, Kind.INV_PAGE, addr=V)
    trace.add(0, Kind.NMI_REF, storm.NMI)
    trace.add(0, Kind.EDIT, addr=V, size=1)
    trace.add(0, Kind.BCAST_ALL)
    trace.add(0, Kind.BCAST_END)
    trace.add(0, Kind.MAP, phys=A, slot=0)
    first = feed(trace).slots[0].holds[0].first
    assert (first.pre_first, first.pre_last) == (1_010_000, 1_030_000)


def test_since_when_a_context_may_run() -> None:
    """What ran in it, or below it, was over before; what ran above may have interrupted it."""
    trace = Trace()
    for ctx in (storm.TASK, storm.IRQ, storm.NMI, storm.SOFTIRQ):
        trace.add(0, Kind.SHOOTDOWN, ctx)
    assert feed(trace).reader.cpus[0].levels[storm.SOFTIRQ].since_pos == 1
    for ctx in (storm.IRQ, storm.TASK, storm.IRQ):
        trace.add(0, Kind.SHOOTDOWN, ctx)
    levels = feed(trace).reader.cpus[0].levels
    assert levels[storm.IRQ].since_pos == 6
    assert (levels[storm.IRQ].edge_pos, levels[storm.TASK].edge_pos) == (7, 1)


def test_the_end_of_a_stream_leaves_open_whether_a_flush_came_before_the_access() -> None:
    """It would be called surely none, or surely one."""
    for read, flush in ((False, words.MAYBE), (True, words.SURE)):
        trace = Trace()
        trace.add(0, Kind.MAP, phys=A, slot=0)
        trace.add(0, Kind.INV_PAGE, addr=V)
        if read:
            trace.add(0, Kind.READ, addr=V)
        core = feed(trace)
        (hold,) = core.slots[0].holds
        core.cut(hold)
        assert hold.first.map_flush == flush
        assert (hold.closed, hold.close, hold.first.left_open) == (True, NEVER, False)
        assert hold.first.unmap_first == max(hold.first.map_first, hold.first.read_first)


def test_the_return_of_an_unmap_is_of_its_slot() -> None:
    """One that names no slot is of each that is unmapped; one of a slot whose unmap was not seen
    ends that."""
    for slot, over in ((0, True), (-1, True), (1, False)):
        trace = Trace()
        trace.add(0, Kind.MAP, phys=A, slot=0)
        trace.add(0, Kind.READ, addr=V)
        trace.add(0, Kind.UNMAP, slot=0)
        trace.add(0, Kind.UNMAP_END, slot=slot)
        trace.add(0, Kind.UNMAP_END, slot=slot)
        core = CORE.Core(replace(unknown(), slots=(Slot("a", 0, V, "report"), unknown().slots[1])))
        core.feed(joined(trace.records))
        first = core.slots[0].holds[0].first
        assert first.unmap_over == (1_040_000 if over else NEVER)
    for slot, ended in ((0, True), (-1, False)):
        trace = Trace()
        trace.add(0, Kind.MAP, phys=A, slot=0)
        trace.add(0, Kind.UNMAP_END, slot=slot)
        first = feed(trace).slots[0].holds[0].first
        assert (first.unmapped, first.left_open) == (ended, ended)


def test_another_task_is_another_run_and_another_pid_in_an_interrupt_is_none() -> None:
    """An interrupt shows the pid of what it interrupted, or none; a task was preempted."""
    for ctx, closed in ((storm.TASK, True), (storm.IRQ, False), (storm.NMI, False)):
        trace = Trace()
        trace.add(0, Kind.NOTIFY, ctx, pid=5)
        trace.add(0, Kind.MAP, ctx, phys=A, slot=0, pid=5)
        trace.add(0, Kind.UNMAP, ctx, slot=0, pid=5)
        trace.add(0, Kind.SHOOTDOWN, ctx, pid=6)
        core = feed(trace)
        assert core.slots[0].holds[0].closed is closed
        assert core.reader.cpus[0].levels[ctx].in_handler is not closed


def test_how_deep_in_copies_a_context_is() -> None:
    """A map would be taken for one inside of another copy, or its end for a missed one."""
    trace, depths = Trace(), []
    for kind in (Kind.COPY_END, Kind.COPY, Kind.COPY, Kind.COPY_END, Kind.COPY_END, Kind.COPY_END):
        trace.add(0, kind)
        level = feed(trace).reader.cpus[0].levels[storm.IRQ]
        depths.append(level.copy_depth)
    assert depths == [0, 1, 2, 1, 0, 0]


def procs(handler: bool) -> Any:
    """CPU 0's task calls ghes_proc() twice, in a *handler* or in none; in between CPU 1 reports."""
    inner = len(plan().probes)
    called = (
        Probe("notify-proc", "NOTIFY", "ghes_proc", "kprobe"),
        Probe("notify-proc", "NOTIFY_END", "ghes_proc", "kprobe"),
    )
    trace = Trace()
    trace.report(1, A)
    if handler:
        trace.add(0, Kind.NOTIFY, Context.TASK)
    for frame in (A, B):
        trace.add(0, Kind.NOTIFY, Context.TASK, point=inner)
        trace.page(0, frame, ctx=Context.TASK)
        trace.add(0, Kind.NOTIFY_END, Context.TASK, point=inner + 1)
        trace.report(1, B)
    if handler:
        trace.add(0, Kind.NOTIFY_END, Context.TASK)
    made = replace(plan(), probes=(*plan().probes, *called))
    core = CORE.Core(made)
    return [one.why for one in [*core.feed(trace.stream()), *core.finish()]]


def test_a_task_that_calls_ghes_proc_holds_the_lock_around_it() -> None:
    """ghes_probe() takes the lock around the call: a source that is added again in a storm made all
    that other CPUs mapped since the last one `inconsistent`."""
    assert words.INCONSISTENT not in procs(handler=False)


def test_ghes_proc_in_a_handler_ends_no_hold() -> None:
    """The handler has the lock around all of its calls: two CPUs in it at once are an overlap."""
    assert words.INCONSISTENT in procs(handler=True)


@pytest.mark.parametrize("traced", [None, Kind.MAP_END, Kind.UNMAP_END])
@pytest.mark.parametrize("write", [Kind.MAP, Kind.UNMAP])
@pytest.mark.parametrize("does", ["flush-inside", "may-free"])
@pytest.mark.parametrize("then", [Kind.INV_PAGE, Kind.NMI_REF])
def test_whether_the_end_of_a_write_was_seen(
    traced: Kind | None, write: Kind, does: str, then: Kind
) -> None:
    """A write whose own function went on would have been seen to be over, and be called torn."""
    base = implying(plan(), "MAP", does)
    ends = [Probe("e", traced.name, "e", "kprobe")] if traced is not None else []
    trace = Trace()
    trace.add(0, Kind.MAP, phys=A, slot=0)
    if write == Kind.UNMAP:
        trace.add(0, Kind.READ, addr=V)
        trace.add(0, Kind.UNMAP, slot=0)
    begin = trace.now
    trace.add(0, then, addr=V)
    core = CORE.Core(replace(base, probes=(*base.probes, *ends)))
    core.feed(joined(trace.records))
    span = core.edits.writes[-1]
    assert (span.kind, span.t, span.last) == (write, begin, trace.now)
    ended = traced == (Kind.MAP_END if write == Kind.MAP else Kind.UNMAP_END)
    assert span.ended is (ended or (does == "flush-inside" and then == Kind.INV_PAGE))


@pytest.mark.parametrize(
    ("ctx", "flags", "noted"),
    [
        (Context.TASK, 0, []),
        (Context.SOFTIRQ, 0, []),
        (Context.TASK, 1, [True]),
        (Context.IRQ, 0, [False]),
        (Context.NMI, 1, [True]),
    ],
)
def test_where_a_shootdown_must_not_be_sent(ctx: Context, flags: int, noted: list[bool]) -> None:
    """A finding would not say that interrupts were off, or one that may be sent would be one."""
    trace = Trace()
    trace.add(0, Kind.SHOOTDOWN, ctx=ctx, flags=flags)
    core = CORE.Core(plan())
    core.feed(joined(trace.records))
    assert [sent.off for sent in core.reader.shootdowns] == noted
