# SPDX-License-Identifier: Apache-2.0
"""The findings of the stale-TLB race: what the rule decided, told with its witness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ghesrace.checker.findings import (
    FIRST_OCCURRENCES,
    MAX_FINDINGS,
    Access,
    Finding,
    Occurrence,
    Severity,
    Step,
    ranked,
)
from ghesrace.checker.model import Mark
from ghesrace.checker.onepass import words as w
from ghesrace.checker.onepass.predict import Predictions
from ghesrace.checker.onepass.rule import Judged
from ghesrace.checker.onepass.state import Episode
from ghesrace.checker.witness import steps
from ghesrace.events import Events
from ghesrace.plan import Plan

Look = Callable[[Episode], Events]  # the events of an episode


class StaleFindings:
    """Feed it judged episodes; ask it for findings."""

    name = "stale"

    def __init__(self, plan: Plan, look: Look, all_occurrences: bool = False) -> None:
        self.plan = plan
        self.look = look
        self.all_occurrences = all_occurrences
        self.predictions = Predictions(len(plan.cpus))
        self.observed = 0
        self.incidental = 0
        self.never_safe = 0
        self.found: dict[tuple[object, ...], Finding] = {}

    @property
    def predicted(self) -> int:
        """Episodes that luck alone saved or that no world saves; CPUs that race in another
        order."""
        reordered = sum(f.count for f in self.findings() if f.reordered)
        return self.incidental + self.never_safe + reordered

    @property
    def happened(self) -> bool:
        """Whether an episode was unsafe, or only luck saved it."""
        return bool(self.observed or self.incidental or self.never_safe)

    def add(self, one: Judged) -> None:
        """Take one judged episode."""
        self.predictions.add(one)
        if one.cls == w.NONE:
            self.observed += 1
        elif one.cls == w.INCIDENTAL:
            self.incidental += 1
        elif one.never_safe:
            self.never_safe += 1
        else:
            return
        x, y = one.threat, one.episode
        if x is None:
            return
        severity: Severity = "observed" if one.cls == w.NONE else "predicted"
        cpus, frames = (x.hold.cpu, y.hold.cpu), (x.frame, y.frame)
        key = (severity, one.cls, y.writes, y.hold.slot, cpus, frames)
        if key not in self.found:
            if len(self.found) >= MAX_FINDINGS:
                return
            self.found[key] = self.finding(one, x, y, severity)
        finding = self.found[key]
        finding.count += 1
        if self.all_occurrences or len(finding.occurrences) < FIRST_OCCURRENCES:
            finding.occurrences.append(occurrence(x, y))

    def finding(self, one: Judged, x: Episode, y: Episode, severity: Severity) -> Finding:
        cpu_x, cpu_y, access = x.hold.cpu, y.hold.cpu, access_of(y)
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
        witness = steps(self.plan, row(x), self.look(x), row(y), self.look(y), luck)
        slot = self.plan.slots[y.hold.slot].name
        cpus, frames = (cpu_x, cpu_y), (x.frame, y.frame)
        return Finding(self.name, severity, access, slot, cpus, frames, why, in_order(witness))

    # -- prediction --------------------------------------------------------------------------

    def reordered(self, slot: int) -> list[Finding]:
        """What another order of the slot's lock holds would make of them; writes first."""
        found = []
        for writes in (True, False):
            pairs = self.predictions.pairs(slot, writes, touched=False)
            if pairs:
                found.append(self.prediction(slot, pairs))
        return found

    def prediction(self, slot: int, pairs: list[tuple[Episode, Episode]]) -> Finding:
        x, y = pairs[0]
        cpus, frames, access = (x.hold.cpu, y.hold.cpu), (x.frame, y.frame), access_of(y)
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
        witness = steps(self.plan, row(x), self.look(x), row(y), self.look(y), None)
        name = self.plan.slots[slot].name
        finding = Finding(self.name, "predicted", access, name, cpus, frames, why, witness, True)
        finding.count = len({(a.hold.cpu, b.hold.cpu) for a, b in pairs})
        finding.occurrences.append(occurrence(x, y))
        return finding

    def hidden(self) -> bool:
        """Whether something would be predicted if no loss had touched it."""
        return any(
            self.predictions.pairs(slot, writes, touched=True)
            for slot in range(len(self.plan.slots))
            for writes in (True, False)
        )

    def doubts(self) -> list[str]:
        """What could not be decided, in a few words each."""
        if self.happened:
            return []
        return [
            f"{slot.name}: one CPU took all notifications, and nothing tells them apart"
            for number, slot in enumerate(self.plan.slots)
            if self.predictions.doubtful(number)
        ]

    def findings(self) -> list[Finding]:
        """All findings, the worst first. Another order of a slot's holds is only asked for where
        nothing happened in this one."""
        found = list(self.found.values())
        seen = {f.slot for f in found}
        for slot in range(len(self.plan.slots)):
            if self.plan.slots[slot].name not in seen:
                found += self.reordered(slot)
        return ranked(found)


def access_of(episode: Episode) -> Access:
    """What the access does."""
    return "write" if episode.writes else "read"


def occurrence(x: Episode, y: Episode) -> Occurrence:
    """When it happened."""
    read = y.read_first if y.read_seen else None
    unmap = y.unmap_first if y.unmapped and not y.replaced else None
    cpus, frames = (x.hold.cpu, y.hold.cpu), (x.frame, y.frame)
    return Occurrence(y.map_first, y.map_first, read, unmap, cpus, frames)


def row(episode: Episode) -> Any:
    """What the witness needs to know of an episode."""
    marks = Mark(0)
    marks |= Mark.WRITE if episode.writes else Mark(0)
    return {
        "slot": episode.hold.slot,
        "cpu": episode.hold.cpu,
        "ctx": episode.hold.ctx,
        "frame": episode.frame,
        "marks": int(marks),
        "seq_map": episode.seq_map,
        "seq_read": episode.read_seq,
    }


def in_order(witness: list[Step]) -> list[Step]:
    """In time order; what has no stamp stays behind what it follows."""
    stamped, last = [], 0
    for step in witness:
        last = max(last, step.ts) if step.ts is not None else last
        stamped.append((step.ts if step.ts is not None else last, step))
    return [step for _, step in sorted(stamped, key=lambda pair: pair[0])]
