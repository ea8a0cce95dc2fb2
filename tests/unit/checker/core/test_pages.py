# SPDX-License-Identifier: Apache-2.0
"""Maps, unmaps and what is missing of them, by records of a few events."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ghesrace.checker.core import holds, pages, run, state, words
from ghesrace.events import Kind, joined, mark
from ghesrace.plan import Slot
from tests.build.trace import STEP, A, B, Trace, V, implying, plan
from tests.build.uncompiled import all_uncompiled
from tests.mutate import storm

from .reading import feed
from .test_reader import unknown

CORE, HOLDS, PAGES = all_uncompiled(run), all_uncompiled(holds), all_uncompiled(pages)
STATE = all_uncompiled(state)
NEVER, PAGE = words.NEVER, words.PAGE


def test_a_copy_that_another_hid_is_given_up() -> None:
    """A hold that nothing ends would keep all that comes behind it from being judged."""
    trace = Trace()
    for phys in (A, B):
        trace.add(0, Kind.COPY)
        trace.add(0, Kind.MAP, phys=phys, slot=0)
    trace.add(0, Kind.READ, addr=V)
    core = feed(trace)
    (slot,) = core.slots
    outer, inner = slot.holds
    assert (outer.closed, inner.closed) == (False, False)
    core.force(2_000_000_000)
    at = outer.map_first + words.FORCE_CLOSE_NS
    assert (outer.closed, outer.close, outer.first.left_open) == (True, at, True)
    assert (inner.closed, inner.close) == (True, inner.map_first + words.FORCE_CLOSE_NS)
    place = core.reader.cpus[0].levels[2].places[0]
    assert (place.outer, place.hold, place.episode) == (None, None, None)


def test_a_frame_is_a_page() -> None:
    """Two addresses in one frame would be two frames: a race of an entry with itself."""
    for more in (0, 1, 8, PAGE - 1):
        trace = Trace()
        trace.add(0, Kind.MAP, phys=A + more, slot=0)
        assert feed(trace).slots[0].holds[0].first.frame == A


def test_what_is_missing_is_noted_with_its_bounds() -> None:
    """A loss would be asked for an event of another kind or time, and explain it or not."""
    trace = Trace()
    trace.add(0, Kind.NOTIFY)
    trace.add(0, Kind.COPY)
    trace.add(0, Kind.UNMAP, slot=0)
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.add(0, Kind.READ, addr=V)
    trace.add(0, Kind.COPY_END)
    first = 1_000_000
    core = feed(trace)
    found = [(gap.kinds, gap.cpu, gap.begin - first, gap.end - first) for gap in core.reader.gaps]
    assert found == [(words.MAP, 0, 20_000, 30_000), (words.UNMAPS, 0, 50_000, 60_000)]
    assert core.reader.strays == []
    stray = Trace()
    stray.add(0, Kind.COPY)
    stray.add(0, Kind.READ, addr=V)
    stray.add(0, Kind.READ, addr=V)
    stray.add(0, Kind.COPY)
    assert feed(stray).reader.strays == [first + 20_000]
    # One whose map has a later stamp, and stands before it in its CPU's buffer, is that map's.
    for late in (False, True):
        swapped = Trace()
        swapped.add(0, Kind.COPY)
        swapped.add(0, Kind.READ, addr=V)
        swapped.add(0, Kind.MAP, phys=A, slot=0)
        made = joined(swapped.records)
        if late:
            made["seq"][[1, 2]] = made["seq"][[2, 1]]
        core = CORE.Core(plan())
        core.feed(made)
        assert core.reader.strays == ([] if late else [first + 20_000])


def test_a_map_takes_one_flush_of_its_own_cpu() -> None:
    """An unmap would lose the answers of other CPUs, or those before; one that is older than
    anybody waits is no sure answer, and stays."""
    for behind, left, perhaps in (
        (words.FORCE_CLOSE_NS - 1, [(0, 5), (1, 5), (1, 7)], 0),
        (words.FORCE_CLOSE_NS, [(0, 5), (0, 7), (1, 5), (1, 7)], 1),
    ):
        slot = STATE.SlotState(0, False, 0)
        slot.shots = [HOLDS.Shot(cpu, first) for cpu in (0, 1) for first in (5, 7)]
        PAGES.Pages.take_shot(SimpleNamespace(), slot, 0, 7, 7 + behind)
        assert [(shot.cpu, shot.first) for shot in slot.shots] == left
        assert [(s.cpu, s.first) for s in slot.shots if s.perhaps_own] == [(0, 7)] * perhaps


def test_a_flush_just_before_a_map_is_no_answer_to_another_cpu() -> None:
    """An unmap would be told to a CPU that flushed for itself; another flush is still one."""
    trace = Trace()
    trace.add(0, Kind.INV_PAGE, addr=V)
    trace.add(1, Kind.INV_PAGE, addr=V)
    trace.add(1, Kind.MAP, phys=A, slot=0)
    trace.add(1, Kind.READ, addr=V)
    (slot,) = feed(trace).slots
    assert [(shot.cpu, shot.first) for shot in slot.shots] == [(0, 1_010_000)]
    first = slot.holds[0].first
    assert (first.pre_first, first.pre_last, first.pre_pos) == (1_020_000, 1_030_000, 1)


def test_the_page_before_in_the_same_handler() -> None:
    """Its unmap's flush, if a loss hid it, may be what is taken for this map's; a page of another
    handler is over."""
    for lock in ("page", "report"):
        trace = Trace()
        for frame in (A, B):
            trace.add(0, Kind.NOTIFY)
            for phys in (frame, A):
                trace.add(0, Kind.COPY)
                trace.add(0, Kind.MAP, phys=phys, slot=0)
                trace.add(0, Kind.UNMAP, slot=0)
                trace.add(0, Kind.COPY_END)
            trace.add(0, Kind.NOTIFY_END)
        core = CORE.Core(plan(Slot("irq", 0, V, lock)))
        core.feed(joined(trace.records))
        pages = [one for hold in core.slots[0].holds for one in hold.all()]
        assert len(pages) == 4
        assert [one.before for one in pages] == [None, pages[0], None, pages[2]]


@pytest.mark.parametrize("close", [90, 33, 15])
def test_flushes_that_the_code_holds_and_nobody_saw(close: int) -> None:
    """A loss would be asked for a flush of another time, and explain it or not."""
    hold = HOLDS.Hold(1, 2, 0)
    hold.close = close

    def missing(**fields: Any) -> list[tuple[bool, int, int]]:
        made = PAGES.Pages(None, [], None)
        one = HOLDS.Episode(hold, A, 0)
        one.map_first, one.read_first, one.unmap_first, one.clear_last = 10, 20, 30, 35
        one.map_flush = one.unmap_flush = words.SURE
        for name, value in fields.items():
            setattr(one, name, value)
        hold.forget()
        hold.add(one)
        made.missed_flushes(hold)
        assert all(gap.episode is one for gap in made.gaps)
        assert all((gap.kinds, gap.cpu) == (1 << Kind.INV_PAGE, 1) for gap in made.gaps)
        return [(gap.of_map, gap.begin, gap.end) for gap in made.gaps]

    assert missing(unmapped=True) == []
    for flush in (words.NO, words.MAYBE):
        assert missing(map_flush=flush, read_seen=True) == [(True, 10, min(20, close))]
        assert missing(map_flush=flush, read_seen=False) == [(True, 10, min(30, close))]
        assert missing(map_flush=flush, judged=False) == []
        assert missing(unmapped=True, unmap_flush=flush) == [(False, 30, min(35, close))]
        assert missing(unmap_flush=flush) == []
        for ended in ("replaced", "left_open"):
            assert missing(unmapped=True, unmap_flush=flush, **{ended: True}) == []


@pytest.mark.parametrize("lock", ["page", "report"])
@pytest.mark.parametrize(
    ("unmap", "flush", "handler", "before"),
    [
        ("", False, False, False),  # nothing was unmapped
        ("unmap", False, False, True),
        ("unmap", True, False, False),  # its flush was seen, before this copy
        ("told", False, False, False),
        ("unmap", False, True, False),  # another handler has its own
    ],
)
def test_what_an_unmap_without_a_map_may_have_of_the_page_before(
    lock: str, unmap: str, flush: bool, handler: bool, before: bool
) -> None:
    """The flush that the unmap before this map has would be taken for another one's."""
    trace = Trace()
    for kind in (Kind.NOTIFY, Kind.COPY):
        trace.add(0, kind)
    trace.add(0, Kind.MAP, phys=A, slot=0)
    if unmap:
        trace.add(0, Kind.UNMAP, slot=0)
    if unmap == "told":
        trace.add(0, Kind.BCAST_RANGE, addr=V, size=PAGE)
    if flush:
        trace.add(0, Kind.INV_PAGE, addr=V)
    trace.add(0, Kind.COPY_END)
    if handler:
        trace.add(0, Kind.NOTIFY_END)
        trace.add(0, Kind.NOTIFY)
    trace.add(0, Kind.COPY)
    trace.add(0, Kind.UNMAP, slot=0)
    core = CORE.Core(plan(Slot("irq", 0, V, lock)))
    core.feed(joined(trace.records))
    pages = [one for hold in core.slots[0].holds for one in hold.all()]
    assert [one.judged for one in pages] == [True, False]
    assert pages[1].before is (pages[0] if before else None)


