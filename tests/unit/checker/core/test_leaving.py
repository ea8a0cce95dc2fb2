# SPDX-License-Identifier: Apache-2.0
"""The order of holds, and what a hold leaves: each question at, before and behind each tie."""

from __future__ import annotations

from itertools import product
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from ghesrace.checker.core import holds, leaving, state, words
from tests.build.uncompiled import uncompiled

HOLDS, STATE, LEAVING = uncompiled(holds), uncompiled(state), uncompiled(leaving)
NO, MAYBE, SURE = words.NO, words.MAYBE, words.SURE
NEVER, NOWHERE, E = words.NEVER, words.NOWHERE, 2  # E: the clocks' error, ns
FIRST, SECOND, AFTER = 10, 20, 40


class Clocks:
    """Two CPUs' stamps differ by E at most, those of one by nothing."""

    pairs = False
    largest = E

    def error(self, cpu: int, other: int) -> int:
        return 0 if cpu == other and cpu >= 0 else E


def judge(lost: bool = False, cpus: int = 3) -> Any:
    """One that keeps what is left; *lost*: losses may have hidden anything."""
    facts = SimpleNamespace(clocks=Clocks(), error=E, wait=E, cpus=list(range(cpus)),
                            hidden_unmap=0)  # fmt: skip
    losses = SimpleNamespace(
        all=[1] if lost else [],
        hidden_between=lambda *_: lost,
        in_flight=lambda *_: NOWHERE,
    )
    cells = [[STATE.Cell(cpu, 0)] for cpu in range(cpus)]
    reader = SimpleNamespace(cpus={}, by_number=[SimpleNamespace(cells=of) for of in cells])
    slot = STATE.SlotState(0, False, 0)
    slot.cells = [of[0] for of in cells]
    return LEAVING.Leaving(facts, [slot], reader, losses)


def hold(cpu: int = 0, pages: int = 1, frame: int = 1, **fields: Any) -> Any:
    """A closed hold of so many pages."""
    one = HOLDS.Hold(cpu, words.IRQ, 0)
    one.close = 1_000
    for page in range(pages):
        episode = HOLDS.Episode(one, (frame + page) << 12, 0)
        episode.clear_last = 0
        one.add(episode)
    for name, value in fields.items():
        setattr(one, name, value)
    return one


@pytest.mark.parametrize(("end", "may"), [(FIRST + E, True), (FIRST + E + 1, False), (5, True)])
def test_a_hold_may_precede_one_that_begins_within_the_error(end: int, may: bool) -> None:
    """A tie is open: on two CPUs both may be at that instant."""
    one, other = hold(0, end_first=end), hold(1, begin_last=FIRST, end_first=99, pos_first=1)
    other.map_first = FIRST
    one.begin_last = 0
    assert judge().may_precede(one, other) is may
    assert judge().apart(one, other) is may
    assert judge().apart(other, one) is may
    own = hold(1, end_first=99, pos_first=1)
    assert not judge().may_precede(own, other)
    own.pos_first = 0
    assert judge().may_precede(own, other)


@pytest.mark.parametrize(
    ("first", "end", "apart"),
    [(3, 5, True), (3, 6, False), (8, 9, False), (9, 9, True), (6, 7, True), (7, 7, False)],
)
def test_holds_of_one_cpu_are_apart_unless_one_begins_in_the_other(
    first: int, end: int, apart: bool
) -> None:
    """The buffer's order alone decides that."""
    one, other = hold(pos_first=6, end_pos=8), hold(pos_first=first, end_pos=end)
    assert judge().apart(one, other) is judge().apart(other, one) is apart


def test_when_the_slot_was_mapped_next() -> None:
    """What belongs to an unmap would be looked for behind the next map, or not up to it."""
    for seed in range(40):
        dice = Random(seed)
        later = sorted(dice.randrange(9) for _ in range(dice.randrange(6)))
        before = [dice.randrange(9) for _ in range(dice.randrange(3))]
        slot = STATE.SlotState(0, False, 0)
        slot.holds = [hold(map_first=t) for t in later]
        slot.window = [hold(map_first=t) for t in before]
        for end in range(10):
            behind = [t for t in (*later, *before) if t > end]
            assert judge().next_begin(slot, hold(end_first=end)) == min(behind, default=NEVER)


def episode(**fields: Any) -> Any:
    one = hold().first
    for name, value in fields.items():
        setattr(one, name, value)
    return one


