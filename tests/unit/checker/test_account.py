# SPDX-License-Identifier: Apache-2.0
"""Counts of judged episodes, and what a later one forgives."""

from __future__ import annotations

from itertools import product
from typing import Any

from ghesrace.checker.account import Account
from ghesrace.checker.core.holds import Episode, Hold
from ghesrace.checker.core.rule import Judged
from ghesrace.checker.model import Class, Why
from ghesrace.checker.report import SlotCounts


def account() -> Account:
    return Account([SlotCounts(name, None) for name in ("a", "b", "c")])


def one(slot: int, cpu: int, cls: Class, why: Why = Why.CERTAIN, **fields: Any) -> Judged:
    made = Judged(Episode(Hold(cpu, 2, slot), 0, 0))
    made.cls, made.why = cls, why
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def told(made: Account) -> list[Any]:
    """All that each slot's counts say."""
    return [
        (
            slot.episodes,
            slot.handoffs,
            slot.latent,
            slot.uncertain_at_start,
            list(slot.classes),
            list(slot.uncertain),
        )
        for slot in made.slots
    ]


def test_each_class_and_cause_is_counted_at_its_slot_whoever_counted_it() -> None:
    """An episode would be counted at another slot, or as another class or cause; or a summary's
    counts would not be those of the full stream."""
    kinds = [(cls, Why.CERTAIN) for cls in Class if cls != Class.UNCERTAIN]
    kinds += [(Class.UNCERTAIN, why) for why in Why if why != Why.CERTAIN]
    singly, alike = account(), account()
    for n, ((cls, why), slot) in enumerate(product(kinds, range(3)), 1):
        latent, handoff = n % 2 == 1, n % 3 == 1
        judged = [one(slot, 0, cls, why, latent=latent, handoff=handoff)] * (slot + 2)
        singly.take(judged)
        alike.add(slot, 0, cls, why, slot + 2, latent, handoff)
    assert told(singly) == told(alike)
    for number, slot in enumerate(singly.slots):
        each = number + 2
        assert slot.episodes == each * len(kinds)
        assert slot.classes == [each] * Class.UNCERTAIN + [each * (len(Why) - 1)]
        assert slot.uncertain == [0] + [each] * (len(Why) - 1)
        assert slot.latent == each * sum((3 * k + number + 1) % 2 for k in range(len(kinds)))
        assert slot.handoffs == each * len(kinds) * (number == 0)


def test_only_what_the_start_left_open_is_forgiven() -> None:
    """A loss or an order that is open would be forgiven, or what another CPU has left open."""
    for why, slot, cpu in product(Why, (0, 1), (0, 1)):
        if why == Why.CERTAIN:
            continue
        for took in (True, False):
            made = account()
            if took:
                made.take([one(0, 0, Class.UNCERTAIN, why)] * 2)
                made.take([one(slot, cpu, Class.FRESH)] * 2)
            else:
                made.add(0, 0, Class.UNCERTAIN, why, 2, False, False)
                made.add(slot, cpu, Class.FRESH, Why.CERTAIN, 1, False, False)
            forgiven = why == Why.START and (slot, cpu) == (0, 0)
            assert made.slots[0].uncertain_at_start == (2 if forgiven else 0)
            assert made.slots[1].uncertain_at_start == 0
            assert made.at_start == ({(0, 0): 2} if why == Why.START and not forgiven else {})


def test_episodes_whose_map_is_hidden_are_counted_apart() -> None:
    """One that may be unsafe would degrade nothing, or one that is safe would."""
    made = account()
    hidden = [(Class.FRESH, Why.CERTAIN), (Class.SAME_FRAME, Why.CERTAIN),
              (Class.INCIDENTAL, Why.CERTAIN), (Class.NONE, Why.CERTAIN),
              (Class.UNCERTAIN, Why.LOSS), (Class.UNCERTAIN, Why.START),
              (Class.UNCERTAIN, Why.START)]  # fmt: skip
    judged = [one(0, 0, cls, why) for cls, why in hidden]
    for each in judged:
        each.episode.judged = False
    made.take(judged)
    assert (made.orphans, made.orphans_at_start) == (3, {(0, 0): 2})
    assert made.slots[0].episodes == 0
    made.take([one(0, 1, Class.FRESH)])
    assert made.orphans_at_start == {(0, 0): 2}
    made.take([one(0, 0, Class.UNCERTAIN, Why.LOSS)])
    assert made.orphans_at_start == {(0, 0): 2}
    made.take([one(0, 0, Class.FRESH)])
    assert (made.orphans, made.orphans_at_start) == (3, {})