def test_a_flush_before_the_page_was_known_may_have_been_of_it() -> None:
    """It would be surely none; what the plan says of the map is sure all the same."""
    for slots, implied, flush in (
        (unknown().slots, "", words.MAYBE),
        (unknown().slots, "page-after-set", words.SURE),
        ((Slot("a", 0, V, "report"), unknown().slots[1]), "", words.NO),
    ):
        trace = Trace()
        trace.add(0, Kind.MAP, phys=A, slot=0)
        trace.add(0, Kind.READ, addr=V)
        core = CORE.Core(replace(implying(plan(), "MAP", implied), slots=slots))
        core.walk(joined(trace.records))
        assert core.slots[0].holds[0].first.map_flush == flush


@pytest.mark.parametrize(
    ("lock", "then", "ended"),
    [
        ("report", (Kind.NOTIFY,), True),  # the handler is over
        ("report", (Kind.NOTIFY_END,), True),
        ("report", (Kind.READ,), False),
        ("page", (Kind.NOTIFY_END,), True),
        ("page", (Kind.COPY_END, Kind.MAP), True),  # that map is in the outer copy
        ("page", (Kind.COPY_END, Kind.COPY, Kind.MAP), False),
    ],
)
def test_when_a_copy_in_which_another_one_began_is_over(
    lock: str, then: tuple[Kind, ...], ended: bool
) -> None:
    """Its hold would go on for a second, and nothing of that time be judged; or a copy that goes on
    would be called a missed probe."""
    trace = Trace()
    trace.add(0, Kind.NOTIFY)
    for phys in (A, B):
        trace.add(0, Kind.COPY)
        trace.add(0, Kind.MAP, phys=phys, slot=0)
    trace.add(0, Kind.UNMAP, slot=0)
    for kind in then:
        trace.add(0, kind, addr=V, slot=0)
    core = CORE.Core(plan(Slot("irq", 0, V, lock)))
    core.feed(joined(trace.records))
    outer = core.slots[0].holds[0]
    assert (outer.closed, outer.close) == ((True, trace.now) if ended else (False, NEVER))
    assert outer.first.left_open is ended
    place = core.reader.cpus[0].levels[storm.IRQ].places[0]
    assert place.outer is (None if ended else outer.first)
    if ended:
        last = outer.first.last_first
        assert (outer.first.clear_last, outer.first.read_last) == (last, last)
        assert [(gap.kinds, gap.end) for gap in core.reader.gaps] == [(words.UNMAPS, last)]


