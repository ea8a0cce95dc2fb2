# SPDX-License-Identifier: Apache-2.0
"""This puts the numbers of two sides beside each other, once for all outputs."""

from __future__ import annotations

from dataclasses import dataclass

from .compare import Comparison
from .side import CLASSES, Side, SlotShare
from .slots import Pair

_EMPTY = SlotShare("", 0, 0, 0, dict.fromkeys(CLASSES, 0))


@dataclass(frozen=True, slots=True)
class Share:
    """A share is one class at one slot: how many episodes had it on each side, of all there."""

    word: str
    a: int
    b: int
    of_a: int
    of_b: int

    @property
    def points(self) -> float:
        """This is how much B's share is greater than A's, in points of per cent."""
        return percent(self.b, self.of_b) - percent(self.a, self.of_a)


@dataclass(frozen=True, slots=True)
class SlotChange:
    """This is one slot on both sides, with the classes that occurred on either."""

    pair: Pair
    a: SlotShare
    b: SlotShare
    shares: list[Share]

    @property
    def protection(self) -> tuple[str, str]:
        """This says for each side what its episodes rested on (`SlotShare.protection`)."""
        return _protection(self.a), _protection(self.b)

    @property
    def changed(self) -> bool:
        """This says whether something else protects the slot in B."""
        one, other = self.protection
        return one != other


def percent(number: int, of: int) -> float:
    """Return *number* as per cent *of* all, 0 of nothing.

    >>> percent(1, 8), percent(0, 0)
    (12.5, 0.0)
    """
    return 100 * number / of if of else 0.0


def slot_changes(compared: Comparison) -> list[SlotChange]:
    """Return the slots of both sides that have episodes on either.

    slot_changes(compare(a, b))
    """
    found = []
    for pair in compared.slots:
        one = _EMPTY if pair.a is None else compared.a.slots[pair.a]
        other = _EMPTY if pair.b is None else compared.b.slots[pair.b]
        if one.episodes or other.episodes:
            shares = [
                Share(word, one.classes[word], other.classes[word], one.episodes, other.episodes)
                for word in CLASSES
                if one.classes[word] or other.classes[word]
            ]
            found.append(SlotChange(pair, one, other, shares))
    return found


def pattern_rows(compared: Comparison) -> list[tuple[str, str, str]]:
    """Return for each pattern what A and B say of it: (name, A, B).

    pattern_rows(compare(a, b))[0]  # ("stale", "2 observed, 0 predicted", "not checked: ...")
    """
    names = dict.fromkeys([*compared.a.patterns, *compared.b.patterns])
    return [
        (name.replace("_", " "), _state(compared.a, name), _state(compared.b, name))
        for name in names
    ]


def loss_rows(compared: Comparison) -> list[tuple[str, str, str]]:
    """Return how much was recorded and lost on each side: (what, A, B).

    loss_rows(compare(a, b))[0]  # ("events", "4,096", "5,010")
    """
    a, b = compared.a, compared.b
    rows = [("events", f"{a.events:,}", f"{b.events:,}"), ("lost", _lost(a), _lost(b))]
    for cause in dict.fromkeys([*a.losses, *b.losses]):
        numbers = [f"{side.losses[cause]:,}" if cause in side.losses else "." for side in (a, b)]
        rows.append((cause, *numbers))  # type: ignore[arg-type]
    return rows


def head(side: Side) -> str:
    """Return the verdict of a *side*, with what it rests on and assumes, as the report has it.

    head(side)  # "clean, resting on losses"
    """
    text = side.verdict.word
    if side.qualified_by:
        text += f", resting on {', '.join(side.qualified_by)}"
    if side.assumed_clock_ns is not None:
        text += f", assuming that clocks agree within {side.assumed_clock_ns:,} ns"
    return text


def _protection(slot: SlotShare) -> str:
    if not slot.episodes:
        return "no episodes"
    if slot.protection:
        return ", ".join(slot.protection)
    return "uncertain" if slot.classes["uncertain"] else "nothing that had to be protected"


def _state(side: Side, name: str) -> str:
    if name not in side.patterns:
        return "not known"
    state = side.patterns[name]
    if not state.checked:
        return f"not checked: {state.because or 'it says no reason'}"
    return f"{state.observed:,} observed, {state.predicted:,} predicted"


def _lost(side: Side) -> str:
    return "unknown" if side.lost is None else f"{side.lost:,}"
