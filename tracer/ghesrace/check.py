"""Batches in, findings and a verdict out: the one engine, live and offline."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from .correlate import Correlator
from .errors import InputError
from .events import NO_POINT, NO_SLOT, Cause, Context, Events, Kind
from .patterns import Finding
from .patterns.stale import PATTERN as STALE
from .patterns.stale import Stale
from .plan import Plan, Unseen
from .tlb import Class, Judge, Judged, Why, hides


class Verdict(IntEnum):
    """The worst one wins."""

    CLEAN = 0
    INCONCLUSIVE = 1
    PREDICTED = 2
    OBSERVED = 3

    @property
    def word(self) -> str:
        """The word that users see."""
        return ("clean", "inconclusive", "race-predicted", "race-observed")[self]


@dataclass(slots=True)
class SlotCounts:
    """What happened at one slot; `classes` is indexed by Class, `uncertain` by Why."""

    name: str
    address: int | None
    episodes: int = 0
    handoffs: int = 0
    latent: int = 0
    classes: list[int] = field(default_factory=lambda: [0] * len(Class))
    uncertain: list[int] = field(default_factory=lambda: [0] * len(Why))
    uncertain_at_start: int = 0  # of them forgiven: a later episode of that CPU was judged


@dataclass(slots=True)
class PatternResult:
    """`checked` is false where the plan lacks what the pattern needs (`not_checked_because`)."""

    checked: bool
    observed: int
    predicted: int
    not_checked_because: str | None


@dataclass(slots=True)
class Report:
    """The answer. `lost` is None where it could not be counted; `losses` counts by cause."""

    verdict: Verdict
    reasons: list[str]
    truncated: bool
    events: int
    lost: int | None
    losses: dict[str, int]
    slots: list[SlotCounts]
    patterns: dict[str, PatternResult]
    findings: list[Finding]
    unseen: list[Unseen]


class Engine:
    """Feed it batches (`feed`), end the stream (`finish`), ask for a `report` at any time.

    Memory is bounded by CPUs x slots and by the batches between two MARKs, not by the run.
    """

    def __init__(self, plan: Plan, *, all_occurrences: bool = False) -> None:
        self.plan = plan
        self.correlator = Correlator(plan)
        self.judge = Judge(plan)
        self.stale = Stale(plan, all_occurrences)
        self.slots = [SlotCounts(slot.name, slot.address) for slot in plan.slots]
        self.events = 0
        self.truncated = False
        self._lost: dict[Cause, int] = {}
        self._uncountable = False
        self._hid_maps = False
        self._at_start: dict[tuple[int, int], int] = {}  # (slot, cpu) -> not forgiven yet

    def feed(self, batch: Events) -> list[Judged]:
        """Take one batch; return the episodes that it decided.

        Raises InputError for records that no source of ours makes (see `validate`).
        """
        validate(batch, self.plan)
        losses = batch[batch["kind"] == Kind.LOSS]
        self.events += len(batch) - len(losses) - int((batch["kind"] == Kind.MARK).sum())
        self._count_losses(losses)
        chunk = self.correlator.feed(batch)
        if chunk is None:
            return []
        judged = self.judge.step(chunk)
        self._account(judged)
        self.stale.step(judged, chunk.events, self.judge.witnesses())
        return judged

    @property
    def found(self) -> bool:
        """Whether an episode was unsafe so far, or only luck saved it."""
        return bool(self.stale.observed or self.stale.incidental)

    def finish(self) -> list[Judged]:
        """The stream is over; judge what is left."""
        chunk = self.correlator.finish()
        judged = self.judge.step(chunk)
        self._account(judged)
        self.stale.step(judged, chunk.events, self.judge.witnesses())
        return judged

    def _count_losses(self, losses: Events) -> None:
        for cause in np.unique(losses["aux"]):
            of_cause = losses[losses["aux"] == cause]
            counted = int(of_cause["size"].astype(np.int64).sum())
            self._lost[Cause(int(cause))] = self._lost.get(Cause(int(cause)), 0) + counted
            self._uncountable |= bool((of_cause["size"] == 0).any())
        self.truncated |= bool((losses["aux"] == Cause.TRUNCATED).any())
        self._hid_maps |= bool(hides(self.plan, losses, "map").any())

    def _account(self, judged: list[Judged]) -> None:
        for slot in judged:
            counts = self.slots[slot.slot]
            counts.address = self.correlator.addresses[slot.slot]
            counts.episodes += len(slot.episodes)
            counts.handoffs += int(slot.handoff.sum())
            counts.latent += int(slot.latent.sum())
            for cls, n in enumerate(np.bincount(slot.cls, minlength=len(Class))):
                counts.classes[cls] += int(n)
            for why, n in enumerate(np.bincount(slot.why, minlength=len(Why))):
                counts.uncertain[why] += int(n) if why else 0
            for cpu in np.unique(slot.episodes["cpu"]):
                mine = slot.episodes["cpu"] == cpu
                started = mine & (slot.why == Why.START)
                decided = np.flatnonzero(mine & (slot.cls != Class.UNCERTAIN))
                name = (slot.slot, int(cpu))
                waiting = self._at_start.get(name, 0) + int(started.sum())
                if len(decided):
                    after = int((np.flatnonzero(started) > decided[-1]).sum())
                    counts.uncertain_at_start += waiting - after
                    waiting = after
                self._at_start[name] = waiting

    def report(self) -> Report:
        """The verdict on everything fed so far."""
        findings = self.stale.findings()
        observed = self.stale.observed
        predicted = self.stale.incidental + sum(f.count for f in findings if f.reordered)
        because = self.plan.not_checked.get(STALE)
        reasons = self._reasons(because)
        if observed:
            verdict = Verdict.OBSERVED
        elif predicted:
            verdict = Verdict.PREDICTED
        else:
            verdict = Verdict.INCONCLUSIVE if reasons else Verdict.CLEAN
        lost = sum(n for cause, n in self._lost.items() if cause != Cause.NMI_UNMATCHED)
        return Report(
            verdict=verdict,
            reasons=reasons,
            truncated=self.truncated,
            events=self.events,
            lost=None if self._uncountable else lost,
            losses={cause.name.lower(): n for cause, n in self._lost.items()},
            slots=self.slots,
            patterns={STALE: PatternResult(because is None, observed, predicted, because)},
            findings=findings,
            unseen=list(self.plan.unseen),
        )

    def _reasons(self, not_checked: str | None) -> list[str]:
        """Why the verdict can't be clean, worst first; empty if it can."""
        reasons = []
        if not_checked is not None:
            reasons.append(f"not-checked: {STALE}: {not_checked}")
        if not any(slot.episodes for slot in self.slots):
            reasons.append("no-traffic")
        if self.truncated:
            reasons.append("truncated")
        if Cause.PROBE_GONE in self._lost:
            reasons.append("probe-failed")
        if self._hid_maps or (self._lost and self.stale.hidden()):
            causes = ", ".join(cause.name.lower() for cause in sorted(self._lost))
            reasons.append(f"losses: {causes}")
        for slot in self.slots:
            left = slot.classes[Class.UNCERTAIN] - slot.uncertain_at_start
            if left:
                words = [
                    f"{n - (slot.uncertain_at_start if why == Why.START else 0)} {why.name.lower()}"
                    for why, n in zip(Why, slot.uncertain, strict=True)
                    if n - (slot.uncertain_at_start if why == Why.START else 0)
                ]
                reasons.append(f"uncertain: {slot.name}: {', '.join(words)}")
        return reasons


def validate(batch: Events, plan: Plan) -> None:
    """Raise InputError unless every record is one that a source of ours can make."""
    kind, slot, point = batch["kind"], batch["slot"], batch["point"]
    if not np.isin(kind, list(Kind)).all():
        raise InputError("an event of unknown kind", "the file is corrupt, or of a newer ghesrace")
    if not (batch["ctx"] < len(Context)).all():
        raise InputError("an event in an unknown context", "the file is corrupt")
    if not ((slot >= NO_SLOT) & (slot < len(plan.slots))).all():
        raise InputError("an event names a slot that the plan lacks", "the file is corrupt")
    if not ((point == NO_POINT) | (point < len(plan.probes))).all():
        raise InputError("an event names a probe point that the plan lacks", "the file is corrupt")
    if (batch["ts"] >= np.uint64(2**62)).any() or (batch["seq"] >= np.uint64(2**62)).any():
        raise InputError("an event has an impossible time stamp", "the file is corrupt")
    losses = batch[kind == Kind.LOSS]
    if not np.isin(losses["aux"], list(Cause)).all() or (losses["addr"] > losses["ts"]).any():
        raise InputError("a loss record has no known cause or ends before it begins", "corrupt")
