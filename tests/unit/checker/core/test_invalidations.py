# SPDX-License-Identifier: Apache-2.0
"""What each invalidation and broadcast is of, from when until when."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest

from ghesrace.checker.core import invalidations, run, words
from ghesrace.events import Kind, joined
from ghesrace.plan import Probe, Slot
from tests.build.trace import A, Trace, V, plan
from tests.build.uncompiled import all_uncompiled
from tests.mutate import storm

from .reading import covered, feed

CORE, INVALIDATIONS = all_uncompiled(run), all_uncompiled(invalidations)
NEVER, NOWHERE, PAGE, WORD = words.NEVER, words.NOWHERE, words.PAGE, 2**64 - 1


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


def test_an_unmaps_broadcast_is_over_at_its_end() -> None:
    """Its hold would seem to be over before other CPUs were told."""
    trace = Trace()
    for kind in (Kind.NOTIFY, Kind.MAP, Kind.READ, Kind.UNMAP, Kind.BCAST_ALL, Kind.BCAST_END):
        trace.add(0, kind, addr=V, phys=A, slot=0 if kind in (Kind.MAP, Kind.UNMAP) else -1)
    one = feed(trace).slots[0].holds[0].first
    assert (one.told_first, one.told_last) == (1_050_000, 1_060_000)


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
