# SPDX-License-Identifier: Apache-2.0
"""What was judged, counted by slot, class and cause."""

from __future__ import annotations

from array import array

from ghesrace.checker.core import words as w
from ghesrace.checker.core.holds import Hold
from ghesrace.checker.core.rule import Judged

from .report import SlotCounts


class Account:
    """Feed this judged episodes (`take`); it adds them to the counts *slots*, one of each slot.

    >>> counts = [SlotCounts("GHES_IRQ", None)]
    >>> Account(counts).take([])
    >>> counts[0].episodes
    0
    """

    def __init__(self, slots: list[SlotCounts]) -> None:
        self.slots = slots
        self.at_start: dict[tuple[int, int], int] = {}  # (slot, cpu) -> not forgiven yet
        # Episodes whose map is hidden and which may be unsafe; those that the start alone makes so.
        self.orphans = 0
        self.orphans_at_start: dict[tuple[int, int], int] = {}
        self.new = array("q", [0] * (len(slots) * w.COUNTS))  # not added yet: a row a slot

    def take(self, judged: list[Judged]) -> None:
        """Count these episodes; of those whose map was not seen, the ones that may be unsafe."""
        new = self.new
        for one in judged:
            hold: Hold = one.episode.hold
            if not one.episode.judged:
                self.hide(one, hold)
                continue
            at = hold.slot * w.COUNTS
            new[at] += 1
            new[at + w.N_HANDOFFS] += one.handoff
            new[at + w.N_LATENT] += one.latent
            new[at + w.N_CLASSES + one.cls] += 1
            if one.cls == w.UNCERTAIN:
                new[at + w.N_CAUSES + one.why] += 1
                if one.why == w.START:
                    self.open(hold.slot, hold.cpu, 1)
            elif self.at_start or self.orphans_at_start:
                new[at + w.N_FORGIVEN] += self.forgive(hold.slot, hold.cpu)
        self.add_up()

    def hide(self, one: Judged, hold: Hold) -> None:
        """Take an episode whose map was not seen."""
        if one.cls == w.UNCERTAIN and one.why == w.START:
            key = hold.slot, hold.cpu
            self.orphans_at_start[key] = self.orphans_at_start.get(key, 0) + 1
        elif one.cls >= w.INCIDENTAL:
            self.orphans += 1

    def open(self, slot: int, cpu: int, n: int) -> None:
        """What the start alone leaves open may be forgiven."""
        self.at_start[slot, cpu] = self.at_start.get((slot, cpu), 0) + n

    def forgive(self, slot: int, cpu: int) -> int:
        """Forgive what was open, as a later episode there was judged; return how many."""
        self.orphans_at_start.pop((slot, cpu), None)
        return self.at_start.pop((slot, cpu), 0)

    def add(
        self, slot: int, cpu: int, cls: int, why: int, n: int, latent: bool, handoff: bool
    ) -> None:
        """Count *n* episodes that were judged alike (Class, Why)."""
        counts = self.slots[slot]
        counts.episodes += n
        counts.handoffs += n if handoff else 0
        counts.latent += n if latent else 0
        counts.classes[cls] += n
        if cls != w.UNCERTAIN:
            counts.uncertain_at_start += self.forgive(slot, cpu)
            return
        counts.uncertain[why] += n
        if why == w.START:
            self.open(slot, cpu, n)

    def add_up(self) -> None:
        """Add what is new to the counts."""
        for number, slot in enumerate(self.slots):
            new = self.new[number * w.COUNTS : (number + 1) * w.COUNTS]
            slot.episodes += new[0]
            slot.handoffs += new[w.N_HANDOFFS]
            slot.latent += new[w.N_LATENT]
            slot.uncertain_at_start += new[w.N_FORGIVEN]
            for cls in range(w.UNCERTAIN + 1):
                slot.classes[cls] += new[w.N_CLASSES + cls]
            for why in range(w.INCONSISTENT + 1):
                slot.uncertain[why] += new[w.N_CAUSES + why]
        self.new = array("q", [0] * len(self.new))