def test_when_an_unmap_has_its_answer() -> None:
    """Its return; else its own flush; else what comes behind its clear."""
    assert LEAVING.answered(episode(unmap_over=9, clear_last=5, flush_first=6, flush_last=7)) == 9
    assert LEAVING.answered(episode(clear_last=5, flush_first=6, flush_last=7)) == 7
    assert LEAVING.answered(episode(clear_last=5)) == 5


def test_how_long_the_effects_of_a_hold_last() -> None:
    """A flush of another CPU that came later would be taken for one within, or the reverse."""
    one = hold(pages=2, end_first=5)
    assert LEAVING.latest(one) == 5
    one.first.clear_last, one.last().clear_last = 8, 6
    assert (LEAVING.latest(one), LEAVING.cleared(one)) == (8, 8)
    one.first.flush_last = one.first.told_last = 20
    assert LEAVING.latest(one) == 8
    one.first.flush_first = 9
    assert LEAVING.latest(one) == 20
    one.first.flush_last, one.first.told_first = 10, 9
    assert LEAVING.latest(one) == 20
    one.first.told_last = NEVER
    assert LEAVING.latest(one) == 10
    one.close = 7
    assert (LEAVING.latest(one), LEAVING.cleared(one)) == (7, 7)
    one.close, one.open_end = 30, True
    assert LEAVING.latest(one) == 30


def test_which_unmaps_still_wait_for_their_flush() -> None:
    """One that was flushed, or told, would be taken for one whose flush was lost."""
    for unmapped, flush, told in product((False, True), (NEVER, 5), (NEVER, 5)):
        one = episode(unmapped=unmapped, flush_first=flush, told_first=told, unmap_first=4)
        waits = unmapped and flush == told == NEVER
        assert judge().unflushed(one) is waits
        assert judge(lost=True).lost_flush(one) is (unmapped and flush != NEVER)
        assert not judge().lost_flush(one)


@pytest.mark.parametrize(
    ("flush", "beside", "inconsistent", "lasts"),
    [(5, 4, True, True), (5, 5, True, False), (NEVER, 4, True, False), (NEVER, 9, False, True)],
)
def test_what_overlaps_a_hold_may_load_again_what_that_flushed(
    flush: int, beside: int, inconsistent: bool, lasts: bool
) -> None:
    """Two holds at once: the other's translation is live until it is cleared."""
    one = hold(inconsistent=inconsistent, beside_last=beside)
    assert judge().outlasts(one, flush) is lasts


def test_what_a_hold_drops_and_keeps_of_others() -> None:
    """At a tie neither is sure: a threat that may be before a broadcast stays, one that may be
    behind it is no sure one."""
    kept: dict[str, list[int]] = {"drop_before": [], "keep_behind": []}
    for cpu, at in product((0, 1), range(FIRST - 4, FIRST + 5)):
        for name, left in (
            ("drop_before", hold(cpu, begin_last=at)),
            ("keep_behind", hold(cpu, end_first=at)),
        ):
            newest = STATE.Newest()
            newest.fill([hold(2, begin_last=0, end_first=99).first, left.first])
            teller = hold(1, end_first=FIRST, begin_last=FIRST)
            getattr(judge(), name)(newest, teller)
            if left.first in newest.all():
                kept[name].append(at if not cpu else -at)
    assert kept["drop_before"] == [8, 9, 10, 11, 12, 13, 14]  # of the teller's own CPU none
    assert kept["keep_behind"] == [13, 14, -11, -12, -13, -14]


@pytest.mark.parametrize(("end", "behind"), [(12, True), (13, False), (9, True)])
def test_whether_a_broadcast_may_lie_behind_a_hold(end: int, behind: bool) -> None:
    """A threat that a broadcast may have covered would be a sure one."""
    one = judge()
    (slot,) = one.slots
    assert not one.told_behind(slot, hold(0, end_first=0))
    slot.told_begin = slot.cells[1].told_begin = FIRST
    assert one.told_behind(slot, hold(0, end_first=end)) is behind
    assert one.told_behind(slot, hold(1, end_first=end)) is (end <= FIRST)
    slot.told_begin = 99  # of a CPU whose cell says otherwise
    assert one.told_behind(slot, hold(0, end_first=end)) is behind


def shots(*stamps: tuple[int, int, int], own: bool = False) -> Any:
    """A slot that CPUs invalidated: CPU, begin and end of each."""
    slot = STATE.SlotState(0, False, 0)
    for cpu, first, last in stamps:
        shot = HOLDS.Shot(cpu, first)
        shot.last, shot.perhaps_own = last, own
        slot.shots.append(shot)
    return slot


