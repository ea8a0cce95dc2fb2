# SPDX-License-Identifier: Apache-2.0
"""The judge's steps around the questions: what is waited for, what is explained, what is kept."""

from __future__ import annotations

from itertools import permutations, product
from types import SimpleNamespace
from typing import Any

import pytest

from ghesrace.checker.core import holds, losses, rule, state, words
from tests.build.uncompiled import all_uncompiled

HOLDS, STATE, RULE = all_uncompiled(holds), all_uncompiled(state), all_uncompiled(rule)
LOSSES = all_uncompiled(losses)
NO, MAYBE, SURE = words.NO, words.MAYBE, words.SURE
NEVER, NOWHERE, E, WAIT = words.NEVER, words.NOWHERE, 2, 5


class Clocks:
    """Two CPUs' stamps differ by E at most."""

    pairs = False
    largest = general = E

    def error(self, cpu: int, other: int) -> int:
        return 0 if cpu == other and cpu >= 0 else E


def judge(hidden: bool = False, lost: bool | None = None, **facts: Any) -> Any:
    """One with a slot and two CPUs. *hidden*: losses may have hidden anything."""
    known = {"clocks": Clocks(), "proven": Clocks(), "error": E, "wait": WAIT, "cpus": [0, 1],
             "hidden_map": 0, "hidden_unmap": 0, "proven_unmap": 0, "traced": 0, "assumed": False,
             "forced_broadcast": False, "pti": False}  # fmt: skip
    slot = STATE.SlotState(0, False, 0)
    cpus = [STATE.Cpu(number, 1) for number in range(2)]
    slot.cells = [cpu.cells[0] for cpu in cpus]
    reader = SimpleNamespace(cpus=dict(enumerate(cpus)), by_number=cpus, gaps=[], strays=[],
                             no_flushes=0, open_ends=0)  # fmt: skip
    what = SimpleNamespace(
        all=[1] if (hidden if lost is None else lost) else [],
        hold_back=NEVER,
        asked=[],
        hidden_between=lambda *asked: what.asked.append(asked) or hidden,
        in_flight=lambda *asked: what.asked.append(asked) or (5 if hidden else NOWHERE),
        spend=lambda gap: gap.by is not None,
        within=list,
        pages=list,
        touch=lambda *_: False,
        told_between=lambda *_: False,
    )
    return RULE.Judge(SimpleNamespace(**(known | facts)), [slot], reader, what)


def hold(cpu: int = 0, pages: int = 1, **fields: Any) -> Any:
    one = HOLDS.Hold(cpu, words.IRQ, 0)
    for page in range(pages):
        one.add(HOLDS.Episode(one, (1 + page) << 12, 0))
    for name, value in fields.items():
        setattr(one, name, value)
    return one


@pytest.mark.parametrize(
    ("fields", "until"),
    [
        ({"unmapped": True, "unmap_first": 9}, 9),
        ({"unmapped": True, "unmap_first": 2, "last_first": 9}, 4),  # by a late stamp
        ({"unmap_first": 5, "last_first": 9}, 9),  # the end of the stream cut it
        ({"frame": words.UNKNOWN_FRAME, "unmapped": True}, None),
        ({"left_open": True, "last_first": 9}, None),
    ],
)
def test_until_when_a_loss_may_have_hidden_that_a_use_was_over(
    fields: dict[str, Any], until: int | None
) -> None:
    """Two uses that a hidden unmap parts would surely overlap, or two that do only perhaps."""
    for hidden in (False, True):
        one, use = judge(hidden), hold().at(0)
        for name, value in ({"map_first": 4} | fields).items():
            setattr(use, name, value)
        assert one.known(use) is (until is not None and not hidden)
        asked = [] if until is None else [(words.MAPS, 0, 4, until)]
        assert one.losses.asked == asked


