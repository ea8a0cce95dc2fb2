# SPDX-License-Identifier: Apache-2.0
"""The findings of overlap, torn edit and shootdown: what the core saw, told in words."""

from __future__ import annotations

from typing import Literal

from ghesrace.checker.findings import (
    FIRST_OCCURRENCES,
    MAX_FINDINGS,
    Finding,
    Occurrence,
    Severity,
    Step,
    in_time,
    ranked,
)
from ghesrace.checker.onepass import edits as e
from ghesrace.checker.onepass import words as w
from ghesrace.checker.onepass.edits import Meeting
from ghesrace.checker.onepass.reader import Sent
from ghesrace.checker.onepass.state import Episode, Span
from ghesrace.events import Context, Kind
from ghesrace.plan import Plan

Side = Literal["x", "y"]
SAME_TABLE, OTHER_TABLE = "same table, single entries", "other tables"


class Told:
    """The distinct findings of a pattern, each with its first witness, and all counted."""

    def __init__(self, plan: Plan, all_occurrences: bool) -> None:
        self.plan = plan
        self.all_occurrences = all_occurrences
        self.observed = 0
        self.predicted = 0
        self.harmless: dict[str, int] = {}
        self.found: dict[tuple[object, ...], Finding] = {}

    @property
    def happened(self) -> bool:
        """Whether it is observed or predicted."""
        return bool(self.observed or self.predicted)

    def findings(self) -> list[Finding]:
        """All findings, the worst first."""
        return ranked(list(self.found.values()))

    def count(self, key: tuple[object, ...], when: Occurrence) -> None:
        """One more of a finding that is known."""
        finding = self.found.get(key)
        if finding is None:
            return
        finding.count += 1
        if self.all_occurrences or len(finding.occurrences) < FIRST_OCCURRENCES:
            finding.occurrences.append(when)

    def room(self, key: tuple[object, ...]) -> bool:
        """Whether a finding is new, and there is room for it."""
        return key not in self.found and len(self.found) < MAX_FINDINGS

    def slot(self, number: int) -> str | None:
        """A slot's name."""
        return self.plan.slots[number].name if number >= 0 else None


class Overlaps(Told):
    """Two CPUs, or two contexts of one CPU, in one slot at once: its lock does not hold."""

    def add(self, a: Episode, b: Episode) -> None:
        """Take two uses that surely overlap."""
        x, y = (a, b) if (a.map_first, a.map_pos) <= (b.map_first, b.map_pos) else (b, a)
        if x.hold.cpu == y.hold.cpu and y.map_pos < x.map_pos:
            x, y = y, x
        self.observed += 1
        key = tuple((o.hold.slot, o.hold.cpu, o.hold.ctx, o.frame) for o in (x, y))
        when = Occurrence(
            y.map_first,
            y.map_first,
            None,
            y.unmap_first if y.unmapped else None,
            (x.hold.cpu, y.hold.cpu),
            (x.frame, y.frame),
        )
        if self.room(key):
            who = [f"CPU {o.hold.cpu} ({context(o.hold.ctx)})" for o in (x, y)]
            why = f"{who[1]} mapped the slot while {who[0]} was still in it: its lock does not hold"
            steps = in_time(self.steps("x", x) + self.steps("y", y))
            name = self.slot(y.hold.slot)
            self.found[key] = Finding(
                "overlap", "observed", None, name, when.cpus, when.frames, why, steps
            )
        self.count(key, when)

    def steps(self, side: Side, use: Episode) -> list[Step]:
        hold, slot = use.hold, self.slot(use.hold.slot)
        where = context(hold.ctx)
        text = f"maps {use.frame:#x} at {slot}"
        steps = [Step(side, None, use.map_first, hold.cpu, where, "map", text)]
        if use.unmapped:
            text = f"unmaps {slot}"
            steps.append(Step(side, None, use.unmap_first, hold.cpu, where, "unmap", text))
        return steps