@pytest.mark.parametrize(
    ("first", "last", "until", "following", "found"),
    [
        (13, 17, 20, 30, SURE),
        (12, 17, 20, 30, MAYBE),  # at the clear, by the clocks' error
        (13, 18, 20, 30, MAYBE),
        (13, 17, 20, 19, MAYBE),  # the next hold may have begun
        (13, 17, 20, 20, SURE),
        (13, 17, NEVER, 30, MAYBE),  # nobody knows how long it waited
        (13, NEVER, 20, 30, MAYBE),
        (5, 8, 20, 30, MAYBE),
        (5, 7, 20, 30, NO),
        (22, 25, 20, 30, MAYBE),
        (23, 25, 20, 30, NO),
        (22, 25, 24, 20, MAYBE),
        (23, 25, 25, 20, NO),
    ],
)
def test_whether_another_cpu_flushed_for_an_unmap(
    first: int, last: int, until: int, following: int, found: int
) -> None:
    """A shootdown by hand would be one that came too early or too late, or be none."""
    one, unmap = judge(), episode(unmapped=True, unmap_first=FIRST, unmap_over=until)
    if until == NEVER:
        unmap.clear_last = NEVER
    slot = shots((1, first, last), (2, 13, 17))
    assert one.shot_by(slot, 0, 1, unmap, following, FIRST) == found
    assert one.shot_by(slot, 0, 3, unmap, following, FIRST) == NO
    perhaps = shots((1, first, last), own=True)
    assert one.shot_by(perhaps, 0, 1, unmap, following, FIRST) == min(found, MAYBE)


def test_every_other_cpu_has_to_flush_for_an_unmap() -> None:
    """One CPU that did not would keep its entry, and be called told."""
    unmap = hold(pages=1, end_first=FIRST)
    unmap.first.unmapped, unmap.first.unmap_first, unmap.first.unmap_over = True, FIRST, 20
    both = shots((1, 13, 17), (2, 13, 17))
    assert judge().shot_down(both, unmap, unmap.first) == SURE
    assert judge().shot_down(shots((1, 13, 17)), unmap, unmap.first) == NO
    assert judge().shot_down(shots((1, 13, 17), (2, 12, 17)), unmap, unmap.first) == MAYBE
    unmap.first.unmapped, unmap.first.map_first = False, 5
    assert judge().shot_down(both, unmap, unmap.first) == NO
    assert judge(lost=True).shot_down(both, unmap, unmap.first) == MAYBE


def test_what_every_other_cpu_takes_of_a_hold() -> None:
    """A threat that is handed to nobody, or to the CPU whose it is, would be none, or its own."""
    one = judge()
    (slot,) = one.slots
    mine, theirs, never = slot.cells
    mine.mapped = theirs.mapped = True
    untold = slot.untold
    left = hold(0, pages=2, begin_last=5, end_first=9, told_index=-1, told_index_maybe=0)
    left.told = MAYBE
    left.first.clear_last, left.last().clear_last = 7, 8
    frames = [x.frame for x in left.all()]
    one.hand_out(slot, left)
    for cell in (theirs, untold):
        assert [x.frame for x in cell.other_maybe.all()] == frames[::-1]
        assert [x.frame for x in cell.other_surely.all()] == frames[1:]
        assert cell.any_other == 5 + E
    for cell in (mine, never):
        assert (cell.other_maybe.count, cell.other_surely.count) == (0, 0)
    assert (mine.ended, mine.began, mine.begun, mine.told_begin) == (9, 9, 5, 5)
    assert (slot.told_begin, slot.told_end, left.count) == (5, NOWHERE, 0)
    assert untold.start_open
    told = hold(1, frame=7, begin_last=20, end_first=25, told=SURE, told_index=0, all_told=True)
    told.told_index_maybe = 0
    one.hand_out(slot, told)
    assert not untold.start_open
    assert untold.other_maybe.count == untold.other_surely.count == 0
    assert (slot.told_end, slot.told_begin) == (25, 20)
    assert mine.other_maybe.count == 0
    again = hold(0, frame=3, begin_last=21, end_first=22)
    one.hand_out(slot, again)  # CPU 1's broadcast may lie behind it
    assert next(x.frame for x in theirs.other_maybe.all()) == 3 << 12
    assert [x.frame for x in untold.other_surely.all()] == []