@pytest.mark.parametrize("kind", [Kind.MAP, Kind.READ, Kind.UNMAP, Kind.INV_PAGE])
def test_what_is_given_up_took_effect_before(kind: Kind) -> None:
    """What came last in a hold that nothing ends would take effect at any time."""
    trace = Trace()
    for one in (Kind.MAP, Kind.READ, Kind.UNMAP, Kind.INV_PAGE):
        trace.add(0, one, **({"phys": A} if one == Kind.MAP else {"addr": V}), slot=0)
        if one == kind:
            break
    core = feed(trace)
    (hold,) = core.slots[0].holds
    at = hold.map_first + words.FORCE_CLOSE_NS
    first = hold.first
    core.force(at)
    assert not hold.closed
    core.force(at + 1)
    assert (hold.closed, hold.close) == (True, at)
    last = {Kind.MAP: first.map_last, Kind.READ: first.read_last, Kind.UNMAP: first.clear_last,
            Kind.INV_PAGE: first.flush_last}[kind]  # fmt: skip
    assert last == at
    assert first.left_open is (kind in (Kind.MAP, Kind.READ))


@pytest.mark.parametrize("later", [900_000_000, 1_100_000_000])
def test_a_flush_that_waits_for_the_lock_for_a_second_is_no_sure_answer(later: int) -> None:
    """The other CPU's unmap would be told to all by a flush that was for this CPU's own map: a
    race would be `broadcast`. Whether its map was read by then must make no difference."""
    trace = Trace()
    trace.add(1, Kind.NOTIFY)
    trace.add(1, Kind.MAP, phys=A, slot=0)
    trace.add(1, Kind.READ, addr=V)
    trace.add(0, Kind.NOTIFY)
    trace.add(1, Kind.UNMAP, slot=0)
    trace.add(0, Kind.INV_PAGE, addr=V)
    flush = trace.now
    trace.add(0, Kind.COPY)
    trace.add(1, Kind.INV_PAGE, addr=V)
    trace.add(1, Kind.NOTIFY_END)
    begun = len(trace.records)
    trace.now = flush + later
    trace.add(0, Kind.MAP, phys=B, slot=0)
    for kind in (Kind.READ, Kind.UNMAP, Kind.NOTIFY_END):
        trace.add(0, kind, addr=V, slot=0)
    whole, cut = CORE.Core(plan()), CORE.Core(plan())
    said = [whole.feed(trace.stream())]
    said.append(cut.feed(joined([*trace.records[:begun], mark(flush + later)])))
    said[1] += cut.feed(joined([*trace.records[begun:], mark(trace.now + 1)]))
    classes = [
        [one.cls for one in [*more, *core.finish()]]
        for core, more in zip((whole, cut), said, strict=True)
    ]
    assert classes[0] == classes[1] == [words.UNCERTAIN, words.UNCERTAIN]