@pytest.mark.parametrize(
    ("cpu", "last", "pending", "mark", "opened", "perhaps"),
    [
        (1, 20 - E, True, 30, True, False),
        (1, 20 - E - 1, True, 30, False, False),  # over before the hold mapped anything
        (1, NEVER, True, 30, True, False),
        (0, 25, True, 30, False, False),  # its own CPU's is no answer
        (1, 25, False, 30, False, False),  # the next map was seen, or never comes
        (1, 25, True, 15 + words.FORCE_CLOSE_NS, False, True),  # nobody waits longer
        (1, 25, True, 14 + words.FORCE_CLOSE_NS, True, False),
    ],
)
def test_which_flush_may_yet_be_another_cpus_next_map(
    cpu: int, last: int, pending: bool, mark: int, opened: bool, perhaps: bool
) -> None:
    """An unmap would be told by a flush that is a map's, or never be judged."""
    one, mine = judge(), hold(0, map_first=20)
    (slot,) = one.slots
    shot = HOLDS.Shot(cpu, 15)
    shot.last, slot.shots = last, [shot]
    level = one.cpus[cpu].levels[words.IRQ]
    level.in_handler = True
    if pending:
        level.places[0].pre_first = 15
    assert one.answer_is_open(slot, mine, mark) is opened
    assert shot.perhaps_own is perhaps


def test_holds_are_in_the_order_of_their_first_maps() -> None:
    """Two that a late stamp exchanged would be judged in the wrong order."""
    three = [hold(0, map_first=1), hold(0, map_first=2, pos_first=1), hold(1, map_first=2)]
    three.append(hold(1, map_first=2, pos_first=1))
    for some in permutations(three):
        assert RULE.in_order(list(some)) is (list(some) == three)
    assert RULE.in_order([])
    assert RULE.in_order(three[:1] * 2)


@pytest.mark.parametrize(
    ("close", "mark", "back", "ready"),
    [(10, 15, NEVER, False), (10, 16, NEVER, True), (NEVER, NEVER, NEVER, True),
     (10, 99, 15, False), (10, 99, 16, True)],
)  # fmt: skip
def test_a_hold_waits_until_nothing_can_bound_it_any_more(
    close: int, mark: int, back: int, ready: bool
) -> None:
    """An event that comes later would change an answer that was given."""
    one = judge()
    one.losses.hold_back = back
    assert one.ready(hold(close=close, closed=True), mark) is ready
    assert not one.ready(hold(close=close), mark)


def test_a_hold_is_prepared_once() -> None:
    """What was found before others were judged would be asked again, and could differ."""
    one, closed = judge(), hold(close=1, closed=True)
    times: list[Any] = []
    one.prepare = times.append
    assert one.ready(closed, 50)
    assert one.ready(closed, 50)
    assert times == [closed]


def test_a_hold_may_end_with_a_flush_that_a_loss_hid() -> None:
    """What another CPU flushes behind its clear would be taken for this one's own hold."""
    for hidden, flush, end, is_open in ((True, 9, 4, False), (True, NEVER, 9, True),
                                        (False, 9, 9, False),
                                        (False, NEVER, 9, False)):  # fmt: skip
        one, closed = judge(hidden, lost=True), hold(end_first=9, close=20)
        last = closed.last()
        last.unmapped, last.unmap_first, last.flush_first = True, 4, flush
        one.prepare(closed)
        assert (closed.end_first, closed.open_end) == (end, is_open)
        until = 9 if flush != NEVER else 20
        assert one.losses.asked[-1] == (words.OWN | words.TOLD, 0, 4, until)
    without = judge(True, lost=False)
    closed.open_end = False
    without.prepare(closed)
    assert not closed.open_end


def missing(kinds: int, end: int = 10, explained: bool = False, episode: Any = None) -> Any:
    gap = HOLDS.Gap(kinds, 0, 3, end)
    gap.episode = episode
    gap.by = HOLDS.Loss(0, 0, 99, kinds, 0) if explained else None
    return gap


