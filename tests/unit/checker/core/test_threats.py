# SPDX-License-Identifier: Apache-2.0
"""What threatens an episode, and what luck saves it: each question at, before and behind each
tie of two stamps or places."""

from __future__ import annotations

from itertools import product
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from ghesrace.checker.core import classes, holds, state, threats, words
from tests.build.uncompiled import all_uncompiled

HOLDS, STATE = all_uncompiled(holds), all_uncompiled(state)
THREATS, CLASSES = all_uncompiled(threats), all_uncompiled(classes)
NO, MAYBE, SURE = words.NO, words.MAYBE, words.SURE
NEVER, NOWHERE, E = words.NEVER, words.NOWHERE, 2  # E: the clocks' error, ns
UNKNOWN = words.UNKNOWN_FRAME


class Clocks:
    """Two CPUs' stamps differ by E at most, those of one by nothing."""

    pairs = False

    def __init__(self, error: int = E) -> None:
        self.largest = self.general = error

    def error(self, cpu: int, other: int) -> int:
        return 0 if cpu == other and cpu >= 0 else self.largest


class Lost:
    """Losses that answer as they are told."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.all = [HOLDS.Loss(0, 0, 0, 0, 0)] if answers else []
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def ask(*what: Any) -> Any:
            self.asked.append((name, *what))
            return self.answers.get(name, default)

        lists = ("pages", "within", "inside")
        default: Any = [] if name in lists else NOWHERE if name == "in_flight" else False
        return ask


def asking(lost: Lost | None = None, **facts: Any) -> Any:
    """One that asks of two CPUs and a third."""
    known = {"clocks": Clocks(), "proven": Clocks(), "error": E, "wait": E, "cpus": [0, 1, 2],
             "hidden_map": 0, "hidden_unmap": 0, "traced": 0}  # fmt: skip
    reader = SimpleNamespace(cpus={}, by_number=[], start=0)
    slot = STATE.SlotState(0, False, 0)
    slot.cells = [STATE.Cell(cpu, 0) for cpu in range(3)]
    return THREATS.Threatening(SimpleNamespace(**(known | facts)), [slot], reader, lost or Lost())


def episode(cpu: int = 1, frame: int = 2, hold: dict[str, Any] | None = None, **fields: Any) -> Any:
    """One of a hold of its own."""
    one = HOLDS.Hold(cpu, words.IRQ, 0)
    for name, value in (hold or {}).items():
        setattr(one, name, value)
    made = HOLDS.Episode(one, frame << 12 if frame != UNKNOWN else frame, 0)
    one.add(made)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


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


def asked(frame: int = 2) -> Any:
    return CLASSES.Threats.of(frame << 12)


def told(**fields: Any) -> Any:
    return episode(2, hold=fields).hold


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


@pytest.mark.parametrize("last", range(5, 16))
def test_another_hold_between_luck_and_this_one(last: int) -> None:
    """Luck that another CPU's hold lies behind protects nothing in another order."""
    ask = asking()
    (slot,) = ask.slots
    one = episode(hold={"begin_last": 50})
    assert not ask.outside(slot, one.hold, last)
    slot.cells[1].began = 99  # its own
    assert not ask.outside(slot, one.hold, last)
    slot.cells[0].began = 10
    assert ask.outside(slot, one.hold, last) is (last + E < 10)
    assert not ask.outside(slot, one.hold, NEVER)
    slot.cells[0].began = NOWHERE
    one.hold.end_first = 60
    slot.window = [episode(0, hold={"end_first": 10, "begin_last": 5}).hold]
    assert ask.outside(slot, one.hold, last) is (last + E < 10)
    slot.window[0].begin_last = 60  # which this one may precede
    assert not ask.outside(slot, one.hold, last)
    slot.window = [episode(1, hold={"end_first": 10, "begin_last": 5}).hold]
    assert not ask.outside(slot, one.hold, last)


