# SPDX-License-Identifier: Apache-2.0
"""What threatens an episode, and what luck saves it: each question at, before and behind each
tie of two stamps or places."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

import pytest

from ghesrace.checker.core import words

from .asking import CLASSES, HOLDS, STATE, UNKNOWN, Clocks, E, Lost, asked, asking, episode, told

NO, MAYBE, SURE = words.NO, words.MAYBE, words.SURE
NEVER, NOWHERE = words.NEVER, words.NOWHERE

AT = 20  # when the threat is cleared, and its place


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("at", range(AT - 1, AT + 5))
def test_luck_that_surely_fell_behind_the_clear(own: bool, at: int) -> None:
    """By places on one CPU, by stamps and their error on two."""
    ask = asking()
    (slot,) = ask.slots
    left = episode(1 if own else 0, 1, clear_last=AT, clear_pos_last=AT, hold={"pos_first": 0})
    one = episode(hold={"pos_first": 99})
    one.luck_pos, one.luck_first = (at, NOWHERE) if own else (NOWHERE, at)
    lucky = at >= AT if own else at > AT + E
    assert ask.luck_surely(slot, one.hold, left, own, one) is lucky
    one.luck_map_pos, one.luck_map_first = one.luck_pos, one.luck_first
    assert ask.luck_before_map(left, own, one) is lucky
    left.clear_pos_last, left.clear_last = NEVER, NEVER
    assert not ask.luck_surely(slot, one.hold, left, own, one)
    assert not ask.luck_before_map(left, own, one)
    if own:
        left.clear_last = AT
        one.luck_first = one.luck_map_first = at
        assert ask.luck_surely(slot, one.hold, left, own, one) is (at > AT)
        assert ask.luck_before_map(left, own, one) is (at > AT)


def test_luck_behind_the_begin_of_the_hold_is_behind_what_came_before() -> None:
    """The lock: the threat's clear is over; unless this hold's own map is what ends it."""
    ask = asking()
    (slot,) = ask.slots
    one = episode(luck_pos=10, hold={"pos_first": 9})
    for own, replaced, lucky in ((False, False, True), (True, False, True), (True, True, False),
                                 (False, True, True)):  # fmt: skip
        left = episode(0, 1, replaced=replaced)
        assert ask.luck_surely(slot, one.hold, left, own, one) is lucky
    one.hold.pos_first = 10
    assert not ask.luck_surely(slot, one.hold, episode(0, 1), False, one)
    one.hold.pos_first = 9
    mine = HOLDS.Episode(one.hold, 0, 0)
    assert not ask.luck_surely(slot, one.hold, mine, True, one)


@pytest.mark.parametrize("at", range(AT, AT + 6))
@pytest.mark.parametrize("sender", [0, 1, 2])
def test_a_broadcast_that_surely_fell_behind_the_clear(sender: int, at: int) -> None:
    """Of another CPU, begun behind the clear and over before the read."""
    left, one = episode(0, 1, clear_last=AT), episode(read_first=AT + 20)
    after = sender != 1 and at > AT + (0 if sender == 0 else E)
    ask = asking()
    (slot,) = ask.slots
    slot.old_first[sender] = at
    assert ask.luck_surely(slot, one.hold, left, False, one) is after
    slot.old_first.clear()
    for last, known in product((AT + 17, AT + 18, NEVER), (True, False)):
        tell = HOLDS.Tell(sender, at)
        tell.last, tell.known = last, known
        slot.tells = [tell]
        lucky = after and known and last < AT + 18
        assert ask.luck_surely(slot, one.hold, left, False, one) is lucky


@pytest.mark.parametrize("at", range(AT - 4, AT + 3))
def test_luck_that_may_have_fallen_behind_the_clear(at: int) -> None:
    """A tie is open; what came in a hold before the threat's is not."""
    ask = asking()
    (slot,) = ask.slots
    own = episode(1, 1, clear_pos_first=AT)
    one = episode(luck_pos_last=at)
    cell = slot.cells[1]
    assert ask.luck_maybe(slot, one.hold, own, True, one, cell) is (at > AT)
    left = episode(0, 1, unmap_first=AT, hold={"end_first": 50})
    one = episode(luck_last=at, luck_pos_last=7)
    near = at + E >= AT
    assert ask.luck_maybe(slot, one.hold, left, False, one, cell) is near
    cell.last_begin, cell.last_pos = 50 - E, 7
    assert ask.luck_maybe(slot, one.hold, left, False, one, cell) is near
    cell.last_begin -= 1  # that hold surely precedes the threat's
    assert not ask.luck_maybe(slot, one.hold, left, False, one, cell)
    cell.last_pos = 6
    assert ask.luck_maybe(slot, one.hold, left, False, one, cell) is near
    cell.maybe.known, cell.maybe.hold, cell.maybe.end_pos = True, left.hold, 7
    assert not ask.luck_maybe(slot, one.hold, left, False, one, cell)
    cell.maybe.hold = one.hold
    assert ask.luck_maybe(slot, one.hold, left, False, one, cell) is near


