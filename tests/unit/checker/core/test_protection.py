# SPDX-License-Identifier: Apache-2.0
"""What protects an episode (threats.py: flushed, vulnerable), at, before and behind each tie."""

from __future__ import annotations

from typing import Any

import pytest

from ghesrace.checker.core import words

from .asking import HOLDS, STATE, E, Lost, asking, episode

NO, MAYBE, SURE = words.NO, words.MAYBE, words.SURE
NEVER, NOWHERE = words.NEVER, words.NOWHERE


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