def test_what_protects_an_episode_in_any_order() -> None:
    """What its own hold invalidates before its access, and nothing else."""
    ask = asking()
    (slot,) = ask.slots
    cell = slot.cells[1]
    one = episode(hold={"entry_pos": 5, "copied": True})
    assert ask.vulnerable(slot, one.hold, 0, cell)
    for field, value in (("pre_first", 3), ("map_flush", MAYBE), ("map_flush", SURE)):
        safe = episode(hold={"entry_pos": 5, "copied": True}, **{field: value})
        assert not ask.vulnerable(slot, safe.hold, 0, cell)
    missed = episode(hold={"entry_pos": 5}, map_flush=MAYBE, left_open=True)
    assert ask.vulnerable(slot, missed.hold, 0, cell)
    missed.map_flush = SURE
    assert not ask.vulnerable(slot, missed.hold, 0, cell)
    for entry, last, since, at, bare in ((5, NOWHERE, NOWHERE, 5, True),
                                         (5, NOWHERE, NOWHERE, 6, False),
                                         (NOWHERE, 6, NOWHERE, 6, True),
                                         (5, NOWHERE, 6, 6, True),
                                         (5, NOWHERE, 6, 7, False)):  # fmt: skip
        one.hold.entry_pos, one.hold.since_pos, cell.last_pos = entry, since, last
        one.luck_pos_last, one.luck_last = at, NEVER
        assert ask.vulnerable(slot, one.hold, 0, cell) is bare
    second = HOLDS.Episode(one.hold, 0, 0)
    one.hold.add(second)
    assert ask.vulnerable(slot, one.hold, 1, cell)
    for field in ("map_flush", "unmap_flush", "broadcast"):
        setattr(one, field, MAYBE)
        assert not ask.vulnerable(slot, one.hold, 1, cell)
        setattr(one, field, NO)
    begins = asking(traced=1 << words.K_COPY)
    early = episode()
    cell.last_pos = NOWHERE
    assert not begins.vulnerable(slot, early.hold, 0, cell)
    assert ask.vulnerable(slot, early.hold, 0, cell)
    early.hold.copied = True
    assert begins.vulnerable(slot, early.hold, 0, cell)


@pytest.mark.parametrize(
    ("cpu", "kinds", "begin", "late", "spent", "first", "held"),
    [
        (0, words.UNMAPS, 10, 15, 0, 11, False),  # over before the flush
        (0, words.UNMAPS, 10, 20 - E, 0, 11, True),
        (0, words.UNMAPS, 10, 99, 0, 10, False),  # that CPU had shown what it had
        (0, words.UNMAPS, 10, 99, 1, 11, False),  # it hid another
        (0, words.OWN, 10, 99, 0, 11, False),
        (0, words.UNMAPS, 30 + E, 99, 0, 99, True),
        (0, words.UNMAPS, 31 + E, 99, 0, 99, False),  # behind the begin of this hold
        (1, words.UNMAPS, 10, 99, 0, 11, False),  # its own
        (-1, words.UNMAPS, 10, 99, 0, 11, True),
        (-1, words.UNMAPS, 10, 99, 0, 10, False),
        (2, words.UNMAPS, 10, 99, 0, 11, True),  # of which there is no event at all
    ],
)
def test_who_may_have_had_the_lock_when_a_handler_flushed(
    cpu: int, kinds: int, begin: int, late: int, spent: int, first: int, held: bool
) -> None:
    """What a CPU that mapped the slot before the start left would be no threat: its unmap was lost,
    and with it all that showed its hold."""
    loss = HOLDS.Loss(cpu, begin, late, kinds, 1)
    loss.late, loss.spent = late, spent
    lost = Lost(x=1)
    lost.all = [loss]
    ask = asking(lost, cpus=[0, 1])
    ask.cpus = {number: STATE.Cpu(number, 1) for number in range(2)}
    ask.cpus[0].cells[0].first_seen = first
    one = episode(hold={"begin_last": 30}, **PRE)
    assert ask.held_before(ask.slots[0], one.hold, one) is held
    ask.reader.start = loss.begin - words.FORCE_CLOSE_NS
    assert ask.held_before(ask.slots[0], one.hold, one) is held
    ask.reader.start -= 1
    assert not ask.held_before(ask.slots[0], one.hold, one)


