# SPDX-License-Identifier: Apache-2.0
"""Where two CPUs, or two contexts of one CPU, are in one slot at once, its lock does not hold.

A use of a slot lasts from its map to the end of its unmap. Within a CPU the buffer's order
decides; between CPUs the clock does, and no lock is taken for granted. Uses that only the clock
leaves open are counted; they degrade the verdict only where a sure overlap occurred. A use that a
loss touched, or whose unmap was not seen, may have ended long before, so it is never sure.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

from ghesrace.checker.core.decided import Decided
from ghesrace.checker.core.holds import Episode
from ghesrace.checker.findings import Finding, Occurrence, Step, in_time
from ghesrace.checker.patterns import Contexts, Pattern, context
from ghesrace.events import Kind
from ghesrace.plan import Plan

NOT_ORDERED = "not ordered"  # uses that only the clock leaves open


class Overlap(Pattern):
    """This finds two uses of one slot at once.

    >>> Overlap(Plan("x86_64", "6.12", (), ())).observed
    0
    """

    name: ClassVar[str] = "overlap"
    needs: ClassVar[tuple[Kind, ...]] = (Kind.MAP, Kind.UNMAP)
    contexts: ClassVar[Contexts] = "needed to find all"

    def __init__(self, plan: Plan, all_occurrences: bool = False) -> None:
        super().__init__(plan, all_occurrences)
        self.uses = 0
        self.harmless = {NOT_ORDERED: 0}

    def take(self, decided: Decided) -> None:
        """Take the uses that surely overlap, and count those that nothing orders."""
        self.uses += decided.uses
        self.harmless[NOT_ORDERED] += decided.not_ordered
        for one, other, assumes in decided.overlaps:
            self._add(one, other, assumes)

    def _add(self, one: Episode, other: Episode, assumes: bool) -> None:
        first = one.map_pos < other.map_pos
        if one.hold.cpu != other.hold.cpu:
            first = (one.map_first, one.map_pos) <= (other.map_first, other.map_pos)
        x, y = (one, other) if first else (other, one)
        self.observed += 1
        key = tuple((use.hold.slot, use.hold.cpu, use.hold.ctx, use.frame) for use in (x, y))
        when = partial(_occurrence, x, y)
        self.found.add(key, lambda: self._finding(x, y, when()), when, self.assumed(assumes))

    def _finding(self, x: Episode, y: Episode, when: Occurrence) -> Finding:
        who = [f"CPU {use.hold.cpu} ({context(use.hold.ctx)})" for use in (x, y)]
        why = f"{who[1]} mapped the slot while {who[0]} was still in it: its lock does not hold"
        slot = self.plan.slots[y.hold.slot].name
        steps = in_time(_steps("x", x, slot) + _steps("y", y, slot))
        return Finding(self.name, "observed", None, slot, when.cpus, when.frames, why, steps)

    def doubts(self) -> list[str]:
        """Return how many uses neither buffer nor clock can order, where some surely overlap."""
        if not (self.observed and self.harmless[NOT_ORDERED]):
            return []
        return [f"not ordered: {self.harmless[NOT_ORDERED]:,} of {self.uses:,} uses of a slot"]


def _steps(side: Literal["x", "y"], use: Episode, slot: str) -> list[Step]:
    hold = use.hold
    where = context(hold.ctx)
    text = f"maps {use.frame:#x} at {slot}"
    steps = [Step(side, None, use.map_first, hold.cpu, where, "map", text)]
    if use.unmapped:
        text = f"unmaps {slot}"
        steps.append(Step(side, None, use.unmap_first, hold.cpu, where, "unmap", text))
    return steps


def _occurrence(x: Episode, y: Episode) -> Occurrence:
    unmap = y.unmap_first if y.unmapped else None
    cpus, frames = (x.hold.cpu, y.hold.cpu), (x.frame, y.frame)
    return Occurrence(y.map_first, y.map_first, None, unmap, cpus, frames)