class TornEdits(Told):
    """A GHES map or unmap that meets an unfinished page-table edit."""

    def __init__(self, plan: Plan, all_occurrences: bool) -> None:
        super().__init__(plan, all_occurrences)
        self.harmless = {SAME_TABLE: 0, OTHER_TABLE: 0}
        self.undecided = 0
        self.torn: set[tuple[int, int, int, int, int]] = set()

    def add(self, met: Meeting) -> None:
        """Take one meeting."""
        if met.result == e.SAME_TABLE:
            self.harmless[SAME_TABLE] += 1
        elif met.result == e.OTHER_TABLE:
            self.harmless[OTHER_TABLE] += 1
        elif met.result == e.UNDECIDED:
            self.undecided += 1
        else:
            self.tell(met)

    def tell(self, met: Meeting) -> None:
        x, y = met.edit, met.ghes
        severity: Severity = "observed" if met.result == e.OBSERVED else "predicted"
        if severity == "observed":
            self.observed += 1
        else:
            self.predicted += 1
        mapped = y.t if y.kind == w.K_MAP else None
        unmapped = y.t if y.kind == w.K_UNMAP else None
        when = Occurrence(y.t, mapped, None, unmapped, (x.cpu, y.cpu), None)
        sides = [(s.cpu, s.ctx, s.slot, s.point, s.kind) for s in (y, x)]
        key = (met.danger, severity, *sides)
        if self.room(key):
            self.found[key] = self.finding(met, severity, when)
        self.count(key, when)

    def finding(self, met: Meeting, severity: Severity, when: Occurrence) -> Finding:
        x, y = met.edit, met.ghes
        one_cpu = x.cpu == y.cpu
        verb = "interrupted" if one_cpu else "ran beside"
        danger = {
            e.ENTRY: "both write the same page-table entry",
            e.TABLE: "both use one page-table page, which one of them may allocate or free",
            e.STATUS: "the handler may read the status word of the source that is being removed",
        }[met.danger]
        who = [f"CPU {s.cpu} ({context(s.ctx)})" for s in (x, y)]
        does = [self.does(s) for s in (x, y)]
        why = f"{who[1]} {does[1]}; it {verb} {who[0]}, which {does[0]}: {danger}"
        if met.danger == e.ENTRY and severity == "predicted":
            why += ", unless the edit, whose end is not traced, was over"
        steps = []
        sides: tuple[tuple[Side, Span, str], ...] = (("x", x, does[0]), ("y", y, does[1]))
        for side, span, text in sides:
            name = Kind(span.kind).name.lower()
            steps.append(Step(side, None, span.t, span.cpu, context(span.ctx), name, text))
        for side, span, _ in sides:
            if span.ended:
                text = "is done with that"
                steps.append(Step(side, None, span.last, span.cpu, context(span.ctx), "end", text))
        return Finding(
            "torn_edit",
            severity,
            None,
            self.slot(y.slot),
            when.cpus,
            None,
            why,
            in_time(steps),
        )

    def does(self, span: Span) -> str:
        slot = self.slot(span.slot) or "?"
        if span.kind == w.K_MAP:
            return f"maps {span.phys & ~(w.PAGE - 1):#x} at {slot}"
        if span.kind == w.K_UNMAP:
            return f"unmaps {slot}"
        if span.kind == w.K_NOTIFY:
            return "runs a GHES handler"
        begin, end = span.addr, span.addr + span.size
        probes = self.plan.probes
        by = f" in {probes[span.point].symbol}" if span.point < len(probes) else ""
        return f"edits the page tables of {begin:#x} to {end:#x}{by}" if begin else f"is{by}"


class Shootdowns(Told):
    """An IPI-and-wait TLB shootdown where none may be sent."""

    def add(self, sent: Sent) -> None:
        """Take one shootdown from a place where none may be sent."""
        if len(self.plan.cpus) == 1:
            return
        severity: Severity = "predicted" if sent.call is None else "observed"
        if sent.call is None:
            self.predicted += 1
        else:
            self.observed += 1
        point = -1 if sent.call is None else sent.call[1]
        key = (sent.cpu, sent.ctx, sent.off, point)
        when = Occurrence(sent.t, None, None, None, (sent.cpu, sent.cpu), None)
        if self.room(key):
            self.found[key] = self.finding(sent, severity, point)
        self.count(key, when)

    def finding(self, sent: Sent, severity: Severity, point: int) -> Finding:
        cpu, where = sent.cpu, context(sent.ctx)
        place = f"in {where} context" if sent.ctx > w.SOFTIRQ else "with interrupts off"
        why = (
            f"CPU {cpu} sent a TLB shootdown to other CPUs and waited for them {place}: it can't "
            "answer theirs meanwhile, and two such senders wait for each other for ever"
        )
        text = "sends IPIs to invalidate other TLBs, and waits for them all"
        steps = [Step("x", None, sent.t, cpu, where, "shootdown", text)]
        slot = None
        if sent.call is not None:
            text = "takes a GHES notification"
            steps.insert(0, Step("x", None, sent.call[0], cpu, where, "notify", text))
            number = self.plan.probes[point].slot if point < len(self.plan.probes) else None
            slot = None if number is None else self.plan.slots[number].name
            why += "; a GHES handler sent it"
        answer = f"must answer; if it waits for CPU {cpu} likewise, it never does"
        steps.append(Step("y", None, None, cpu, "any", "ipi", answer))
        return Finding("shootdown", severity, None, slot, (cpu, cpu), None, why, steps)


def context(ctx: int) -> str:
    """The context's name."""
    return Context(ctx).name.lower()