PRE = {"pre_first": 20, "pre_last": 25, "pre_pos": 5, "pre_known": True, "map_first": 26}


def test_a_flush_just_before_the_map() -> None:
    """Structural, if it surely lies in this hold and behind all that others left."""

    def flushed(lost: Lost | None = None, others: Any = (), gone: dict[str, int] | None = None,
                last_pos: int = 4, **fields: Any) -> int:  # fmt: skip
        ask = asking(lost)
        (slot,) = ask.slots
        cell = slot.cells[1]
        cell.last_pos = last_pos
        for name, value in (gone or {}).items():
            setattr(slot.cells[0], name, value)
        one = episode(hold={"begin_last": 30, "end_first": 40}, **(PRE | fields))
        found: int = ask.flushed(slot, one.hold, one, cell, list(others))
        return found

    assert flushed() == SURE
    assert flushed(pre_known=False) == MAYBE
    assert flushed(last_pos=5) == NO
    assert flushed(pre_in_map=True) == NO
    assert flushed(Lost(hidden_between=True), pre_in_map=True) == MAYBE
    assert flushed(gone={"ended": 20 - E - 1}) == SURE
    assert flushed(gone={"ended": 20 - E}) == MAYBE
    assert flushed(gone={"ended": 40, "began": 25 + E}) == MAYBE
    assert flushed(gone={"ended": 40, "began": 26 + E}) == NO
    assert flushed(gone={"ended": NOWHERE, "began": 99}) == SURE
    for end, begin, found in ((17, 0, SURE), (18, 0, MAYBE), (27, 0, MAYBE), (28, 0, NO),
                              (28, 39, MAYBE)):  # fmt: skip
        other = episode(0, clear_last=0, hold={"end_first": end, "close": 99, "begin_last": begin})
        assert flushed(others=[other.hold]) == found
    for cpu, begin, end, found in ((1, 0, 19, SURE), (1, 0, 20, MAYBE), (1, 27, 30, SURE),
                                   (1, 26, 26, MAYBE), (0, 32, 40, MAYBE), (0, 33, 40, SURE),
                                   (-1, 27, 32, MAYBE), (-1, 33, 40, SURE)):  # fmt: skip
        assert flushed(Lost(pages=[HOLDS.Loss(cpu, begin, end, 0, 0)])) == found
    whole = Lost(inside=[HOLDS.Loss(1, 27, 27, 0, 0)])
    assert flushed(whole, pre_first=NEVER, map_flush=SURE, map_flush_first=28) == MAYBE
    assert flushed(whole, pre_first=NEVER, map_flush=SURE) == SURE  # the plan says so
    assert flushed(Lost(x=1), pre_first=NEVER, map_flush=SURE, map_flush_first=28) == SURE
    for loss, found in (((0, 19), MAYBE), ((0, 32), MAYBE), ((0, 33), SURE), ((1, 19), SURE)):
        lost = Lost(x=1)  # the unmap of a CPU that mapped the slot before the start
        lost.all = [HOLDS.Loss(*loss, 99, words.UNMAPS, 1)]
        assert flushed(lost) == found
    before = episode(1, unmapped=True, unmap_first=3, flush_first=4)
    hidden = Lost(hidden_between=True)
    assert flushed(hidden, pre_first=NEVER, before=before) == MAYBE
    assert flushed(hidden, pre_first=NEVER) == NO
    assert flushed(pre_first=NEVER, before=before) == NO


def test_a_flush_that_the_code_holds_protects_an_episode_whose_map_nobody_saw() -> None:
    """Of a recorded map its probe's own implication counts."""
    for judged, implied, found in ((False, 1, SURE), (True, 1, NO), (False, 0, NO)):
        ask = asking(hidden_map=implied and words.PAGE_AFTER_SET)
        (slot,) = ask.slots
        one = episode(judged=judged)
        assert ask.flushed(slot, one.hold, one, slot.cells[1], []) == found


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
