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

from collections.abc import Callable
from typing import ClassVar

from ghesrace.checker.core import words as w
from ghesrace.checker.core.decided import Decided
from ghesrace.checker.core.holds import Episode
from ghesrace.checker.core.predict import Predictions
from ghesrace.checker.core.rule import Judged
from ghesrace.checker.findings import Access, Finding, Occurrence, Severity, Step, ranked
from ghesrace.checker.patterns import Contexts, Pattern
from ghesrace.checker.races import Key, Races
from ghesrace.checker.witness import steps
from ghesrace.events import Events, Kind
from ghesrace.plan import Plan

Look = Callable[[Episode], Events]  # returns the events (EVENT) of an episode


class Stale(Pattern):
    """This finds episodes whose CPU may have used another frame's translation.

    It takes each episode that was judged, and asks *look* for the events of those that its
    witnesses show.

    >>> from ghesrace.events import empty
    >>> Stale(Plan("x86_64", "6.12", (), ()), lambda episode: empty()).observed
    0
    """

    name: ClassVar[str] = "stale"
    essential: ClassVar[bool] = True
    needs: ClassVar[tuple[Kind, ...]] = (Kind.MAP, Kind.UNMAP)
    contexts: ClassVar[Contexts] = "not needed"

    def __init__(self, plan: Plan, look: Look, all_occurrences: bool = False) -> None:
        super().__init__(plan, all_occurrences)
        self.look = look
        self.predictions = Predictions(len(plan.cpus))
        self.incidental = 0
        self.never_safe = 0

    @property
    def predicted(self) -> int:
        """This is how many episodes luck alone saved or no world saves, and how many pairs of CPUs
        would race in another order."""
        reordered = sum(finding.count for finding in self.findings() if finding.reordered)
        return self.incidental + self.never_safe + reordered

    @property
    def happened(self) -> bool:
        """This is true if an episode was unsafe, or only luck saved it."""
        return bool(self.observed or self.incidental or self.never_safe)

    def take(self, decided: Decided) -> None:
        """Take the episodes that were judged."""
        self.predictions.take(decided.every)
        self.predictions.told_hidden |= bool(decided.hid_kinds & w.TOLD)
        self._take(decided.unsafe, 1)

    def add(self, one: Judged, times: int) -> None:
        """Take an episode that happened so many *times* alike."""
        self.predictions.take([one])
        self._take([one], times)

    def _take(self, unsafe: list[Judged], times: int) -> None:
        """Take episodes that are not safe, each of which happened so many *times* alike."""
        races = Races(unsafe)
        self.observed += times * races.observed
        self.incidental += times * races.incidental
        self.never_safe += times * races.never_safe
        for key, alike in races.alike.items():
            listed = 0
            while listed < len(alike) and self.found.lists_more(key):
                self._add(key, alike[listed], times)
                listed += 1
            rest = alike[listed:]
            if rest:
                assumes = all(one.assumes for one in rest)
                self.found.count(key, times * len(rest), self.assumed(assumes))

    def _add(self, key: Key, one: Judged, times: int) -> None:
        x, y = one.threat, one.episode
        assert x is not None
        severity: Severity = "observed" if one.cls == w.NONE else "predicted"
        self.found.add(
            key,
            lambda: self._finding(one, x, y, severity),
            lambda: _occurrence(x, y),
            self.assumed(one.assumes),
            times,
            once=self.plan.summary,
        )

    def _finding(self, one: Judged, x: Episode, y: Episode, severity: Severity) -> Finding:
        cpu_x, cpu_y, access = x.hold.cpu, y.hold.cpu, _access(y)
        end = "the map that replaced it" if x.replaced else f"the unmap on CPU {cpu_x}"
        instead = f"frame {x.frame:#x} instead of {y.frame:#x}"
        luck = None
        why = (
            f"no invalidation on CPU {cpu_y} between {end} and its {access}: "
            f"it may have used {instead}"
        )
        if one.cls == w.INCIDENTAL and self.plan.forced_broadcast and x.unmap_flush != w.NO:
            luck = "the hypervisor makes the unmap's invalidation a broadcast"
            why = (
                f"on bare metal: the unmap on CPU {cpu_x} invalidates its own TLB only, and CPU "
                f"{cpu_y} may use {instead}; in this virtual machine HCR_EL2.FB makes that a "
                "broadcast"
            )
        elif one.cls == w.INCIDENTAL:
            luck = "an unrelated invalidation happens to drop the entry"
            why = (
                f"only an unrelated invalidation on CPU {cpu_y} fell between {end} and its "
                f"{access}; without it CPU {cpu_y} may use {instead}"
            )
        elif one.cls == w.UNCERTAIN:
            luck = "an unrelated invalidation may have dropped the entry: it can't be ordered"
            why = (
                f"at best an unrelated invalidation on CPU {cpu_y} fell between {end} and its "
                f"{access}, which nothing orders; without it CPU {cpu_y} may use {instead}"
            )
        witness = steps(self.plan, x, self.look(x), y, self.look(y), luck)
        slot = self.plan.slots[y.hold.slot].name
        cpus, frames = (cpu_x, cpu_y), (x.frame, y.frame)
        return Finding(self.name, severity, access, slot, cpus, frames, why, _in_order(witness))

    def _reordered(self, slot: int) -> list[Finding]:
        """Return what another order of the slot's lock holds would make of them, writes first."""
        found = []
        for writes in (True, False):
            pairs = self.predictions.pairs(slot, writes, touched=False)
            if pairs:
                found.append(self._prediction(slot, pairs))
        return found

    def _prediction(self, slot: int, pairs: list[tuple[Episode, Episode]]) -> Finding:
        x, y = pairs[0]
        cpus, frames, access = (x.hold.cpu, y.hold.cpu), (x.frame, y.frame), _access(y)
        instead = f"frame {frames[0]:#x} instead of {frames[1]:#x}"
        why = (
            "not observed: in this order of the recorded lock holds CPU "
            f"{cpus[1]} would {access} {instead}"
        )
        if self.predictions.alone(slot):
            why = (
                f"not observed: CPU {cpus[1]} alone took these notifications; assumed that "
                f"another CPU could have taken the first, this CPU would {access} {instead}"
            )
        witness = steps(self.plan, x, self.look(x), y, self.look(y), None)
        name = self.plan.slots[slot].name
        finding = Finding(self.name, "predicted", access, name, cpus, frames, why, witness, True)
        finding.count = len({(a.hold.cpu, b.hold.cpu) for a, b in pairs})
        finding.occurrences.append(_occurrence(x, y))
        return finding

    def hides(self) -> bool:
        """Return whether something would be predicted if no loss had touched it."""
        return any(
            self.predictions.pairs(slot, writes, touched=True)
            for slot in range(len(self.plan.slots))
            for writes in (True, False)
        )

    def doubts(self) -> list[str]:
        """Return whose notifications nothing tells apart, where one CPU took them all."""
        if self.happened:
            return []
        return [
            f"{slot.name}: one CPU took all notifications, and nothing tells them apart"
            for number, slot in enumerate(self.plan.slots)
            if self.predictions.doubtful(number)
        ]

    def findings(self) -> list[Finding]:
        """Return all findings, the worst first. Another order of a slot's holds is only asked for
        where nothing happened in this one."""
        found = list(self.found.found.values())
        seen = {f.slot for f in found}
        for slot in range(len(self.plan.slots)):
            if self.plan.slots[slot].name not in seen:
                found += self._reordered(slot)
        return ranked(found)


def _access(episode: Episode) -> Access:
    return "write" if episode.writes else "read"


def _occurrence(x: Episode, y: Episode) -> Occurrence:
    read = y.read_first if y.read_seen else None
    unmap = y.unmap_first if y.unmapped and not y.replaced else None
    cpus, frames = (x.hold.cpu, y.hold.cpu), (x.frame, y.frame)
    return Occurrence(y.map_first, y.map_first, read, unmap, cpus, frames)


def _in_order(witness: list[Step]) -> list[Step]:
    """Return the steps in time order; one without a stamp stays behind the one that it follows."""
    stamped, last = [], 0
    for step in witness:
        last = max(last, step.ts) if step.ts is not None else last
        stamped.append((step.ts if step.ts is not None else last, step))
    return [step for _, step in sorted(stamped, key=lambda pair: pair[0])]
