# SPDX-License-Identifier: Apache-2.0
"""This decides what a plan believes of that which its symbols imply, and keeps what it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from ghesrace.host.facts import Facts
from ghesrace.host.kallsyms import Symbol
from ghesrace.plan import INVALIDATES, Implied, Slot, Unseen
from ghesrace.points import PROVABLE, Candidate, Implication, Point

from .implied.judge import Answer
from .implied.prove import Question, called_late, prove
from .slots import Slots

_STATES: dict[bool | None, Literal["proven", "contradicted", "assumed"]] = {
    True: "proven",
    False: "contradicted",
    None: "assumed",
}
_EDITS = {
    "page-after-set": "a local invalidation after the set",
    "page-after-clear": "a local invalidation after the clear",
    "broadcast-after-clear": "an invalidation on all CPUs after the clear",
    "flush-inside": "an invalidation of the page inside it, after the write",
}


class Implications:
    """These are the implications of a plan that is being made, each with what it rests on.

    >>> from ghesrace.points import families
    >>> Implications(Facts("x86_64", "6.12"), Slots(Facts("x86_64", "6.12"))).all
    []
    """

    def __init__(self, facts: Facts, slots: Slots) -> None:
        self._facts = facts
        self._slots = slots
        self.all: list[Implied] = []
        self.unseen: list[Unseen] = []
        self.not_checked: dict[str, str] = {}
        self._besides: dict[tuple[str, str], str] = {}

    @property
    def assumed(self) -> bool:
        """This is true if some implication is believed that the code could not be asked about."""
        return any(one.state == "assumed" for one in self.all)

    def believed(
        self,
        point: Point,
        candidate: Candidate,
        symbol: Symbol,
        named: str,
        said: Iterable[Implication],
        watched: Mapping[str, Symbol],
    ) -> tuple[str, ...]:
        """Return what *symbol*, which *named* names in the plan, does besides: all that is *said*
        of it, but for what the kernel's code contradicts. *watched* are the functions of the points
        that are resolved beside this one, by point."""
        mine = self._mine(point, symbol)
        kept: list[str] = []
        unwatched: set[str] = set()
        for one in said:
            if one.what not in PROVABLE:
                late = self._late(candidate, symbol, one)
                if late:
                    self._besides[point.name, named] = late
                else:
                    kept.append(one.what)
                continue
            if one.instead and not (
                one.instead in unwatched or self._contradicted(point, named, one.instead)
            ):
                continue
            flushes = {watched[name].address: name for name in one.given if name in watched}
            flushes = {at: watched[name].name for at, name in flushes.items() if at}
            question = Question(candidate, symbol, one.what, mine, flushes)
            answer = prove(self._facts, question)
            if one.instead and not answer.held:
                continue
            if one.given and answer.held and not answer.watched:
                unwatched.add(one.what)  # An instruction does it, which no event shows.
                continue
            self._note(point, named, one.what, answer, mine)
            if answer.held is not False:
                kept.append(one.what)
        return tuple(kept)

    def besides(self, point: Point, named: str) -> str:
        """Return why something that is said of *named* is no hazard on this kernel, or ""."""
        return self._besides.get((point.name, named), "")

    def _late(self, candidate: Candidate, symbol: Symbol, one: Implication) -> str:
        if not one.by:
            return ""
        answer = called_late(self._facts, candidate, symbol, one.by, one.behind)
        return answer.text if answer.held else ""

    def asked(self, point: Point, answers: Iterable[tuple[str, Answer]]) -> None:
        """Keep what the code said when the functions that may serve *point* were asked whether they
        invalidate: one that does not was not chosen."""
        for name, answer in answers:
            state = _STATES[answer.held]
            self.all.append(Implied(point.name, name, INVALIDATES, state, answer.text))
            if answer.held is False:
                why = f"this kernel's code does not do it: {answer.text}"
                self.unseen.append(Unseen(f"the invalidation that {name} is known for", why))

    def _mine(self, point: Point, symbol: Symbol) -> tuple[Slot, ...]:
        number = self._slots.number(symbol.module, point.slot) if point.slot else None
        if number is not None:
            return (self._slots.all[number],)
        return tuple(
            slot
            for slot in self._slots.all
            if slot.family == point.family and slot.module == symbol.module
        )

    def _contradicted(self, point: Point, named: str, what: str) -> bool:
        wanted = (point.name, named, what, "contradicted")
        return any((i.point, i.symbol, i.what, i.state) == wanted for i in self.all)

    def _note(
        self, point: Point, named: str, what: str, answer: Answer, slots: tuple[Slot, ...]
    ) -> None:
        self.all.append(Implied(point.name, named, what, _STATES[answer.held], answer.text))
        if answer.held is not False:
            return
        names = tuple(slot.name for slot in slots)
        subject = f"{_EDITS[what]}, which {named} is known for"
        why = f"this kernel's code does not do it: {answer.text}"
        self.unseen.append(Unseen(subject, why, ("stale",), names))
        if what == "flush-inside" and answer.early:
            # Its event would seem to lie behind the write, so nothing seen can be believed.
            self.not_checked["stale"] = f"{named}: {answer.text}"