def test_what_is_missing_is_told_once_nothing_can_explain_it() -> None:
    """A missed probe that nobody counted would be forgotten, or told of what a loss hid."""
    maps, unmaps, flush = words.MAP, words.UNMAPS, 1 << words.K_INV_PAGE
    for mark, back, waits in ((15, NEVER, True), (16, NEVER, False), (99, 10, True),
                              (99, 11, False), (NEVER, NEVER, False)):  # fmt: skip
        one = judge()
        one.losses.hold_back = back
        one.reader.gaps, one.reader.strays = [missing(unmaps)], [10]
        one.explain(mark)
        assert len(one.reader.gaps) == waits
        assert one.reader.open_ends == (not waits)
        late = mark == 15
        assert (one.reader.strays, one.strays) == ([10] if late else [], int(not late))
    for gap, proven, ends, flushes in (
        (missing(unmaps), words.PAGE_AFTER_CLEAR, 0, 0),
        (missing(unmaps), words.BROADCAST_AFTER_CLEAR, 0, 0),
        (missing(unmaps), words.FLUSH_INSIDE, 1, 0),
        (missing(maps), 0, 0, 0),
        (missing(unmaps, explained=True), 0, 0, 0),
        (missing(flush, episode=hold().first), 0, 0, 1),
    ):
        one = judge(proven_unmap=proven)
        one.reader.gaps = [gap]
        if gap.by is not None:
            gap.by.count, gap.by.spent = 1, 2  # on a flush, too: that is another gap's
        one.explain(NEVER)
        assert (one.reader.open_ends, one.reader.no_flushes) == (ends, flushes)
        assert one.reader.gaps == []
    safe = judge(hidden_map=words.PAGE_AFTER_SET)
    safe.reader.strays = [10]
    safe.explain(NEVER)
    assert safe.strays == 0


def test_a_flush_that_a_loss_hid_took_place() -> None:
    """A kernel that flushes would be called a race for want of the event; but of more flushes
    than were lost nobody knows which were."""
    for of_map, too_many in product((True, False), repeat=2):
        one, episode = judge(), hold().first
        gap = missing(1 << words.K_INV_PAGE, explained=True, episode=episode)
        gap.of_map = of_map
        gap.by.count, gap.by.spent = 1, 1 + too_many
        one.reader.gaps = [gap]
        one.explain(NEVER)
        if too_many:
            assert (one.reader.no_flushes, gap.by.spent) == (1, 1)
            assert (episode.map_flush, episode.unmap_flush) == (NO, NO)
        elif of_map:
            assert (episode.map_flush, episode.unmap_flush) == (SURE, NO)
            assert one.reader.no_flushes == 0
        else:
            assert (episode.map_flush, episode.unmap_flush) == (NO, SURE)
            assert (episode.flush_first, episode.flush_last) == (3, 10)


def test_what_a_report_lock_may_have_been_is_several() -> None:
    """Where a loss hid that a handler was left, another CPU may have come in between."""
    one = judge(True)
    (slot,) = one.slots
    whole = hold(0, 3, map_first=10, close=60, end_pos=9, pos_first=2, entry=5, since_pos=1)
    for number, episode in enumerate(whole.all()):
        episode.map_first, episode.map_last = 10 + 10 * number, 12 + 10 * number
        episode.map_pos = 2 + 3 * number
        episode.unmapped, episode.unmap_first = True, 15 + 10 * number
    between = hold(1, map_first=25, pos_first=1)
    slot.holds = [hold(1, map_first=1), whole, between]
    one.split(slot, 1)
    first, second, third = (slot.holds[n] for n in (1, 2, 4))
    assert slot.holds[3] is between
    assert [x.map_first for x in (first, second, third)] == [10, 20, 30]
    assert [x.begin_last for x in (first, second, third)] == [12, 22, 32]
    assert [x.end_first for x in (first, second, third)] == [15, 25, 35]
    assert [(x.pos_first, x.end_pos) for x in (first, second, third)] == [(2, 4), (5, 7), (8, 9)]
    for piece, episode in zip((first, second, third), whole.all(), strict=True):
        assert episode.hold is piece
        assert piece.last() is episode
        assert (piece.entry, piece.close, piece.since_pos) == (5, 60, 1)
        assert piece.closed
        assert piece.prepared
    assert one.losses.asked[0] == (words.HANDLER, 0, 10, 30)
    for other in (judge(False, lost=True), judge(True, lost=False)):
        other.slots[0].holds = [whole]
        other.split(other.slots[0], 0)
        assert other.slots[0].holds == [whole]
    single = judge(True)
    single.slots[0].holds = [between]
    single.split(single.slots[0], 0)
    assert single.slots[0].holds == [between]


