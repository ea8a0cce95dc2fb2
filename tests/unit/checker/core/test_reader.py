# SPDX-License-Identifier: Apache-2.0
"""Effects and their bounds, read from storms a second time: by each event's place alone, as
DESIGN says it ("Effects"), and without the reader's state."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from ghesrace.checker.core import holds, invalidations, late, reader, run, state, words
from ghesrace.events import Context, Kind, empty, joined
from ghesrace.plan import Probe, Slot
from tests.build.trace import A, B, Trace, V, implying, plan
from tests.build.uncompiled import all_uncompiled
from tests.mutate import storm

CORE, HOLDS, STATE = all_uncompiled(run), all_uncompiled(holds), all_uncompiled(state)
READER, LATE = all_uncompiled(reader), all_uncompiled(late)
INVALIDATIONS = all_uncompiled(invalidations)
NEVER, NOWHERE, PAGE, WORD = words.NEVER, words.NOWHERE, words.PAGE, words.WORD
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


def covered(event: Any, page: int) -> bool:
    """Whether an invalidation drops a page's entry: byte by byte, around the end of memory."""
    if event["kind"] in (Kind.INV_ALL, Kind.BCAST_ALL):
        return True
    first = int(event["addr"]) // PAGE * PAGE
    if event["kind"] == Kind.INV_PAGE:
        return first == page
    last = int(event["addr"]) + int(event["size"]) - 1
    return first <= page <= last


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


@pytest.mark.parametrize("page", [V, 0x2000, WORD - PAGE + 1])
def test_what_an_invalidation_covers(page: int) -> None:
    """A range that ends a byte before the page, or begins a byte behind it, saves nobody."""
    ask = INVALIDATIONS.Invalidations(None, [], None)
    slot = SimpleNamespace(number=1, known=True, address=page)
    for kind, off, size in product(
        (Kind.INV_PAGE, Kind.INV_RANGE, Kind.INV_ALL, Kind.BCAST_RANGE, Kind.BCAST_ALL),
        (-PAGE - 1, -PAGE, -PAGE + 1, -1, 0, 1, PAGE - 1, PAGE),
        (1, 2, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 1),
    ):
        if not 0 <= page + off <= WORD:
            continue
        event = {"kind": kind, "addr": page + off, "size": size}
        hit = ask.covers(slot, page + off, size, 0, kind)
        assert hit is covered(event, page), event
        assert ask.covers(slot, page + off, size, 1, kind) is (hit or kind == Kind.INV_PAGE)
        first, last = (page + off) // PAGE, (page + off + size - 1) // PAGE
        exact = kind in (Kind.INV_RANGE, Kind.BCAST_RANGE) and first == last == page // PAGE
        if hit:
            assert ask.exact(slot, page + off, size, kind) is (exact or kind == Kind.INV_PAGE)
    unknown = SimpleNamespace(number=1, known=False, address=0)
    assert not ask.covers(unknown, 0, PAGE, 0, Kind.INV_PAGE)
    assert not ask.covers(unknown, 0, PAGE, 1, Kind.INV_RANGE)
    assert ask.covers(unknown, 0, PAGE, 1, Kind.INV_PAGE)
    assert ask.covers(unknown, 0, 0, 0, Kind.INV_ALL)
    assert not ask.exact(unknown, 0, PAGE, Kind.INV_RANGE)