@pytest.mark.parametrize("lock", ["page", "report"])
@pytest.mark.parametrize("inner", ["over", "ended", "before", "none"])
def test_the_unmap_of_a_copy_in_which_another_one_was(lock: str, inner: str) -> None:
    """Two contexts that a record does not tell apart would not be in the slot at once; or a copy
    that was over before would seem to be in the other one; or the outer one go on for ever."""
    trace = Trace()
    trace.add(0, Kind.NOTIFY)
    if inner == "before":
        trace.page(0, B)
    trace.add(0, Kind.COPY)
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.add(0, Kind.COPY)
    if inner in ("over", "ended"):
        trace.add(0, Kind.MAP, phys=B, slot=0)
        trace.add(0, Kind.UNMAP, slot=0)
    if inner == "ended":
        trace.add(0, Kind.COPY_END)
    ended = trace.now
    trace.add(0, Kind.UNMAP, slot=0)
    core = CORE.Core(plan(Slot("irq", 0, V, lock)))
    core.feed(joined(trace.records))
    pages = {one.frame: one for hold in core.slots[0].holds for one in hold.all()}
    outer, other = pages[A], pages.get(B)
    assert (outer.unmapped, outer.unmap_first, outer.outer) == (True, trace.now, None)
    assert (outer.hold.closed, outer.hold.end_first) == (False, trace.now)
    place = core.reader.cpus[0].levels[storm.IRQ].places[0]
    assert (place.outer, place.episode, place.hold) == (None, outer, outer.hold)
    if inner in ("over", "ended"):
        assert other.outer is outer
        assert other.hold is not outer.hold
        by_page = inner == "ended" and lock == "page"
        assert (other.hold.closed, other.hold.close) == (True, ended if by_page else trace.now)
        assert not core.judge.apart(other.hold, outer.hold)
    elif other is not None:
        assert other.outer is None