@pytest.mark.parametrize("sender", [0, 1, 2])
def test_a_broadcast_that_may_have_fallen_behind_the_clear(sender: int) -> None:
    """Begun before the read is over, and not over before the clear."""
    left = episode(0, 1, unmap_first=AT)
    one = episode(read_last=AT + 20)
    for at in range(AT - 4, AT + 2):
        ask = asking()
        (slot,) = ask.slots
        cell = slot.cells[1]
        late = 0 if sender == 0 else E
        slot.old_last[sender] = at
        lucky = sender != 1 and at + late >= AT
        assert ask.luck_maybe(slot, one.hold, left, False, one, cell) is lucky
        slot.old_last.clear()
        for first, last in product((AT + 20 + E, AT + 21 + E), (at, NEVER)):
            tell = HOLDS.Tell(sender, first)
            tell.last = last
            slot.tells = [tell]
            begun = sender != 1 and first == AT + 20 + E
            lucky = begun and (last == NEVER or at + late >= AT)
            assert ask.luck_maybe(slot, one.hold, left, False, one, cell) is lucky


def test_a_hold_since_the_own_invalidation() -> None:
    """Open at a tie; and of this hold's own invalidation nothing lies behind."""
    ask = asking()
    one = episode()
    for at in range(5, 16):
        other, cell = episode(0, hold={"begin_last": at, "end_first": at}), STATE.Cell(1, 0)
        assert ask.maybe_since(other.hold, cell, one.hold)
        assert ask.surely_since(other.hold, cell, one.hold)
        for since in (cell.surely, cell.maybe):
            since.known, since.end_first, since.begin_last = True, 10, 10
        assert ask.maybe_since(other.hold, cell, one.hold) is (at >= 10 - E)
        assert ask.surely_since(other.hold, cell, one.hold) is (at > 10 + E)
        cell.surely.hold = cell.maybe.hold = one.hold
        assert not ask.maybe_since(other.hold, cell, one.hold)
        assert not ask.surely_since(other.hold, cell, one.hold)


