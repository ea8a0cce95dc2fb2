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
read it. That is *predicted*, as what the handler reads is not traced.
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
    Severity,
    groups,
    in_time,
    ranked,
    step_of,
)
from ghesrace.checker.losses import hides
from ghesrace.checker.model import Spans, Table, What
from ghesrace.checker.patterns import Contexts, Evidence
from ghesrace.events import PAGE_SIZE, TABLE_SHIFT, Bools, Context, Kind
from ghesrace.plan import Plan

SAME_TABLE, OTHER_TABLE = "same table, single entries", "other tables"
_Hazard = Literal["entry", "table", "status"]


@dataclass(slots=True)
class TornEdit:
    """This finds GHES maps and unmaps that meet an unfinished edit; the module says what counts.

    >>> TornEdit(Plan("x86_64", "6.12", (), ())).observed
    0
    """

    name: ClassVar[str] = "torn_edit"
    essential: ClassVar[bool] = False
    needs: ClassVar[tuple[Kind, ...]] = (Kind.EDIT,)
    contexts: ClassVar[Contexts] = "needed"
    plan: Plan
    all_occurrences: bool = False
    observed: int = 0
    predicted: int = 0
    undecided: int = 0
    harmless: dict[str, int] = field(default_factory=lambda: {SAME_TABLE: 0, OTHER_TABLE: 0})
    _found: Collection = field(init=False)
    _writes: Meetings = field(init=False)
    _calls: Meetings = field(init=False)
    _allocates: Bools = field(init=False)
    _frees: Bools = field(init=False)
    _status: Bools = field(init=False)
    _groups: list[tuple[str, str]] = field(init=False)
    _hidden: bool = False

    def __post_init__(self) -> None:
        self._found = Collection(self.all_occurrences)
        self._writes = Meetings(self.plan.clock_error_ns)
        self._calls = Meetings(self.plan.clock_error_ns)
        self._allocates = self._implying("may-allocate")
        self._frees = self._implying("may-free")
        self._status = self._implying("unmaps-status")
        self._groups = [(slot.family, slot.module) for slot in self.plan.slots]

    def _implying(self, what: str) -> Bools:
        table = np.zeros(1 << 16, np.bool_)
        table[: len(self.plan.probes)] = [what in probe.implies for probe in self.plan.probes]
        return table

    @property
    def happened(self) -> bool:
        """This is true if it is observed or predicted."""
        return bool(self.observed or self.predicted)

    def step(self, evidence: Evidence) -> None:
        """Compare GHES writes with the edits and with the other writes that they meet."""
        kinds = (Kind.EDIT, Kind.EDIT_END, Kind.MAP, Kind.UNMAP)
        self._hidden |= bool(hides(self.plan, evidence.chunk.losses, kinds).any())
        self._meet_writes(evidence.spans, evidence.addresses)
        self._meet_calls(evidence.spans)

    def _meet_writes(self, spans: Spans, addresses: list[int | None]) -> None:
        rows, i, j = self._writes.step(spans, self._edit(spans.over), self._edit(spans.open))
        write = rows["what"] == What.WRITE
        both = (write[i] | write[j]) & (rows["cpu"][i] != rows["cpu"][j])
        both |= (write[i] | write[j]) & (rows["ctx"][i] != rows["ctx"][j])
        i, j = i[both], j[both]
        # g is the GHES write; of two it is the one that came later, as it interrupts the other.
        swap = write[i] & ~write[j]
        g, e = rows[np.where(swap, i, j)], rows[np.where(swap, j, i)]
        inside = nested(e, g) | nested(g, e)
        surely, perhaps = beside(g, e, self.plan.clock_error_ns)
        entry, table = self._shared(g, e, addresses)
        # Two writes of one slot on different CPUs have its lock in common.
        locked = (e["what"] == What.WRITE) & (e["slot"] == g["slot"]) & (g["cpu"] != e["cpu"])
        inside, surely, perhaps = inside & ~locked, surely & ~locked, perhaps & ~locked
        allocate = self._allocating(g), self._allocating(e)
        free = self._frees[g["point"]] | self._frees[e["point"]]
        alone = allocate[0] ^ allocate[1]  # Beside each other, two that allocate share a lock.
        unsafe = free | np.where(inside, allocate[0] | allocate[1], alone)
        hazard = entry | (table & unsafe)
        known = ~g["touched"] & ~e["touched"]
        met = inside | surely
        self.undecided += int((hazard & (perhaps | (met & ~known))).sum())
        self.harmless[SAME_TABLE] += int((met & table & ~hazard).sum())
        self.harmless[OTHER_TABLE] += int((met & ~table & ~hazard).sum())
        certain = e["ended"] | surely
        for what, severity, chosen in (
            ("entry", "observed", entry & certain),
            ("entry", "predicted", entry & ~certain),
            ("table", "predicted", hazard & ~entry),
        ):
            at = np.flatnonzero(chosen & met & known)
            self._collect(what, severity, g[at], e[at])  # type: ignore[arg-type]

    def _edit(self, spans: Table) -> Bools:
        mine = (spans["what"] == What.WRITE) | (spans["what"] == What.EDIT)
        return np.asarray(mine & ~self._status[spans["point"]])

    def _allocating(self, spans: Table) -> Bools:
        """Return a mask of those spans which may allocate; a GHES unmap only clears entries."""
        return np.asarray(self._allocates[spans["point"]] & (spans["kind"] != Kind.UNMAP))

    def _shared(self, g: Table, e: Table, addresses: list[int | None]) -> tuple[Bools, Bools]:
        """Return a mask of those pairs which touch one entry, and a mask of those which touch one
        page-table page."""
        known = np.array([0 if a is None else a for a in addresses], np.uint64)
        family = np.array([self._groups.index(group) for group in self._groups])
        v, page = known[g["slot"]], np.uint64(PAGE_SIZE - 1)
        shift = np.uint64(TABLE_SHIFT)
        other = e["what"] == What.WRITE
        # An edit that has no length is not known to touch anything.
        last = e["addr"] + np.maximum(e["size"], 1) - np.uint64(1)
        some = ~other & (v != 0) & (e["size"] != 0)
        entry = some & (e["addr"] <= (v | page)) & (last >= v)
        table = some & (e["addr"] >> shift <= v >> shift) & (last >> shift >= v >> shift)
        slot = np.where(other, e["slot"], 0)
        w = known[slot]
        entry |= other & (e["slot"] == g["slot"])
        near = np.where(
            (v != 0) & (w != 0), v >> shift == w >> shift, family[slot] == family[g["slot"]]
        )
        return np.asarray(entry), np.asarray(table | (other & near) | entry)

    def _meet_calls(self, spans: Spans) -> None:
        """Collect the handlers that run in an NMI beside the removal of a source."""
        if not self._status.any():
            return
        rows, i, j = self._calls.step(spans, self._window(spans.over), self._window(spans.open))
        call = rows["what"] == What.CALL
        both = call[i] != call[j]
        i, j = i[both], j[both]
        g, e = rows[np.where(call[i], i, j)], rows[np.where(call[i], j, i)]
        surely, perhaps = beside(g, e, self.plan.clock_error_ns)
        at = np.flatnonzero((surely | perhaps) & ~g["touched"] & ~e["touched"])
        self.undecided += int((surely | perhaps).sum()) - len(at)
        self._collect("status", "predicted", g[at], e[at])

    def _window(self, spans: Table) -> Bools:
        call = (spans["what"] == What.CALL) & (spans["ctx"] == Context.NMI)
        return np.asarray(call | ((spans["what"] == What.EDIT) & self._status[spans["point"]]))

    def _collect(self, hazard: _Hazard, severity: Severity, g: Table, e: Table) -> None:
        if severity == "observed":
            self.observed += len(g)
        else:
            self.predicted += len(g)
        columns = [side[n] for side in (g, e) for n in ("cpu", "ctx", "slot", "point", "kind")]
        for members in groups(*columns):
            x, y = e[members[0]], g[members[0]]
            key = (hazard, severity, *(int(column[members[0]]) for column in columns))
            make = partial(self._finding, hazard, severity, x, y)
            self._found.add(key, members, make, lambda k: _occurrence(e[k], g[k]))

    def _finding(self, hazard: _Hazard, severity: Severity, x: np.void, y: np.void) -> Finding:
        """Return the finding where *x* is the edit, and *y* the GHES write or handler that met
        it."""
        what_x, what_y = self._does(x), self._does(y)
        one_cpu = x["cpu"] == y["cpu"]
        met = "interrupted" if one_cpu else "ran beside"
        danger = {
            "entry": "both write the same page-table entry",
            "table": "both use one page-table page, which one of them may allocate or free",
            "status": "the handler may read the status word of the source that is being removed",
        }[hazard]
        who = [f"CPU {int(s['cpu'])} ({Context(int(s['ctx'])).name.lower()})" for s in (x, y)]
        why = f"{who[1]} {what_y}; it {met} {who[0]}, which {what_x}: {danger}"
        if hazard == "entry" and severity == "predicted":
            why += ", unless the edit, whose end is not traced, was over"
        steps = [
            step_of("x", x, int(x["t"]), Kind(int(x["kind"])).name.lower(), what_x),
            step_of("y", y, int(y["t"]), Kind(int(y["kind"])).name.lower(), what_y),
        ]
        for side, span in (("x", x), ("y", y)):
            if span["ended"]:
                text = "is done with that"
                steps.append(step_of(side, span, int(span["t_end"]), "end", text))  # type: ignore[arg-type]
        slot = self.plan.slots[int(y["slot"])].name if y["slot"] >= 0 else None
        when = _occurrence(x, y)
        return Finding(self.name, severity, None, slot, when.cpus, None, why, in_time(steps))

    def _does(self, span: np.void) -> str:
        slot = self.plan.slots[int(span["slot"])].name if span["slot"] >= 0 else "?"
        match Kind(int(span["kind"])):
            case Kind.MAP:
                return f"maps {int(span['phys']):#x} at {slot}"
            case Kind.UNMAP:
                return f"unmaps {slot}"
            case Kind.NOTIFY:
                return "runs a GHES handler"
        begin, end = int(span["addr"]), int(span["addr"]) + int(span["size"])
        number = int(span["point"])
        by = f" in {self.plan.probes[number].symbol}" if number < len(self.plan.probes) else ""
        return f"edits the page tables of {begin:#x} to {end:#x}{by}" if begin else f"is{by}"

    def findings(self) -> list[Finding]:
        """Return all findings, the worst first."""
        return ranked(list(self._found.found.values()))

    def hidden(self) -> bool:
        """Return whether a loss may have hidden an edit or a GHES write."""
        return self._hidden

    def doubts(self) -> list[str]:
        """Return how many meetings would be a finding if they could be ordered, and whether some
        were too many to compare."""
        found = []
        if self.undecided:
            found.append(f"{self.undecided:,} writes that may have met an edit can't be ordered")
        if self._writes.truncated or self._calls.truncated:
            found.append("more edits at once than can be compared")
        return found


def _occurrence(x: np.void, y: np.void) -> Occurrence:
    mapped = int(y["t"]) if y["kind"] == Kind.MAP else None
    unmapped = int(y["t"]) if y["kind"] == Kind.UNMAP else None
    cpus = (int(x["cpu"]), int(y["cpu"]))
    return Occurrence(int(y["t"]), mapped, None, unmapped, cpus, None)