@pytest.mark.parametrize("handler", [True, False])
@pytest.mark.parametrize("lock", ["page", "report"])
@pytest.mark.parametrize("page", [True, False])
@pytest.mark.parametrize(
    "order", ["flush access", "flush edit access", "access flush", "flush", "access"]
)
def test_a_flush_before_an_access_whose_map_was_missed(
    handler: bool, lock: str, page: bool, order: str
) -> None:
    """A flush of another page's, or one behind the access, would save it; or the map's own, behind
    the page before, would be none."""
    trace = Trace()
    trace.add(0, Kind.NOTIFY if handler else Kind.NOTIFY_END)
    if page:
        trace.page(0, A, pre=True)
    flushed, at = trace.now + STEP, len(trace.records) + 1
    for word in order.split():
        kind = {"flush": Kind.INV_PAGE, "access": Kind.READ, "edit": Kind.EDIT}[word]
        trace.add(0, kind, addr=V)
    trace.add(0, Kind.UNMAP, slot=0)
    core = CORE.Core(plan(Slot("irq", 0, V, lock)))
    core.feed(joined(trace.records))
    pages = [one for hold in core.slots[0].holds for one in hold.all()]
    last = pages[-1]
    assert (last.judged, last.at_start) == (False, not handler and not page)
    took = order.startswith("flush ") and not last.at_start
    behind = took and page and lock == "report"
    assert last.hold.count == 1 + (page and lock == "report")
    assert (last.map_flush, last.map_flush_first) == (
        (words.SURE, flushed) if behind else (words.NO, NEVER)
    )
    before = took and not behind
    pre = (flushed, flushed + STEP, at) if before else (NEVER, NEVER, 0)
    assert (last.pre_first, last.pre_last, last.pre_pos) == pre
    assert last.pre_known is (before and handler and lock == "report")
    assert core.reader.cpus[0].levels[storm.IRQ].places[0].stray_pos == words.NOWHERE


def test_an_access_that_was_not_traced_is_over_once() -> None:
    """A later call would give luck more time than there was before the access."""
    trace = Trace()
    trace.add(0, Kind.MAP, phys=A, slot=0)
    core = feed(trace)
    episode, cpu = core.slots[0].holds[0].first, core.reader.cpus[0]
    for ts in (2_000_000, 3_000_000):
        core.reader.last_access(cpu, episode, ts)
        assert episode.read_last == 2_000_000
    episode.read_seen, episode.read_last = True, NEVER
    core.reader.last_access(cpu, episode, 4_000_000)
    assert episode.read_last == NEVER  # It was traced, and is over when it says so.


@pytest.mark.parametrize(
    ("depth", "copy", "flush", "done"),
    [(1, 6, 20, True), (0, 6, 20, False), (1, 5, 20, False), (1, 4, 20, False), (1, 6, 21, False)],
)
def test_an_unmap_before_the_copy_that_runs_is_done(
    depth: int, copy: int, flush: int, done: bool
) -> None:
    """An unmap whose flush may be yet to come would be over, or one that is over go on."""
    trace = Trace()
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.add(0, Kind.UNMAP, slot=0)
    core = feed(trace)
    level, last = core.reader.cpus[0].levels[2], core.slots[0].holds[0].first
    level.copy_depth, level.copy_pos, level.copy_t = depth, copy, 20
    last.clear_pos_first, last.flush_first = 5, flush
    assert core.reader.done(level, last) is done
    last.broadcast = words.SURE
    assert core.reader.done(level, last)


def test_until_when_a_page_was_seen_to_be_mapped() -> None:
    """A use that is never unmapped would be over at its map, and overlap with nothing."""
    trace = Trace()
    for kind, fields in ((Kind.MAP, {"phys": A}), (Kind.SHOOTDOWN, {}), (Kind.SHOOTDOWN, {})):
        trace.add(0, kind, slot=0, **fields)
    assert feed(trace).slots[0].holds[0].first.last_first == trace.now
    seen = trace.now
    trace.add(0, Kind.UNMAP, slot=0)
    trace.add(0, Kind.SHOOTDOWN)
    assert feed(trace).slots[0].holds[0].first.last_first == seen


def test_a_flush_of_a_mapped_page_may_be_that_of_the_next_map() -> None:
    """Where the unmap was missed, a flush would seem to have come before it was mapped at all."""
    trace = Trace()
    trace.add(0, Kind.MAP, phys=A, slot=0)
    begin = trace.now
    trace.add(0, Kind.READ, addr=V)
    trace.add(0, Kind.INV_PAGE, addr=V)
    place = feed(trace).reader.cpus[0].levels[2].places[0]
    assert (place.pre_in_map, place.pre_since, place.pre_first) == (True, begin, trace.now)
    core = feed(trace)
    core.reader.flushed(core.reader.cpus[0], place, place.pre_first + 1, NEVER - 1)
    assert place.pre_last != NEVER - 1  # It is another one.