def test_what_a_translation_that_may_be_there_says() -> None:
    """Which of the table's questions it answers."""
    ask = asking()
    (slot,) = ask.slots
    one = episode()

    def take(left: Any, *tellers: Any) -> set[str]:
        t = asked()
        ask.maybe(t, slot, one.hold, one, left, False, list(tellers))
        return {n for n in ("any", "uncovered", "harmful", "all_lucky", "loss", "start", "known",
                            "latent") if getattr(t, n)}  # fmt: skip

    other = {"clear_last": 5, "hold": {"begin_last": 10, "end_first": 12}}
    assert take(episode(0, 1, **other)) == {"any", "uncovered", "harmful", "known", "latent"}
    assert take(episode(0, 2, **other)) == {"any", "uncovered", "all_lucky"}
    assert take(episode(0, 1, unmap_lost=True, **other)) >= {"loss"}
    assert take(episode(0, 1, left_open=True, **other)) >= {"loss"}
    assert take(episode(0, UNKNOWN, **other)) == {"any", "uncovered", "harmful", "loss"}
    start = episode(0, UNKNOWN, at_start=True, **other)
    assert take(start) == {"any", "uncovered", "harmful", "start"}
    hidden = CLASSES.Threats.of(UNKNOWN)  # of a frame that nobody knows: it may be another
    ask.maybe(hidden, slot, one.hold, one, episode(0, UNKNOWN, **other), False, [])
    assert hidden.harmful
    one.luck_first = 5 + E + 1
    assert "all_lucky" in take(episode(0, 1, **other))
    one.luck_map_first = one.luck_first
    assert "latent" not in take(episode(0, 1, **other))
    for end, covers in ((12, False), (13, True)):
        assert (take(episode(0, 1, **other), told(end_first=end)) == {"any", "all_lucky"}) is covers
    early = {"hold": {"begin_last": 10, "end_first": 10}}
    for end, covers in ((10 + E, False), (11 + E, True)):
        covered = "uncovered" not in take(episode(0, 1, **early), told(end_first=end))
        assert covered is covers
    both = asked()  # the first one's, whatever the next says
    for left in (episode(0, 1, unmap_lost=True, **other), episode(0, 1, **other)):
        ask.maybe(both, slot, one.hold, one, left, False, [])
    assert both.loss
    late = {"hold": {"begin_last": 9, "end_first": 13}}
    assert "uncovered" in take(episode(0, 1, **late), told(end_first=13))
    assert "uncovered" not in take(episode(0, 1, **late), told(end_first=14))


def test_what_a_translation_that_is_surely_there_says() -> None:
    """It is a sure threat unless it may be covered, or a loss leaves it open."""
    one = episode(read_last=90, hold={"map_first": 70})

    def take(lost: Lost, left: Any, *tellers: Any) -> Any:
        ask = asking(lost)
        t = asked()
        (slot,) = ask.slots
        ask.surely(t, slot, one.hold, one, left, False, slot.cells[1], list(tellers))
        return t

    kind = {"map_first": 40, "unmap_first": 50, "hold": {"begin_last": 40, "end_first": 60}}
    left = episode(0, 1, **kind)
    t = take(Lost(), left)
    assert (t.harmful_surely, t.unlucky, t.loss, t.threat_surely) == (True, True, False, left)
    assert not t.threat_flushed
    assert take(Lost(), episode(0, 1, unmap_flush=MAYBE, **kind)).threat_flushed
    assert not take(Lost(), episode(0, 2, **kind)).harmful_surely
    assert not take(Lost(), episode(0, UNKNOWN, **kind)).harmful_surely
    for begin, sure in ((60 - E, False), (60 - E - 1, True)):
        assert take(Lost(), left, told(begin_last=begin)).harmful_surely is sure
    whole = HOLDS.Loss(0, 45, 46, 0, 0)
    t = take(Lost(inside=[whole]), left)
    assert (t.loss, t.harmful_surely) == (True, False)
    for name in ("hidden_between", "told_between"):
        lost = Lost(**{name: True})
        t = take(lost, left)
        assert (t.loss, t.harmful_surely) == (True, False)
        assert lost.asked[-1][-2:] == (50 - E, 90)
    replaced = Lost(hidden_between=True)
    take(replaced, episode(0, 1, replaced=True, **kind))
    assert replaced.asked[-1][-2:] == (40 - E, 90)
    late = Lost(hidden_between=True)
    take(late, episode(0, 1, map_first=40, unmap_first=99, hold={"end_first": 60}))
    assert late.asked[-1][-2:] == (70, 90)
    for handler, entry, sure in ((False, 90, False), (True, 80, False), (True, 81, True)):
        one.hold.in_handler, one.hold.entry = handler, entry
        t = take(Lost(in_flight=80), left)
        assert (t.loss, t.harmful_surely, t.unlucky) == (True, sure, False)


