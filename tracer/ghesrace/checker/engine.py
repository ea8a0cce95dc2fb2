# SPDX-License-Identifier: Apache-2.0
"""The engine takes batches and gives findings and a verdict. Live and offline it is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ghesrace.checker.core.correlate import Correlator
from ghesrace.checker.core.judge import Judge
from ghesrace.checker.core.spans import Tracker
from ghesrace.checker.patterns.overlap import Overlap
from ghesrace.checker.patterns.shootdown import Shootdown
from ghesrace.checker.patterns.stale import Stale
from ghesrace.checker.patterns.torn_edit import TornEdit
from ghesrace.events import (
    NEVER,
    Cause,
    Events,
    Kind,
    Trait,
    present,
    select,
)
from ghesrace.plan import Plan

from .digest import Count, Digest
from .findings import ranked
from .losses import MAP_KINDS, hides
from .model import Chunk, Class, Judged, Why
from .patterns import Evidence, Pattern
from .report import PatternResult, Report, SlotCounts, Verdict
from .validate import validate

_NO_CONTEXTS = "the record can't tell contexts, or takes an NMI for an interrupt"
PATTERNS: tuple[Callable[[Plan, bool], Pattern], ...] = (Stale, TornEdit, Shootdown, Overlap)


@dataclass(frozen=True, slots=True)
class _Step:
    """This is what one batch decided.

    `judged` are the episodes that it decided. `evidence.judged` are these and, from a summary, the
    samples, which the patterns need and which are counted elsewhere. `counts` are a summary's
    counts of episodes that were not recorded one by one.
    """

    evidence: Evidence
    judged: list[Judged]
    counts: list[Count]


class Engine:
    """Feed an engine batches (`feed`), end the stream (`finish`), and ask for a `report` at any
    time.

    Its memory is bounded by CPUs x slots and by the batches between two MARKs, not by the run.

    >>> from ghesrace.events import mark
    >>> from ghesrace.plan import Slot
    >>> engine = Engine(Plan("x86_64", "6.12", (Slot("GHES_IRQ", 644, None, "report"),), ()))
    >>> decided = engine.feed(mark(1_000))  # batches of a source, such as CaptureSource.batches()
    >>> rest = engine.finish()
    >>> engine.report().verdict.word  # nothing happened
    'inconclusive'
    """

    def __init__(self, plan: Plan, *, all_occurrences: bool = False) -> None:
        self.plan = plan
        self.correlator = Correlator(plan)
        self.judge = Judge(plan)
        self.digest = Digest(plan)
        self.tracker = Tracker(plan)
        self.patterns = [make(plan, all_occurrences) for make in PATTERNS]
        self.slots = [SlotCounts(slot.name, slot.address) for slot in plan.slots]
        self.events = 0
        self.truncated = False
        self._lost: dict[Cause, int] = {}
        self._uncountable = False
        self._hid_maps = False
        self._edited = False  # Edits of page tables were recorded.
        self._last: _Step | None = None  # of the last batch; None if that decided nothing
        self._at_start: dict[tuple[int, int], int] = {}  # (slot, cpu) -> not forgiven yet

    def feed(self, batch: Events) -> list[Judged]:
        """Take one batch (EVENT, shape (n,)), and return the episodes that it decided, slot by
        slot.

        Raises InputError for records that no source of ours makes (`checker.validate.validate`).
        """
        return [slot for judged in self.steps(batch) for slot in judged]

    def steps(self, batch: Events) -> Iterator[list[Judged]]:
        """Do as `feed` does, but yield what each step decided, so that a follower can follow each
        step of a large batch. There is at least one step."""
        validate(batch, self.plan)
        self._count(batch)
        self._last = None
        for chunk in self.correlator.feed(self.digest.take(batch)):
            yield self._step(chunk, self.correlator.watermark)
        if self._last is None:
            yield []

    def follower(self) -> Engine:
        """Return an engine that reports on what comes from now on, as this one judges it. It is fed
        by `follow`, which costs little, and by nothing else.

            window = engine.follower()
            for judged in engine.steps(batch):
                window.follow(engine, batch)
                batch = batch[:0]
        """
        made = Engine(self.plan)
        made.correlator, made.judge, made.tracker = self.correlator, self.judge, self.tracker
        return made

    def follow(self, leader: Engine, batch: Events) -> None:
        """Take what the last step of the *leader* decided. *batch* is the batch of which that was
        the first step; it is empty for later steps and after the leader's `finish`."""
        self._count(batch)
        if leader._last is not None:
            self._take(leader._last)

    @property
    def found(self) -> bool:
        """This is true if some pattern was found so far, other orders of the lock holds aside."""
        return any(p.observed or p.happened for p in self.patterns)

    @property
    def observed(self) -> int:
        """This is how many times some pattern was observed so far."""
        return sum(p.observed for p in self.patterns)

    def finish(self) -> list[Judged]:
        """Judge what is left, as the stream is over, and return it as `feed` does."""
        return self._step(self.correlator.finish(), NEVER)

    def _step(self, chunk: Chunk, watermark: int) -> list[Judged]:
        judged = self.judge.step(chunk)
        digested = self.digest.step(watermark, chunk.losses)
        spans = self.tracker.step(chunk.fresh, chunk.losses, chunk.watermark)
        evidence = Evidence(
            chunk,
            judged + digested.judged + digested.samples,
            self.judge.witnesses(),
            spans,
            self.correlator.addresses,
            digested.events,
        )
        self._last = _Step(evidence, judged + digested.judged, digested.counts)
        self._take(self._last)
        return self._last.judged

    def _take(self, step: _Step) -> None:
        self._account(step.judged)
        for count in step.counts:
            self._account_count(count)
        for pattern in self.patterns:
            pattern.step(step.evidence)

    def _count(self, batch: Events) -> None:
        losses = select(batch, Kind.LOSS)
        self._edited |= bool((batch["kind"] == Kind.EDIT).any())
        self.events += len(batch) - len(losses) - int((batch["kind"] == Kind.MARK).sum())
        for cause in np.unique(losses["cause"]):
            of_cause = losses[losses["cause"] == cause]
            counted = int(of_cause["count"].astype(np.int64).sum())
            self._lost[Cause(int(cause))] = self._lost.get(Cause(int(cause)), 0) + counted
            self._uncountable |= bool((of_cause["count"] == 0).any())
        self.truncated |= bool((losses["cause"] == Cause.TRUNCATED).any())
        self._hid_maps |= bool(hides(self.plan, losses, MAP_KINDS).any())

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
            for cpu in present(slot.episodes["cpu"]):
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

    def _account_count(self, count: Count) -> None:
        counts = self.slots[count.slot]
        counts.episodes += count.n
        counts.handoffs += count.n if count.traits & Trait.HANDOFF else 0
        counts.latent += count.n if count.traits & Trait.LATENT else 0
        counts.classes[count.cls] += count.n
        counts.uncertain[count.why] += count.n if count.why else 0
        if count.cls != Class.UNCERTAIN:
            # These safe episodes came later. An invalidation made them safe, and after it the start
            # leaves nothing unknown.
            counts.uncertain_at_start += self._at_start.pop((count.slot, count.cpu), 0)

    def report(self) -> Report:
        """Return the verdict on everything fed so far, with what led to it."""
        patterns = {pattern.name: self._result(pattern) for pattern in self.patterns}
        checked = [p for p in self.patterns if patterns[p.name].checked]
        findings = ranked([finding for p in checked for finding in p.findings()])
        observed = any(patterns[p.name].observed for p in checked)
        predicted = any(patterns[p.name].predicted for p in checked)
        reasons = self._reasons(patterns)
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
            patterns=patterns,
            findings=findings,
            unseen=list(self.plan.unseen),
        )

    def _result(self, pattern: Pattern) -> PatternResult:
        because = self.plan.not_checked.get(pattern.name)
        if because is None and not self._traced(pattern):
            because = "it was recorded without the probe points that this needs"
        if because is None and self._needs_contexts(pattern):
            because = _NO_CONTEXTS
        if because is not None:
            return PatternResult(False, 0, 0, because, {}, [])
        return PatternResult(
            True, pattern.observed, pattern.predicted, None, pattern.harmless, pattern.doubts()
        )

    def _needs_contexts(self, pattern: Pattern) -> bool:
        """Return whether the pattern can't be checked on a record without contexts like this."""
        if self.plan.contexts or pattern.contexts == "not needed":
            return False
        return pattern.contexts == "needed" or not pattern.observed

    def _traced(self, pattern: Pattern) -> bool:
        kinds = {kind for p in self.plan.probes for kind in (p.kind, p.clear_kind)}
        return {kind.name for kind in pattern.needs} <= kinds

    def _reasons(self, patterns: dict[str, PatternResult]) -> list[str]:
        """Return why the verdict can't be clean, the worst first, or [] if it can."""
        reasons = []
        for pattern in self.patterns:
            because = patterns[pattern.name].not_checked_because
            if because is not None and pattern.essential:
                reasons.append(f"not-checked: {pattern.name}: {because}")
            elif because == _NO_CONTEXTS and pattern.contexts == "needed" and self._edited:
                reasons.append(f"uncertain: {pattern.name}: {because}")
        if not any(slot.episodes for slot in self.slots):
            reasons.append("no-traffic")
        if self.truncated:
            reasons.append("truncated")
        if Cause.PROBE_GONE in self._lost:
            reasons.append("probe-failed")
        if self._hid_maps or any(p.hidden() for p in self.patterns if patterns[p.name].checked):
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
        for name, result in patterns.items():
            reasons += [f"uncertain: {name}: {doubt}" for doubt in result.uncertain]
        if self.tracker.overflowed:
            reasons.append("uncertain: more was in progress at once than can be remembered")
        return reasons
