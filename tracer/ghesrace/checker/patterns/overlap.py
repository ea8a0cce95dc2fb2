# SPDX-License-Identifier: Apache-2.0
"""Where two CPUs, or two contexts of one CPU, are in one slot at once, its lock does not hold.

A use of a slot lasts from its map to the end of its unmap. Within a CPU the buffer's order
decides; between CPUs the clock does, and no lock is taken for granted. What neither can order
is inconclusive. A use whose unmap was not seen, or that a loss touched, may have ended long
before, so it is never more than inconclusive either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from ghesrace.checker.core.meetings import Meetings, beside, nested
from ghesrace.checker.findings import (
    Collection,
    Finding,
    Occurrence,
    Step,
    groups,
    in_time,
    ranked,
    step_of,
)
from ghesrace.checker.losses import hides
from ghesrace.checker.model import Table, What
from ghesrace.checker.patterns import Contexts, Evidence
from ghesrace.events import Context, Kind
from ghesrace.plan import Plan


@dataclass(slots=True)
class Overlap:
    """This finds uses of one slot that overlap; the module says what counts.

    >>> Overlap(Plan("x86_64", "6.12", (), ())).observed
    0
    """

    name: ClassVar[str] = "overlap"
    essential: ClassVar[bool] = False
    needs: ClassVar[tuple[Kind, ...]] = (Kind.MAP, Kind.UNMAP)
    contexts: ClassVar[Contexts] = "needed to find all"
    plan: Plan
    all_occurrences: bool = False
    harmless: dict[str, int] = field(default_factory=dict)
    observed: int = 0
    undecided: int = 0
    _found: Collection = field(init=False)
    _meetings: list[Meetings] = field(init=False)
    _hidden: bool = False

    def __post_init__(self) -> None:
        self._found = Collection(self.all_occurrences)
        self._meetings = [Meetings(self.plan.clock_error_ns) for _ in self.plan.slots]

    @property
    def predicted(self) -> int:
        """This is always 0, as locks that hold leave no other order to predict."""
        return 0

    @property
    def happened(self) -> bool:
        """This is true if it is observed or predicted."""
        return bool(self.observed or self.predicted)

    def step(self, evidence: Evidence) -> None:
        """Compare the uses that are over with those that they may have met."""
        losses = evidence.chunk.losses
        self._hidden |= bool(hides(self.plan, losses, (Kind.MAP, Kind.UNMAP)).any())
        spans = evidence.spans
        for slot, meetings in enumerate(self._meetings):
            rows, i, j = meetings.step(
                spans,
                (spans.over["what"] == What.USE) & (spans.over["slot"] == slot),
                (spans.open["what"] == What.USE) & (spans.open["slot"] == slot),
            )
            a, b = rows[i], rows[j]
            inside = nested(a, b) | nested(b, a)
            surely, perhaps = beside(a, b, self.plan.clock_error_ns)
            known = a["ended"] & b["ended"] & ~a["touched"] & ~b["touched"]
            # Of the inner one of two uses on one CPU only the begin matters, which is inside.
            known |= nested(a, b) & a["ended"] & ~a["touched"]
            known |= nested(b, a) & b["ended"] & ~b["touched"]
            self.undecided += int((perhaps | ((inside | surely) & ~known)).sum())
            sure = np.flatnonzero((inside | surely) & known)
            self.observed += len(sure)
            self._collect(a[sure], b[sure])

    def _collect(self, a: Table, b: Table) -> None:
        columns = [side[name] for side in (a, b) for name in ("cpu", "ctx", "phys")]
        for members in groups(*columns):
            x, y = a[members[0]], b[members[0]]
            key = tuple(int(s[n]) for s in (x, y) for n in ("slot", "cpu", "ctx", "phys"))
            self._found.add(
                key, members, partial(self._finding, x, y), lambda k: _occurrence(a[k], b[k])
            )

    def _finding(self, x: np.void, y: np.void) -> Finding:
        slot = self.plan.slots[int(x["slot"])].name
        who = [f"CPU {int(s['cpu'])} ({Context(int(s['ctx'])).name.lower()})" for s in (x, y)]
        why = f"{who[1]} mapped the slot while {who[0]} was still in it: its lock does not hold"
        steps = in_time(_steps("x", x, slot) + _steps("y", y, slot))
        when = _occurrence(x, y)
        return Finding(self.name, "observed", None, slot, when.cpus, when.frames, why, steps)

    def findings(self) -> list[Finding]:
        """Return all findings, the most frequent first."""
        return ranked(list(self._found.found.values()))

    def hidden(self) -> bool:
        """Return whether a loss may have hidden a use."""
        return self._hidden

    def doubts(self) -> list[str]:
        """Return how many uses neither buffer nor clock can order, and whether some were too many
        to compare."""
        found = []
        if self.undecided:
            found.append(f"{self.undecided:,} pairs of uses of a slot that can't be ordered")
        if any(meetings.truncated for meetings in self._meetings):
            found.append("more uses of a slot at once than can be compared")
        return found


def _steps(side: Literal["x", "y"], use: np.void, slot: str) -> list[Step]:
    maps = f"maps {int(use['phys']):#x} at {slot}"
    steps = [step_of(side, use, int(use["t"]), "map", maps)]
    if use["ended"]:
        steps.append(step_of(side, use, int(use["t_sure"]), "unmap", f"unmaps {slot}"))
    return steps


def _occurrence(x: np.void, y: np.void) -> Occurrence:
    cpus, frames = (int(x["cpu"]), int(y["cpu"])), (int(x["phys"]), int(y["phys"]))
    unmap = int(y["t_sure"]) if y["ended"] else None
    return Occurrence(int(y["t"]), int(y["t"]), None, unmap, cpus, frames)