def test_what_was_left_before_the_own_invalidation_is_no_threat() -> None:
    """At a tie it may be one, and surely is none."""
    found = []
    for at in range(4, 16):
        cell = STATE.Cell(1, 0)
        for since in (cell.surely, cell.maybe):
            since.known, since.end_first, since.begin_last = True, FIRST, FIRST
        judge().give(cell, hold(0, begin_last=at, end_first=at), True)
        found.append((at, cell.other_maybe.count, cell.other_surely.count))
    assert [at for at, maybe, _ in found if maybe] == list(range(8, 16))
    assert [at for at, _, surely in found if surely] == [13, 14, 15]
    cell = STATE.Cell(1, 0)  # of a CPU that never invalidated
    for frame in (1, 2):
        judge().give(cell, hold(0, frame=frame, begin_last=0, end_first=0), True)
        assert (cell.other_maybe.count, cell.other_surely.count) == (frame, frame)
    unknown = hold(0, begin_last=1, end_first=1)  # of which no threat is sure
    unknown.first.frame = words.UNKNOWN_FRAME
    judge().give(cell, unknown, True)
    assert [x.frame >> 12 for x in cell.other_surely.all()] == [2, 1]


def test_what_an_episode_does_to_its_own_cpu() -> None:
    """What it flushed would still threaten it, or what it left would not."""
    for flush, told, kept in ((NO, NO, 1), (SURE, NO, 0), (MAYBE, NO, 1), (NO, SURE, 0)):
        one = judge()
        (slot,) = one.slots
        cell = slot.cells[0]
        left = hold(0, begin_last=5, end_first=9, end_pos=3)
        left.first.unmap_flush, left.first.broadcast = flush, told
        left.first.unmap_first, left.first.flush_first = 8, 9
        one.remember_own(slot, left, left.first, cell)
        assert cell.own_maybe.count == kept
        assert cell.own_surely.count == (flush == told == NO)
        assert cell.any_own is (flush != SURE)
        assert cell.start_open is (kept == 1)
        assert cell.maybe.known is (flush != NO or told != NO)
        assert cell.surely.known is (kept == 0)
        assert cell.surely.at == (NOWHERE if kept else 8)
        if cell.maybe.known:
            assert (cell.maybe.begin_last, cell.maybe.end_first, cell.maybe.end_pos) == (5, 9, 3)


def test_until_when_others_mapped_since_an_own_flush() -> None:
    """What others mapped before it would threaten nobody and yet be told, or be told of nothing; at
    a tie it may be behind. What a broadcast covers was a threat all the same."""
    for reached, told, left in (
        (8, False, NOWHERE),
        (9, False, 9),
        (10, False, 10),
        (8, True, 8),
    ):
        one = judge()
        cell = one.slots[0].cells[0]
        cell.any_own, cell.any_other = True, reached
        one.since_surely(hold(0, begin_last=5, end_first=9), 8, cell, told)
        assert (cell.any_own, cell.any_other) == (told, left)


def test_a_flush_before_the_access_may_have_dropped_what_came_before() -> None:
    """It would still be a sure threat; where nothing was flushed it is one."""
    for flush, pre in product((NO, MAYBE, SURE), (NEVER, 5)):
        one = judge()
        (slot,) = one.slots
        cell = slot.cells[0]
        cell.own_surely.add(hold().first, False)
        mine = hold(0, frame=9, begin_last=5, end_first=9)
        mine.first.map_flush, mine.first.map_flush_first, mine.first.pre_first = flush, 7, pre
        one.remember_own(slot, mine, mine.first, cell)
        may = flush != NO or pre != NEVER
        assert cell.maybe.known is may
        assert cell.own_surely.count == (1 if may else 2)
        assert cell.surely.known is (flush == SURE)
        assert cell.own_maybe.count == 1


def test_a_broadcast_that_may_be_leaves_no_sure_threat_before_it() -> None:
    """Neither of the CPU's own, nor of others."""
    for told, left in ((NO, 1), (MAYBE, 0), (SURE, 0)):
        cell = STATE.Cell(1, 0)
        for newest in (cell.own_surely, cell.other_surely, cell.own_maybe, cell.other_maybe):
            newest.add(hold(2, begin_last=1, end_first=2).first, False)
        teller = hold(0, begin_last=20, end_first=25, told=told, told_index=0, told_index_maybe=0)
        judge().give(cell, teller, False)
        assert (cell.own_surely.count, cell.other_surely.count) == (left, left)
        assert cell.own_maybe.count == cell.other_maybe.count == (told != SURE)
        assert cell.start_open is (told != SURE)