def test_which_episodes_can_be_judged() -> None:
    """One that the end of the stream cut off before its access says nothing."""
    for field in ("unmapped", "left_open", "read_seen"):
        one = hold()
        assert not judge().complete(one, one.first)
        setattr(one.first, field, True)
        assert judge().complete(one, one.first)
    assert judge(True).complete(hold(), hold().first)
    for judged, start, hidden in product((False, True), repeat=3):
        episode = hold().first
        episode.judged, episode.at_start = judged, start
        assert judge(hidden).wanted(episode) is (judged or not start or hidden)


def test_a_use_that_lasts_until_the_end_keeps_its_lock() -> None:
    """What another CPU mapped since contradicts that lock."""
    for cpu, first, hidden, unmapped, met in (
        (1, 13, False, False, True),
        (1, 12, False, False, False),
        (0, 13, False, False, False),
        (1, 13, True, False, False),
        (1, 13, False, True, False),
    ):
        one = judge(hidden)
        (slot,) = one.slots
        mine, other = hold(0, close=50), hold(cpu, map_first=first, close=40)
        mine.first.map_first, mine.first.unmapped = 10, unmapped
        other.first.clear_last = 30
        slot.holds = [mine, other]
        one.outlasts_others(slot, mine)
        assert (mine.inconsistent, other.inconsistent, slot.no_lock) == (met, met, met)
        assert mine.beside_last == (30 + E if met else NOWHERE)
        assert other.beside_last == (NEVER if met else NOWHERE)


def test_shootdowns_that_a_loss_may_have_hidden() -> None:
    """A prediction would rest on what nobody could have seen."""
    one, mine = judge(True), hold(0, 2)
    (slot,) = one.slots
    assert not one.told_unseen(slot, mine, 0)
    mine.last().unmapped = True
    assert one.told_unseen(slot, mine, 0)
    assert one.told_unseen(slot, mine, 1)
    assert not judge(True, lost=False).told_unseen(slot, mine, 0)
    assert not judge(True, cpus=[0]).told_unseen(slot, mine, 0)
    assert not judge(False, lost=True).told_unseen(slot, mine, 0)
    assert one.interrupts(mine)
    assert not judge(True, lost=False).interrupts(mine)
    assert not judge(False, lost=True).interrupts(mine)
    mine.ctx = words.TASK
    assert not one.interrupts(mine)