def test_the_threat_that_is_named_is_the_newest() -> None:
    """A witness would tell of an unmap that another CPU's came behind."""
    ask = asking()
    (slot,) = ask.slots
    one, t = episode(), asked()
    for frame, end in ((1, 5), (3, 9), (4, 9), (5, 8)):
        left = episode(0, frame, hold={"end_first": end})
        ask.surely(t, slot, one.hold, one, left, False, slot.cells[1], [])
    assert (t.threat_surely.frame >> 12, t.threat_end) == (3, 9)


def test_where_a_hidden_page_may_lie() -> None:
    """Behind the last own invalidation, and before this episode; by the buffer or the clocks."""
    one = episode(map_first=30, hold={"begin_last": 28})

    def may(cpu: int, begin: int, end: int, *tellers: Any, told_end: int = NOWHERE,
            since: int | None = None, start: bool = True, own: bool = False) -> bool:  # fmt: skip
        ask = asking()
        (slot,) = ask.slots
        slot.told_end, cell = told_end, slot.cells[1]
        cell.start_open = start
        if since is not None:
            cell.surely.known, cell.surely.at, cell.surely.end_first = True, since, since + 3
            cell.surely.hold = one.hold if own else None
        loss = HOLDS.Loss(cpu, begin, end, 0, 0)
        found: bool = ask.may_lie_between(loss, slot, one.hold, one, cell, list(tellers))
        return found

    assert may(1, 30, 30)
    assert not may(1, 31, 40)
    assert may(1, 5, 20, since=20)
    assert not may(1, 5, 19, since=20)
    assert may(-1, 30, 30)
    assert may(-1, 5, 21, since=20)
    assert may(0, 30, 40)  # within the clocks' error of the begin
    assert not may(0, 31, 40)
    assert may(0, 5, 21, since=20)
    assert not may(0, 5, 20, since=20)
    assert not may(0, 5, 25, since=20, own=True)
    assert may(0, 5, 10, told_end=12)
    assert not may(0, 5, 10, told_end=13)
    assert may(0, 5, 11, told_end=13, start=False)
    sure = told(end_first=13, all_told=True)
    assert not may(0, 5, 10, sure)
    assert may(0, 5, 11, sure)
    assert may(0, 5, 10, told(end_first=13))
    assert may(2, 5, 12, sure) is not may(2, 5, 13, sure) is True


def test_the_windows_that_hide_an_unmap_and_a_map() -> None:
    """What the newest do not hide, those before them may."""
    for seed in range(40):
        dice = Random(seed)
        spans = sorted((dice.randrange(9), dice.choice((0, 1, 4))) for _ in range(4))
        windows, reach = [], 0
        for begin, length in spans:
            one = HOLDS.Loss(dice.choice((-1, 0, 1)), begin, begin + length, 0, 0)
            reach = one.reach = max(reach, one.end)
            windows.append(one)
        ask = asking(Lost(inside=windows))
        for begin, end, cpu in product(range(10), range(10), (0, 1)):
            hidden = any(x.cpu in (-1, cpu) and x.begin <= end and begin <= x.end for x in windows)
            assert ask.whole_between(cpu, begin, end) is hidden


def test_a_broadcast_that_an_interruption_put_off() -> None:
    """Of another CPU only: the own one's is asked for elsewhere."""
    lost = Lost(in_flight=5)
    ask = asking(lost)
    assert ask.told_late(episode().hold, 10, 20)
    assert {what[-2:] for what in lost.asked} == {(10 - E, 20 + E)}
    assert {what[1] for what in lost.asked} == {words.TOLD}
    alone = asking(lost, cpus=[1])
    assert not alone.told_late(episode().hold, 10, 20)
    assert not asking(Lost(x=1)).told_late(episode().hold, 10, 20)