def test_who_was_told_is_asked_once() -> None:
    """A hold would be told by what came after it was judged, beside which others were."""
    one = judge()
    (slot,) = one.slots
    left = hold(0, end_first=FIRST)
    left.first.unmapped, left.first.unmap_first, left.first.unmap_over = True, FIRST, 20
    one.all_shot(slot, left)
    slot.shots = shots((1, 13, 17), (2, 13, 17)).shots
    one.all_shot(slot, left)
    assert (left.told, left.told_index, left.told_index_maybe, left.all_told) == (NO, -1, -1, False)
    again = hold(0, end_first=FIRST)
    again.first.unmapped, again.first.unmap_first, again.first.unmap_over = True, FIRST, 20
    one.all_shot(slot, again)
    assert (again.told, again.told_index, again.all_told) == (SURE, 0, True)


@pytest.mark.parametrize(
    ("told", "index", "maybe", "of_hold"),
    [
        ((NO, NO), -1, -1, NO),
        ((SURE, NO), 0, 0, SURE),
        ((NO, SURE), 1, 1, SURE),
        ((SURE, MAYBE), 0, 1, SURE),
        ((MAYBE, NO), -1, 0, MAYBE),
        ((SURE, SURE), 1, 1, SURE),
    ],
)
def test_the_last_of_a_hold_that_a_broadcast_covers(
    told: tuple[int, int], index: int, maybe: int, of_hold: int
) -> None:
    """What came behind it is left; what came before is not."""
    one, left = judge(), hold(0, pages=2)
    for episode, said in zip(left.all(), told, strict=True):
        episode.unmapped, episode.broadcast = True, said
    one.all_shot(one.slots[0], left)
    assert (left.told_index, left.told_index_maybe, left.told) == (index, maybe, of_hold)
    assert left.all_told is (index == 1)


def test_shootdowns_that_losses_hid_of_every_other_cpu() -> None:
    """One CPU that surely did not flush was not told, whatever is hidden of the others."""
    for hid, late, flushed, unseen in (
        ((1, 2), (), (), True),
        ((), (1, 2), (), True),
        ((1,), (2,), (), True),
        ((1,), (), (), False),
        ((2,), (), (), False),
        ((), (1,), (), False),
        ((1,), (), (2,), True),
        ((), (2,), (1,), True),
        ((), (), (1, 2), False),  # all of them were seen
        ((), (), (), False),
    ):
        one = judge(lost=True)
        one.losses.hidden_between = lambda _, cpu, *__, hid=hid: cpu in hid
        one.losses.in_flight = lambda _, cpu, *__, late=late: 5 if cpu in late else NOWHERE
        left = hold(0, end_first=FIRST)
        left.first.unmapped, left.first.unmap_first, left.first.unmap_over = True, FIRST, 20
        slot = shots(*((cpu, 13, 17) for cpu in flushed))
        assert one.shot_unseen(slot, left, left.first) is unseen, (hid, late, flushed)


@pytest.mark.parametrize(
    ("over", "following", "until"),
    [(20, 30, 20 + E), (20, 15, 15 + E), (NEVER, 30, 30 + E), (20, NEVER, 20 + E),
     (NEVER, NEVER, NEVER)],
)  # fmt: skip
def test_until_when_a_hidden_shootdown_may_answer(over: int, following: int, until: int) -> None:
    """A loss behind the answer would hide one, or one before it none."""
    one, asked = judge(lost=True), []
    one.losses.hidden_between = lambda *what: bool(asked.append(what))
    one.losses.in_flight = lambda *what: asked.append(what) or 5
    left = hold(0, end_first=FIRST)
    left.first.unmapped, left.first.unmap_first, left.first.unmap_over = True, FIRST, over
    left.first.clear_last = NEVER
    slot = shots()
    if following != NEVER:
        slot.holds = [hold(1, map_first=following)]
    assert one.shot_unseen(slot, left, left.first)
    page = 1 << words.K_INV_PAGE
    assert asked == [(page, cpu, FIRST - E, until) for cpu in (1, 1, 2, 2)]


def left_by(cpu: int, begin: int, end: int) -> Any:
    """A hold whose translation nothing cleared yet."""
    made = hold(cpu, begin_last=begin, end_first=end, map_first=begin)
    made.first.clear_last = 100
    return made