def test_no_stamp_is_later_than_the_next_in_its_buffer() -> None:
    """What an NMI in the clock's read stamped too late would lie behind what came after it."""
    slot, cpu = STATE.SlotState(0, False, V), STATE.Cpu(0, 1)
    hold, other = HOLDS.Hold(0, 2, 0), HOLDS.Hold(1, 2, 0)
    for one in (hold, other):
        one.add(HOLDS.Episode(one, 0, 0))
        one.map_first = one.begin_last = one.end_first = one.entry = one.first.map_first = 50
        one.first.read_first = one.first.pre_since = one.first.luck_first = 50
    slot.holds = [hold, other]
    slot.shots = [HOLDS.Shot(0, 50), HOLDS.Shot(1, 50)]
    slot.tells = [HOLDS.Tell(0, 50), HOLDS.Tell(1, 50)]
    slot.tells[0].last = slot.shots[0].last = 45
    cpu.tasks = [45, 50]
    cpu.cells[0].inv_first = cpu.cells[0].inv_last = 50
    level = cpu.levels[2]
    level.edge_t = level.copy_t = level.last_t = level.call_t = 50
    level.places[0].pre_first = level.places[0].inv_first = level.places[0].tell_first = 50
    LATE.pull_back([slot], cpu, 40)
    assert (hold.map_first, hold.begin_last, hold.end_first, hold.entry) == (40, 40, 40, 40)
    assert (hold.close, hold.first.unmap_first) == (NEVER, NEVER)
    first = hold.first
    assert (first.map_first, first.read_first, first.pre_since, first.luck_first) == (40,) * 4
    assert (other.map_first, other.first.map_first) == (50, 50)
    for pulled, left in (slot.shots, slot.tells):
        assert (pulled.first, pulled.last, left.first, left.last) == (40, 40, 50, NEVER)
    assert cpu.tasks == [40, 40]
    assert (cpu.cells[0].inv_first, cpu.cells[0].inv_last) == (40, 40)
    assert (level.edge_t, level.copy_t, level.last_t, level.call_t) == (40,) * 4
    place = level.places[0]
    assert (place.pre_first, place.pre_last, place.inv_first, place.tell_first) == (
        40,
        NEVER,
        40,
        40,
    )
    cpu.tasks = [30, 35]
    LATE.pull_back([slot], cpu, 35)
    assert cpu.tasks == [30, 35]


def feed(trace: Trace) -> Any:
    core = CORE.Core(plan())
    core.feed(joined(trace.records))
    return core


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


def test_an_unmap_takes_the_first_flush_or_broadcast_behind_it() -> None:
    """The next one is meant for the next map, or for nothing; but code that flushes at home first
    sends its broadcast behind that."""
    flush, told = (Kind.INV_PAGE, {"addr": V}), (Kind.BCAST_RANGE, {"addr": V, "size": PAGE})
    every, returned, other = (Kind.INV_ALL, {}), (Kind.UNMAP_END, {"slot": 0}), (Kind.SHOOTDOWN, {})
    for kinds, flushed, said in (
        ((flush, flush), 0, None),
        ((told, flush), None, 0),
        ((flush, told), 0, 1),
        ((told, told), None, 0),
        ((every,), 0, None),
        ((returned, every), 1, None),
        ((other, every), None, None),  # that may be for another page
        ((other, flush), 1, None),
    ):
        trace = Trace()
        trace.add(0, Kind.MAP, phys=A, slot=0)
        trace.add(0, Kind.UNMAP, slot=0)
        for kind, fields in kinds:
            trace.add(0, kind, **fields)
        one = feed(trace).slots[0].holds[0].first
        stamps = [1_030_000, 1_040_000]
        assert one.flush_first == (NEVER if flushed is None else stamps[flushed])
        assert one.told_first == (NEVER if said is None else stamps[said])
        assert one.unmap_flush == (words.NO if flushed is None else words.SURE)
        assert one.broadcast == (words.NO if said is None else words.SURE)


@pytest.mark.parametrize("another", [False, True])
def test_a_broadcast_whose_begin_was_not_seen_may_have_been_of_the_page(another: bool) -> None:
    """It is luck until its end, which never goes back; nobody knows what it covered. Another one
    that is over before has no end again."""
    trace = Trace()
    if another:
        trace.add(0, Kind.BCAST_ALL)
        trace.add(0, Kind.BCAST_END)
    trace.add(0, Kind.BCAST_END)
    traced = replace(plan(), probes=(*plan().probes, Probe("e", "BCAST_END", "e", "kprobe")))
    core = CORE.Core(traced)
    core.feed(joined(trace.records))
    (slot,) = core.slots
    cell = slot.cells[0]
    first = 1_010_000 if another else NOWHERE
    assert (cell.inv_last, cell.inv_first) == (trace.now, first)
    assert cell.inv_pos_last == len(trace.records)
    told = [(tell.first, tell.last, tell.known) for tell in slot.tells]
    assert told[-1] == (trace.now, trace.now, False)
    assert told[:-1] == [(1_010_000, 1_020_000, True)] * another
    # Where its end is not traced, what follows it ends it.
    assert all(tell.known for tell in feed(trace).slots[0].tells)


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


