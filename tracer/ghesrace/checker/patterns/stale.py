# SPDX-License-Identifier: Apache-2.0
"""In the stale-TLB race of 2015 an access may go through another frame's translation.

Episodes of class `none` are *observed*. Episodes that only luck saved are *predicted*, and so are
lock holds that some other order would leave unprotected.

Prediction needs no enumeration. Whole lock holds move, each CPU's stay in program order. For a
hold H of CPU y and a hold G of another CPU x there is always an order in which G comes just
before H: first comes everything that x did before G and y before H, then G, then H; the other CPUs'
holds lie anywhere. Nothing of y's own lies between G's clear and H, so H's access is of class
`none` iff G leaves a translation V->p behind that no broadcast of G covers (*exposes*), H has
no structural or lucky invalidation of y between its begin and the access (*vulnerable*), and
the frames differ. No other hold can help: it only adds threats or moves away. So a few samples
per CPU and slot of either sort decide the question, in O(CPUs) per slot. Where one CPU took all
notifications, G and H must be of different ones, and G's is assumed to be on another CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

import numpy as np

from ghesrace.checker.findings import (
    FIRST_OCCURRENCES,
    MAX_FINDINGS,
    Access,
    Finding,
    Occurrence,
    Severity,
    ranked,
)
from ghesrace.checker.model import Class, Judged, Mark, Table
from ghesrace.checker.patterns import Contexts, Evidence
from ghesrace.checker.witness import EventStore, steps
from ghesrace.events import NEVER, Events, Kind, present
from ghesrace.plan import Plan

_Sample = tuple[np.void, Events]


@dataclass(slots=True)
class _Samples:
    """These few episodes of a CPU, four at most, with their events, stand for all of them.

    Two episodes make a prediction if their frames differ and so do their notifications (one
    notification is never on two CPUs). So an episode is only kept if it pairs with a frame
    and a notification that no kept one pairs with, which happens four times at most: with
    numbers for both, (f - f_i)(c - c_i) are linearly independent polynomials of a space of
    dimension four (1, f, c, fc) if each is 0 at all that was kept before and not at i's.
    """

    kept: list[_Sample] = field(default_factory=list)
    _complete: bool = False

    def add(self, rows: Table, store: EventStore) -> None:
        """Take those episodes that help; two of each frame, of different notifications, are
        enough."""
        if self._complete:
            return
        _, first, group = np.unique(rows["frame"], return_index=True, return_inverse=True)
        other = _call_ids(rows) != _call_ids(rows[first])[group.ravel()]
        _, second = np.unique(group.ravel()[other], return_index=True)
        for row in rows[np.sort(np.append(first, np.flatnonzero(other)[second]))]:
            if self._helps(int(row["frame"]), _call(row)):
                self.kept.append((row.copy(), store.of(row).copy()))
        self._complete = not self._helps()

    def _helps(self, frame: int | None = None, call: tuple[int, ...] | None = None) -> bool:
        """Return whether an episode of this frame and notification, or any at all, could help."""
        known = [(int(row["frame"]), _call(row)) for row, _ in self.kept]
        frames = {-1, *(f for f, _ in known)} - {frame}
        calls = {(), *(c for _, c in known)} - {call}
        return any(all(f == g or c == d for g, d in known) for f in frames for c in calls)


@dataclass(slots=True)
class Stale:
    """This finds accesses through a stale translation; the module says what counts.

    >>> stale = Stale(Plan("x86_64", "6.12", (), ()))
    >>> stale.observed, stale.predicted, stale.findings()
    (0, 0, [])
    """

    name: ClassVar[str] = "stale"
    essential: ClassVar[bool] = True
    needs: ClassVar[tuple[Kind, ...]] = (Kind.MAP, Kind.UNMAP)
    contexts: ClassVar[Contexts] = "not needed"
    plan: Plan
    all_occurrences: bool = False
    harmless: dict[str, int] = field(default_factory=dict)
    store: EventStore = field(default_factory=EventStore)
    observed: int = 0
    incidental: int = 0
    _lossy: bool = False
    _found: dict[tuple[object, ...], Finding] = field(default_factory=dict)
    # The keys are the slot, the CPU, whether a loss touched them (and whether they write).
    _exposes: dict[tuple[int, int, bool], _Samples] = field(default_factory=dict)
    _vulnerable: dict[tuple[int, int, bool, bool], _Samples] = field(default_factory=dict)

    @property
    def predicted(self) -> int:
        """This is the number of episodes that luck or a hypervisor alone saved, and of pairs of
        CPUs that race in another order."""
        return self.incidental + sum(f.count for f in self.findings() if f.reordered)

    @property
    def happened(self) -> bool:
        """This is true if an episode was unsafe, or only luck saved it."""
        return bool(self.observed or self.incidental)

    def step(self, evidence: Evidence) -> None:
        """Take judged episodes, and the events (sorted by CPU and position) that they came from."""
        self.store.events = evidence.chunk.events
        self.store.kept |= evidence.digested
        for slot in evidence.judged:
            self._collect(slot, Class.NONE)
            self._collect(slot, Class.INCIDENTAL)
            self._sample(slot)
        self.store.keep(evidence.witnesses)
        self._lossy |= bool(len(evidence.chunk.losses))

    def _collect(self, judged: Judged, cls: Class) -> None:
        at = np.flatnonzero(judged.cls == cls)
        if not len(at):
            return
        if cls == Class.NONE:
            self.observed += len(at)
        else:
            self.incidental += len(at)
        y, x = judged.episodes[at], judged.threats[judged.threat[at]]
        write = (y["marks"] & Mark.WRITE) != 0
        columns = [x["cpu"], y["cpu"], x["frame"], y["frame"], write]
        names = np.stack([c.astype(np.uint64) for c in columns])
        _, first, group, count = np.unique(
            names, axis=1, return_index=True, return_inverse=True, return_counts=True
        )
        for g, i in enumerate(first):  # distinct findings, not episodes
            finding = self._finding(judged.slot, cls, x[i], y[i])
            if finding is None:
                continue
            finding.count += int(count[g])
            room = FIRST_OCCURRENCES - len(finding.occurrences)
            members = np.flatnonzero(group.ravel() == g)
            for m in members if self.all_occurrences else members[: max(room, 0)]:
                occurrence = _occurrence(x[m], y[m])
                # A summary shows the first of each shape only, as often as it counted it.
                if not self.plan.summary or occurrence not in finding.occurrences:
                    finding.occurrences.append(occurrence)

    def _finding(self, slot: int, cls: Class, x: np.void, y: np.void) -> Finding | None:
        severity: Severity = "observed" if cls == Class.NONE else "predicted"
        access = _access(y)
        cpus, frames = _pair(x, y, "cpu"), _pair(x, y, "frame")
        name = (severity, access, slot, cpus, frames)
        if name not in self._found:
            if len(self._found) >= MAX_FINDINGS:
                return None
            luck = None
            why = (
                f"no invalidation on CPU {cpus[1]} between the unmap on CPU {cpus[0]} and its "
                f"{access}: it may have used frame {frames[0]:#x} instead of {frames[1]:#x}"
            )
            if cls == Class.INCIDENTAL:
                luck = "an unrelated invalidation happens to drop the entry"
                why = (
                    f"only an unrelated invalidation on CPU {cpus[1]} fell between the unmap on "
                    f"CPU {cpus[0]} and its {access}; without it CPU {cpus[1]} may use frame "
                    f"{frames[0]:#x} instead of {frames[1]:#x}"
                )
                if self.plan.forced_broadcast:
                    luck = "the hypervisor makes the unmap's invalidation a broadcast"
                    why = (
                        f"on bare metal: the unmap on CPU {cpus[0]} invalidates its own TLB only, "
                        f"and CPU {cpus[1]} may use frame {frames[0]:#x} instead of "
                        f"{frames[1]:#x}; in this virtual machine HCR_EL2.FB makes that a broadcast"
                    )
            witness = steps(self.plan, x, self.store.of(x), y, self.store.of(y), luck)
            self._found[name] = Finding(
                self.name, severity, access, self._name(slot), cpus, frames, why, witness
            )
        return self._found[name]

    def _name(self, slot: int) -> str:
        return self.plan.slots[slot].name

    # -- prediction ----------------------------------------------------------------------

    def _sample(self, judged: Judged) -> None:
        rows = judged.episodes
        write = (rows["marks"] & Mark.WRITE) != 0
        for cpu, touched in product(present(rows["cpu"]), (False, True)):
            mine = (rows["cpu"] == cpu) & (judged.touched == touched)
            exposing = rows[judged.exposes & mine]
            if len(exposing):
                samples = self._exposes.setdefault((judged.slot, int(cpu), touched), _Samples())
                samples.add(exposing, self.store)
            for writing in (True, False):
                open_rows = rows[judged.vulnerable & mine & (write == writing)]
                if len(open_rows):
                    name = (judged.slot, int(cpu), touched, writing)
                    samples = self._vulnerable.setdefault(name, _Samples())
                    samples.add(open_rows, self.store)

    def _pairs(
        self, slot: int, writing: bool, touched: bool
    ) -> tuple[bool, list[tuple[_Sample, _Sample]]]:
        """Return whether one CPU alone took all lock holds of the slot, and the holds G and H that
        race in another order of them. With *touched* those that a loss touched are included."""
        cpus = {n[1] for n in (*self._exposes, *self._vulnerable) if n[0] == slot}
        alone = len(cpus) == 1 and len(self.plan.cpus) != 1
        return alone, [
            (x, y)
            for (s, cpu_x, t), exposing in sorted(self._exposes.items(), key=_name)
            for (s2, cpu_y, t2, w), open_rows in sorted(self._vulnerable.items(), key=_name)
            if s == s2 == slot and w == writing and (cpu_x != cpu_y or alone)
            if touched or not (t or t2)
            for x in exposing.kept
            for y in open_rows.kept
            if x[0]["frame"] != y[0]["frame"] and _call(x[0]) != _call(y[0])
        ]

    def _reordered(self, slot: int) -> list[Finding]:
        """Return the findings of another order of the slot's lock holds, writes first."""
        findings = []
        for writing in (True, False):
            alone, pairs = self._pairs(slot, writing, touched=False)
            if pairs:
                findings.append(self._predicted(slot, alone, pairs))
        return findings

    def hidden(self) -> bool:
        """Return whether something would be predicted if no loss had touched it.

        A loss feeds no prediction, but it must not make a race look clean either.
        """
        return self._lossy and any(
            self._pairs(slot, writing, touched=True)[1]
            for slot in range(len(self.plan.slots))
            for writing in (True, False)
        )

    def doubts(self) -> list[str]:
        """Return [], as what is uncertain is counted per slot, by class."""
        return []

    def _predicted(self, slot: int, alone: bool, pairs: list[tuple[_Sample, _Sample]]) -> Finding:
        (x, x_events), (y, y_events) = pairs[0]
        cpus, frames, access = _pair(x, y, "cpu"), _pair(x, y, "frame"), _access(y)
        why = (
            f"not observed: in this order of the recorded lock holds CPU {cpus[1]} would {access} "
            f"frame {frames[0]:#x} instead of {frames[1]:#x}"
        )
        if alone:
            why = (
                f"not observed: CPU {cpus[1]} alone took these notifications; assumed that "
                f"another CPU could have taken the first, this CPU would {access} frame "
                f"{frames[0]:#x} instead of {frames[1]:#x}"
            )
        witness = steps(self.plan, x, x_events, y, y_events)
        finding = Finding(
            self.name, "predicted", access, self._name(slot), cpus, frames, why, witness, True
        )
        finding.count = len({(int(a[0]["cpu"]), int(b[0]["cpu"])) for a, b in pairs})
        finding.occurrences.append(_occurrence(x, y))
        return finding

    def findings(self) -> list[Finding]:
        """Return all findings, the worst first: observed before predicted, writes before reads.

        Another order of a slot's holds is only asked for where nothing happened in this one.
        """
        found = list(self._found.values())
        seen = {f.slot for f in found}
        for slot in range(len(self.plan.slots)):
            if self._name(slot) not in seen:
                found += self._reordered(slot)
        return ranked(found)


def _name(item: tuple[tuple[int, ...], _Samples]) -> tuple[int, ...]:
    return item[0]


def _access(row: np.void) -> Access:
    return "write" if row["marks"] & Mark.WRITE else "read"


def _pair(x: np.void, y: np.void, name: str) -> tuple[int, int]:
    return int(x[name]), int(y[name])


def _call(row: np.void) -> tuple[int, ...]:
    """Return the name of the notification handler's run that an episode is part of."""
    return int(row["cpu"]), int(row["ctx"]), int(row["seq_entry"])


def _call_ids(rows: Table) -> Table:
    return rows[["cpu", "ctx", "seq_entry"]]


def _occurrence(x: np.void, y: np.void) -> Occurrence:
    read = int(y["t_read"]) if y["marks"] & Mark.ACCESS_SEEN else None
    unmap = int(y["t_unmap"]) if y["t_unmap"] != NEVER else None
    return Occurrence(
        int(y["t_map"]), int(y["t_map"]), read, unmap, _pair(x, y, "cpu"), _pair(x, y, "frame")
    )
