# SPDX-License-Identifier: Apache-2.0
"""In a torn edit a GHES map or unmap meets an unfinished page-table edit.

Either it interrupts the edit, in a higher context of the same CPU, or it runs beside it on
another CPU and no lock is common to both. Edits are those of the vm area code (EDIT events) and
the GHES maps and unmaps of other slots, whose function is in progress until its return, or the
next event of its context.

What that means depends on what both touch. If they touch the same entry, it is *observed*. If they
touch different entries of one page-table page, it is *predicted* where either side may allocate or
free such pages. Otherwise it is counted as harmless and never a finding: writers of single entries
don't get in each other's way, and neither do those of different page-table pages.

Two that only allocate share a lock, init_mm.page_table_lock (__pte_alloc_kernel), so they can't
run beside each other, and one that interrupts the other waits for it for ever. Two writes of one
slot share the slot's lock; where it fails, that is the pattern `overlap`.

From Linux 7.0 (f2edc1fb9c81, feb2d38013dd) a source's status word stays mapped. Its driver's
removal unmaps it before the grace period ends, so a handler that runs meanwhile in an NMI may still
read it. That is *predicted*, as what the handler reads is not traced. Where the kernel's code
unmaps it behind the grace period, the plan implies nothing of the removal, and it is no hazard.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

from ghesrace.checker.core import words as w
from ghesrace.checker.core.decided import Decided
from ghesrace.checker.core.edits import Meeting
from ghesrace.checker.core.holds import Span
from ghesrace.checker.findings import Finding, Occurrence, Severity, Step, in_time
from ghesrace.checker.patterns import Contexts, Pattern, context
from ghesrace.events import PAGE_SIZE, Kind
from ghesrace.plan import Plan

SAME_TABLE, OTHER_TABLE = "same table, single entries", "other tables"
_DANGER = {
    w.ENTRY: "both write the same page-table entry",
    w.TABLE: "both use one page-table page, which one of them may allocate or free",
    w.STATUS: "the handler may read the status word of the source that is being removed",
}


class TornEdit(Pattern):
    """This finds GHES maps and unmaps that meet an unfinished edit; the module says what counts.

    >>> TornEdit(Plan("x86_64", "6.12", (), ())).observed
    0
    """

    name: ClassVar[str] = "torn_edit"
    needs: ClassVar[tuple[Kind, ...]] = (Kind.EDIT,)
    hidden: ClassVar[tuple[Kind, ...]] = (Kind.EDIT, Kind.EDIT_END)
    contexts: ClassVar[Contexts] = "needed"

    def __init__(self, plan: Plan, all_occurrences: bool = False) -> None:
        super().__init__(plan, all_occurrences)
        self.harmless = {SAME_TABLE: 0, OTHER_TABLE: 0}
        self.undecided = 0
        self._predicted = 0
        self._crowded = False

    @property
    def predicted(self) -> int:
        """This is how many times it is predicted."""
        return self._predicted

    def take(self, decided: Decided) -> None:
        """Take the GHES writes and handlers that met an edit, or may have."""
        self._crowded |= decided.crowded_edits
        for met in decided.met:
            if met.result == w.SAME_TABLE:
                self.harmless[SAME_TABLE] += 1
            elif met.result == w.OTHER_TABLE:
                self.harmless[OTHER_TABLE] += 1
            elif met.result == w.UNDECIDED:
                self.undecided += 1
            else:
                self._add(met)

    def _add(self, met: Meeting) -> None:
        x, y = met.edit, met.ghes
        severity: Severity = "observed" if met.result == w.OBSERVED else "predicted"
        if severity == "observed":
            self.observed += 1
        else:
            self._predicted += 1
        sides = [(side.cpu, side.ctx, side.slot, side.point, side.kind) for side in (y, x)]
        when = partial(_occurrence, x, y)
        key = (met.danger, severity, *sides)
        self.found.add(
            key, lambda: self._finding(met, severity, when()), when, self.assumed(met.assumes)
        )

    def _finding(self, met: Meeting, severity: Severity, when: Occurrence) -> Finding:
        x, y = met.edit, met.ghes
        verb = "interrupted" if x.cpu == y.cpu else "ran beside"
        who = [f"CPU {side.cpu} ({context(side.ctx)})" for side in (x, y)]
        does = [self._does(side) for side in (x, y)]
        why = f"{who[1]} {does[1]}; it {verb} {who[0]}, which {does[0]}: {_DANGER[met.danger]}"
        if met.danger == w.ENTRY and severity == "predicted":
            why += ", unless the edit, whose end is not traced, was over"
        steps = []
        sides: tuple[tuple[Literal["x", "y"], Span, str], ...] = (
            ("x", x, does[0]),
            ("y", y, does[1]),
        )
        for side, span, text in sides:
            name = Kind(span.kind).name.lower()
            steps.append(Step(side, None, span.t, span.cpu, context(span.ctx), name, text))
        for side, span, _ in sides:
            if span.ended:
                text = "is done with that"
                steps.append(Step(side, None, span.last, span.cpu, context(span.ctx), "end", text))
        slot = self.slot(y.slot)
        return Finding(self.name, severity, None, slot, when.cpus, None, why, in_time(steps))

    def _does(self, span: Span) -> str:
        slot = self.slot(span.slot) or "?"
        match Kind(span.kind):
            case Kind.MAP:
                return f"maps {span.phys & ~(PAGE_SIZE - 1):#x} at {slot}"
            case Kind.UNMAP:
                return f"unmaps {slot}"
            case Kind.NOTIFY:
                return "runs a GHES handler"
        begin, end = span.addr, span.addr + span.size
        probes = self.plan.probes
        by = f" in {probes[span.point].symbol}" if span.point < len(probes) else ""
        return f"edits the page tables of {begin:#x} to {end:#x}{by}" if begin else f"is{by}"

    def doubts(self) -> list[str]:
        """Return how many meetings would be a finding if they could be ordered, and whether some
        were too many to compare."""
        found = []
        if self.undecided:
            found.append(f"{self.undecided:,} writes that may have met an edit can't be ordered")
        if self._crowded:
            found.append("more edits at once than can be compared")
        return found


def _occurrence(x: Span, y: Span) -> Occurrence:
    mapped = y.t if y.kind == w.K_MAP else None
    unmapped = y.t if y.kind == w.K_UNMAP else None
    return Occurrence(y.t, mapped, None, unmapped, (x.cpu, y.cpu), None)