@pytest.mark.parametrize("what", ["nothing", "hold", "window", "handler", "old", "left", "task"])
def test_what_is_older_than_all_that_is_not_judged_is_forgotten(what: str) -> None:
    """A broadcast that may yet have saved an episode would be gone; or none would ever go."""
    one = judge()
    (slot,) = one.slots
    second = words.FORCE_CLOSE_NS
    mark, oldest = 2 * second, 2 * second
    level = one.cpus[1].levels[2]
    if what == "hold":
        slot.holds, oldest = [hold(entry=50)], 50
    elif what == "window":
        slot.window, oldest = [hold(entry=60)], 60
    elif what != "nothing":
        level.active, level.in_handler = what != "left", what != "task"
        level.edge_t = mark - second - (what == "old")
        oldest = level.edge_t if what == "handler" else mark
    keeps = oldest - 2 * WAIT
    for last in (keeps - 1, keeps, NEVER):
        slot.shots.append(HOLDS.Shot(1, 1))
        slot.shots[-1].last = last
        tell = HOLDS.Tell(1, last - 3 if last != NEVER else keeps - 1)
        tell.last = last
        slot.tells.append(tell)
    given = [HOLDS.Tell(0, keeps - 1), HOLDS.Tell(0, keeps)]
    for tell in given:
        tell.given_up = True
    slot.tells += given
    one.prune(slot, NEVER)
    assert (len(slot.shots), len(slot.tells)) == (3, 5)
    one.prune(slot, mark)
    assert [shot.last for shot in slot.shots] == [keeps, NEVER]
    assert [tell.first for tell in slot.tells] == [keeps - 3, keeps - 1, keeps]
    assert slot.tells[-1] is given[1]
    assert slot.old_first == {1: keeps - 4}
    assert slot.old_last == {1: keeps - 1, 0: NEVER}
    slot.tells[0].known = False
    slot.tells[0].last = slot.tells[0].first = keeps - 2
    one.prune(slot, mark)
    assert (slot.old_first[1], slot.old_last[1]) == (keeps - 4, keeps - 1)
    slot.tells[0].last = slot.tells[0].first = keeps - 9
    one.prune(slot, mark)
    assert (slot.old_first[1], slot.old_last[1]) == (keeps - 4, keeps - 1)
    slot.shots = [HOLDS.Shot(1, n) for n in range(5_000)]
    one.prune(slot, mark)
    assert [slot.shots[0].first, len(slot.shots)] == [904, 4096]


def test_uses_that_meet_are_told_or_counted() -> None:
    """A sure overlap would be counted as open, or a use twice."""
    for hidden, assumed in product((False, True), repeat=2):
        one = judge(hidden)
        if assumed:
            one.facts.proven = SimpleNamespace(error=lambda *_: 50)
        first, second = hold(0), hold(1, map_first=15)
        for use, at in ((first.first, 10), (second.first, 15)):
            use.map_first, use.unmapped, use.unmap_first, use.unmap_over = at, True, at + 9, at + 9
        one.meet(first, second)
        if hidden:
            assert (one.overlaps, one.not_ordered) == ([], 2)
            one.meet(first, second)
            assert one.not_ordered == 2
        else:
            assert one.overlaps == [(first.first, second.first, assumed)]
            assert one.not_ordered == 0
    one = judge()
    for begin, n in ((20, 2), (21, 2), (22, 0)):
        first, second = hold(0), hold(1, map_first=begin)
        first.first.unmapped, first.first.unmap_first, first.first.map_first = True, 19, 10
        second.first.map_first, second.first.last_first = begin, begin
        one.not_ordered = 0
        one.meet(first, second)
        assert one.not_ordered == n


def test_two_holds_that_overlap_are_known_as_such_until_both_are_cleared() -> None:
    """What one flushed early would count, though the other loads its own translation again."""
    for cpu, error in ((1, E), (0, 0)):
        for before, since in ((NOWHERE, 0), (500, 500)):
            one = judge()
            (slot,) = one.slots
            mine, other = hold(0, pos_first=5, end_pos=9), hold(cpu, pos_first=6, end_pos=8)
            for met in (mine, other):
                met.begin_last, met.end_first, met.beside_last = 10, 99, before
            mine.first.clear_last, other.first.clear_last = 30, 40
            beside: list[Any] = []
            one.set_beside(slot, other, mine, beside)
            assert (mine.inconsistent, other.inconsistent, slot.no_lock) == (True, True, True)
            assert mine.beside_last == max(40 + error, since)
            assert other.beside_last == max(30 + error, since)
            assert beside == []