def test_a_broadcast_whose_end_was_missed_may_go_on_for_ever() -> None:
    """It would be over when the next one is; what belongs to an unmap is no luck."""
    ends = replace(plan(), probes=(*plan().probes, Probe("e", "BCAST_END", "e", "kprobe")))
    for unmap in (False, True):
        trace = Trace()
        trace.add(0, Kind.MAP, phys=A, slot=0)
        trace.add(0, Kind.UNMAP, slot=0)
        if not unmap:
            trace.add(0, Kind.BCAST_RANGE, addr=V, size=PAGE)
            trace.add(0, Kind.BCAST_END)
        for _ in range(2):
            trace.add(0, Kind.BCAST_RANGE, addr=V, size=PAGE)
        core = CORE.Core(ends)
        core.feed(joined(trace.records))
        (slot,), cell = core.slots, core.reader.cpus[0].cells[0]
        first, second = slot.tells[-2:]
        assert (first.given_up, second.given_up) == (True, False)
        assert core.reader.cpus[0].levels[storm.IRQ].tells == [second]
        assert cell.opened == 1
        never = NOWHERE if unmap else NEVER
        assert (cell.inv_last, cell.inv_pos_last) == (never, never)
        before = cell.inv_first
        end = Trace(trace.now)
        end.add(0, Kind.BCAST_END)
        core.feed(joined(end.records))
        assert (first.last, second.last) == (NEVER, trace.now + 10_000)
        assert (cell.opened, cell.inv_first) == (0, trace.now)
        assert before < trace.now
        assert cell.inv_last == (trace.now + 10_000 if unmap else NEVER)


@pytest.mark.parametrize("between", [(), (Kind.READ,), (Kind.UNMAP,), (Kind.READ, Kind.UNMAP)])
def test_a_broadcast_of_a_map_that_is_over_after_the_access_came_too_late(
    between: tuple[Kind, ...],
) -> None:
    """It would seem to have flushed before the access, or a missed unmap to have flushed."""
    ends = replace(plan(), probes=(*plan().probes, Probe("e", "BCAST_END", "e", "kprobe")))
    trace = Trace()
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.add(0, Kind.BCAST_RANGE, addr=V, size=PAGE)
    for kind in (*between, Kind.BCAST_END, Kind.READ):
        trace.add(0, kind, addr=V, slot=0)
    core = CORE.Core(ends)
    core.feed(joined(trace.records))
    one = core.slots[0].holds[0].first
    assert one.waiting_flush is (not between)
    assert one.map_flush == (words.MAYBE if between else words.SURE)


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


def test_stamps_that_are_in_order_pull_nothing_back() -> None:
    """All that is remembered would be walked through at each event that ties with the last."""
    asked = []
    with patch.object(READER, "pull_back", lambda *what: asked.append(what[2])):
        core = CORE.Core(plan())
        for ts in (10, 10, 11, 10, 10, 12):
            trace = Trace()
            trace.add(0, Kind.SHOOTDOWN)
            trace.records[0]["ts"] = ts
            core.feed(trace.records[0])
    assert asked == [10]


@pytest.mark.parametrize("first", [V, V + PAGE, 0])
def test_a_missed_end_is_of_the_slots_that_were_told(first: int) -> None:
    """Another slot's luck would be over before it began, or the end of a later broadcast be that of
    what was given up."""
    slots = (Slot("a", 0, V, "report"), Slot("b", 1, V + PAGE, "report"))
    ends = (*plan().probes, Probe("e", "BCAST_END", "e", "kprobe"))
    trace = Trace()
    for slot in (0, 1):
        trace.add(0, Kind.MAP, phys=A, slot=slot)
        trace.add(0, Kind.UNMAP, slot=slot)
        trace.add(0, Kind.BCAST_RANGE, addr=V + slot * PAGE, size=PAGE)
        trace.add(0, Kind.BCAST_END)
    trace.add(0, Kind.BCAST_ALL)
    trace.add(0, Kind.BCAST_END)
    trace.add(0, Kind.BCAST_RANGE if first else Kind.BCAST_ALL, addr=first, size=PAGE)
    trace.add(0, Kind.BCAST_RANGE, addr=V, size=PAGE)
    trace.add(0, Kind.BCAST_END)
    core = CORE.Core(replace(plan(), slots=slots, probes=ends))
    core.feed(joined(trace.records))
    cells = core.reader.cpus[0].cells
    begun = [trace.now - 10_000, trace.now - 40_000]
    assert [cell.opened for cell in cells] == [0, 0]
    assert [cell.inv_first for cell in cells] == begun
    never = [first in (V, 0), first in (V + PAGE, 0)]
    assert [cell.inv_last == NEVER for cell in cells] == never