@pytest.mark.parametrize(
    ("begin", "end", "over", "following", "mark", "kept"),
    [
        (5, 9, NEVER, 11, 99, True),  # at a tie it may lie behind that
        (5, 9, NEVER, 12, 99, False),
        (9, 5, NEVER, 11, 99, True),
        (9, 5, NEVER, 12, 99, False),
        (5, 6, 9, 11, 99, True),
        (5, 6, 9, 12, 99, False),
        (5, 9, NEVER, None, 11, True),
        (5, 9, NEVER, None, 12, False),
        (5, 9, NEVER, None, NEVER, False),
        (5, NEVER, NEVER, None, NEVER, False),
    ],
)
def test_until_when_a_hold_is_kept(
    begin: int, end: int, over: int, following: int | None, mark: int, kept: bool
) -> None:
    """What may lie behind a hold that is not judged yet would be handed out before it."""
    one = judge()
    (slot,) = one.slots
    first, other = left_by(0, begin, end), left_by(0, 0, 0)
    first.first.unmap_over = over
    slot.window = [other, first]
    behind = None if following is None else left_by(1, following, 99)
    one.retire(slot, behind, mark)
    assert slot.window == ([first] if kept else [])
    assert (first.count, other.count) == (int(kept), 0)
    assert one.cell_of(slot, 0).begun == (0 if kept else begin)


def test_the_next_hold_bounds_what_one_left() -> None:
    """The lock: a clear is over before another CPU's hold begins, by the clocks' error; where that
    one may come first, or no lock is assumed, nothing bounds it."""

    def cleared(cpu: int, end: int = 25, no_lock: bool = False, among: bool = True) -> int:
        one = judge()
        (slot,) = one.slots
        slot.no_lock = no_lock
        first, after = left_by(0, 5, 9), left_by(cpu, 20, end)
        episode = first.first
        slot.window = [first, after] if among else [first]
        one.retire(slot, left_by(0, 40, 45) if among else after, NEVER if among else 99)
        assert first.count == 0
        found: int = episode.clear_last
        return found

    for among in (True, False):
        assert cleared(1, among=among) == 20 + E
        assert cleared(0, among=among) == 100
        assert cleared(1, no_lock=True, among=among) == 100
    assert cleared(1, end=5 + E) == 100  # that one may come first
    assert cleared(1, end=6 + E) == 20 + E
    one, three = judge(), [left_by(cpu, 10 * cpu, 10 * cpu + 5) for cpu in range(3)]
    episodes = [each.first for each in three]
    one.slots[0].window = three
    one.retire(one.slots[0], left_by(0, 40, 45), NEVER)
    assert [each.clear_last for each in episodes] == [10 + E, 20 + E, 40 + E]
    one, first = judge(), left_by(0, 5, 9)
    episode = first.first
    episode.clear_last = 3
    one.slots[0].window = [first]
    one.retire(one.slots[0], left_by(1, 20, 25), 99)
    assert episode.clear_last == 3
    one.slots[0].window = [last := left_by(0, 5, 9)]
    episode = last.first
    one.retire(one.slots[0], None, NEVER)
    assert episode.clear_last == 100


def test_what_a_cpu_without_a_map_takes() -> None:
    """Its first map would be threatened by nothing, or by what its cell said before."""
    for begun, reached in ((NOWHERE, NOWHERE), (7, 7 + E)):
        one = judge()
        (slot,) = one.slots
        slot.untold.start_open = False
        mine, other, _ = slot.cells
        other.begun = begun
        maybe, surely = hold(1, frame=1).first, hold(1, frame=2).first
        slot.untold.other_maybe.add(maybe, False)
        slot.untold.other_surely.add(surely, False)
        one.inherit(slot, mine)
        assert (mine.mapped, mine.start_open, mine.any_other) == (True, False, reached)
        assert (mine.other_maybe.all(), mine.other_surely.all()) == ([maybe], [surely])


def test_what_a_loss_leaves_of_an_unmap_is_known_before_who_was_told() -> None:
    """A page that another map replaced would be cleared by that, though its unmap may be hidden;
    and where there is but one CPU, nobody was told."""
    for lost in (False, True):
        one, left = judge(lost), hold(0)
        left.first.unmapped = left.first.replaced = left.first.tell_seen = True
        left.first.map_first, left.first.unmap_first = 3, FIRST
        one.all_shot(one.slots[0], left)
        assert left.first.unmap_lost is lost
        assert (left.first.unmap_first, left.told) == ((3, MAYBE) if lost else (FIRST, NO))
    alone, left = judge(cpus=1), hold(0, end_first=FIRST)
    left.first.unmapped, left.first.unmap_first, left.first.unmap_over = True, FIRST, 20
    alone.all_shot(shots((1, 13, 17)), left)
    assert left.told == NO