def test_which_holds_may_lie_before_one() -> None:
    """One that may, and is left out, threatens nobody; on one CPU the buffer's order is known."""
    for cpu, end, beside in ((1, 10 + E, True), (1, 11 + E, False), (0, 10, False)):
        one = judge()
        (slot,) = one.slots
        mine = hold(0, begin_last=10, end_first=12, pos_first=5, end_pos=9)
        other = hold(cpu, begin_last=10, end_first=end, pos_first=1, end_pos=2, done=True)
        others: list[Any] = []
        met: list[Any] = []
        one.meet = lambda a, b, met=met: met.append((a, b))
        one.set_beside(slot, other, mine, others)
        assert others == ([other] if beside else [])
        assert other.told_known is beside
        assert met == ([(other, mine)] if cpu else [])
        assert not mine.inconsistent
        other.done = False
        one.set_beside(slot, other, mine, [])
        assert len(met) == cpu


@pytest.mark.parametrize(("n", "crowded"), [(127, False), (128, False), (129, True), (300, True)])
def test_of_a_crowd_that_has_no_order_only_so_many_are_asked(n: int, crowded: bool) -> None:
    """A hostile file would take time squared; or what was not asked be called safe."""
    one = judge()
    (slot,) = one.slots
    mine, asked = hold(0), []
    others = [hold(1) for _ in range(n)]
    one.maybe_since = lambda other, *_: bool(asked.append(other))
    one.may_precede = lambda *_: True
    cell = slot.cells[0]
    cell.start_open = False
    said = one.judge_episode(slot, mine, 0, cell, others)
    assert asked == others[:128]
    assert (said.cls == words.UNCERTAIN) is crowded
    assert said.why == (words.ORDER if crowded else words.CERTAIN)


def test_a_slot_changes_hands_once_between_two_holds() -> None:
    """A hand-off would be counted at each page of a report, or at one whose map nobody saw."""
    for first_seen in (True, False):
        one = judge()
        (slot,) = one.slots
        said: list[Any] = []
        for at, cpu in enumerate((0, 1, 1)):
            mine = hold(cpu, 2, map_first=at, begin_last=10 * at, end_first=10 * at + 5, entry=0)
            mine.pos_first, mine.end_pos = 10 * at, 10 * at + 5
            for episode in mine.all():
                episode.unmapped, episode.unmap_first = True, 10 * at + 4
                episode.clear_last = 10 * at + 5
            mine.first.judged = first_seen
            slot.holds = [mine]
            one.judge(slot, 0, 1, said)
            assert mine.done
        seen = [x for x in said if x.episode.judged]
        handed = [False, False, True, False, False, False] if first_seen else [False, True, False]
        assert [x.handoff for x in seen] == handed
        assert not any(x.handoff for x in said if not x.episode.judged)
        befores = [x.before for x in said[::2]]
        assert befores == [NEVER, 4, 14]
        assert (slot.last_cpu, slot.last_unmap, one.uses) == (1, 24, 6)
        assert one.hidden_maps == (0 if first_seen else 3)


@pytest.mark.parametrize(
    ("cpu", "begin", "ready", "end", "judged"),
    [
        (1, 11 + E, False, 11, True),  # behind all that may lie before it
        (1, 10 + E, False, 10 + E, False),  # more of it may come, and it may lie before
        (1, 10 + E, False, 11 + E, True),  # it surely lies behind
        (1, 10 + E, True, 10 + E, True),
        (0, 10, False, 10, True),  # of one CPU the buffer says it
    ],
)
def test_a_hold_waits_for_one_that_may_turn_out_to_lie_before_it(
    cpu: int, begin: int, ready: bool, end: int, judged: bool
) -> None:
    """An answer would be given too early, and depend on how the stream is cut; or never."""
    one = judge()
    (slot,) = one.slots
    mine = hold(0, map_first=5, begin_last=10, end_first=9, closed=True, close=9)
    other = hold(cpu, map_first=begin, end_first=end, closed=ready, close=20)
    slot.holds = [mine, other, hold(1, map_first=99, end_first=5)]
    given: list[Any] = []
    one.judge = lambda _, at, until, __: given.append((at, until))
    one.retire = lambda *_: None
    one.sweep(slot, 40, [])
    assert given[:1] == ([(0, 1 if begin > 10 + E else 2)] if judged else [])
    assert (mine in slot.window) is judged
    assert len(slot.holds) == 3 - len(given)