def test_what_stands_under_the_proven_bound() -> None:
    """A finding that needs the assumed clocks would not say so."""
    for begin, stands in ((1_000, False), (999, True)):
        ask = asking(proven=Clocks(100), wait=100)
        (slot,) = ask.slots
        one = episode(read_last=1_100, hold={"begin_last": 1_000, "close": 1_100,
                                             "end_first": 1_100})  # fmt: skip
        ends = {"begin_last": begin, "end_first": 850}
        left, cell = episode(0, 1, unmap_first=200, hold=ends), slot.cells[1]

        def asks(how: Any = ask, lost: Any = None, one: Any = one, left: Any = left,
                 slot: Any = slot, cell: Any = cell) -> bool:  # fmt: skip
            found: bool = how.stands(slot, one.hold, one, cell, left, words.NONE)
            return found

        assert asks() is stands
        assert ask.clocks is ask.facts.clocks
        if not stands:
            continue
        ask.facts.wait = 99
        assert not asks()
        ask.facts.wait = 100
        ask.losses.all = [1]
        assert not asks()
        ask.losses.all = []
        one.pre_first = 5
        assert not asks()
        one.pre_first = NEVER
        other = episode(2, hold={"end_first": 2_000, "begin_last": 900, "map_first": 900})
        slot.holds = [other.hold]
        assert asks()
        slot.shots = [1]
        assert not asks()
        slot.shots = []
        other.broadcast = MAYBE
        assert not asks()
        for first, stood in ((1_200, False), (1_201, True)):
            other.hold.map_first = first  # behind all that is waited for
            assert asks() is stood
        other.hold.map_first, other.hold.cpu = 900, 1
        assert asks()
        other.hold.cpu, other.hold.begin_last = 2, left.hold.end_first - 101
        assert asks()  # it surely precedes the threat
        slot.holds = []
        cell.maybe.known, cell.maybe.begin_last = True, left.hold.end_first - 100
        assert not asks()
        cell.maybe.begin_last -= 1
        assert asks()
        slot.told_begin = slot.cells[2].told_begin = left.hold.end_first - 100
        assert not asks()
        slot.told_begin = slot.cells[2].told_begin = left.hold.end_first - 101
        assert asks()
        slot.window = [episode(2, hold={"told": MAYBE, "begin_last": left.hold.end_first}).hold]
        assert not asks()
        slot.window[0].cpu = 1
        assert asks()


class Counted(list[Any]):
    """Counts what is looked at."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1
        return list.__getitem__(self, index)


def test_windows_that_are_over_are_not_looked_at() -> None:
    """Each episode of a run that loses events each second would take longer than the last."""
    windows = Counted()
    for n in range(50):
        windows.append(HOLDS.Loss(1, 10 * n, 10 * n + 2, 0, 0))
    ask = asking(Lost(inside=windows, within=windows))
    (slot,) = ask.slots
    assert not ask.whole_between(1, 483, 485)
    assert windows.looks == 2  # the newest, and the one that is over
    windows.looks = 0
    one, cell = episode(map_first=470, hold={"begin_last": 470}), slot.cells[1]
    cell.surely.at = cell.surely.end_first = 485
    cell.surely.known = True
    for least, looks in ((499, 1), (483 + E, 2), (482 + E, 3)):
        windows.looks = 0
        cell.surely.at, cell.surely.end_first = least, 499
        ask.hidden(asked(), slot, one.hold, one, cell, [])
        assert windows.looks == looks
        windows.looks = 0
        cell.surely.at, cell.surely.end_first = 499, least
        ask.hidden(asked(), slot, one.hold, one, cell, [])
        assert windows.looks == looks
