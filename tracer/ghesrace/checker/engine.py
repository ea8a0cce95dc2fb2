# SPDX-License-Identifier: Apache-2.0
"""The engine takes batches and gives findings and a verdict. Live and offline it is the same."""

from __future__ import annotations

import numpy as np

from ghesrace.checker.core.decided import Decided, gather
from ghesrace.checker.core.rule import Judged as One
from ghesrace.checker.core.run import Core
from ghesrace.errors import InputError
from ghesrace.events import NEVER, Cause, Events, Ints, Kind, Trait, select
from ghesrace.plan import Plan

from .account import Account
from .columns import columns
from .digest import Count, Digest, Digested
from .event_store import EventStore
from .findings import ranked
from .model import Judged, Why
from .patterns import Pattern
from .patterns.overlap import Overlap
from .patterns.shootdown import Shootdown
from .patterns.stale import Stale
from .patterns.torn_edit import TornEdit
from .report import PatternResult, Report, SlotCounts, Verdict
from .validate import kinds, validate

# Sources mark several times a second; a file of a few MB can claim any number of events.
MAX_UNMARKED = 1 << 23
_WHOLE = (Cause.TRUNCATED, Cause.PROBE_GONE, Cause.UNWATCHED)  # any event may be among these
_NO_CONTEXTS = "the record can't tell contexts, or takes an NMI for an interrupt"


class Engine:
    """Feed an engine batches (`feed`), end the stream (`finish`), and ask for a `report` at any
    time.

    Its memory is bounded by CPUs x slots and by the events between two MARKs, not by the run.

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
        self.core = Core(plan)
        self.digest = Digest(self.core.facts, self.core.losses)
        self.events_of = EventStore()
        self.stale = Stale(plan, self.events_of.of, all_occurrences)
        self.patterns: tuple[Pattern, ...] = (
            self.stale,
            TornEdit(plan, all_occurrences),
            Shootdown(plan, all_occurrences),
            Overlap(plan, all_occurrences),
        )
        self.slots = [SlotCounts(slot.name, slot.address) for slot in plan.slots]
        self.events = 0
        self.truncated = False
        self._lost: dict[Cause, int] = {}
        self._uncountable = False
        self._edited = False  # edits of page tables were recorded
        self._unmarked = 0  # events since the last MARK
        self._followed = False  # whether what was decided last is asked for again
        self._last: tuple[Decided, Digested] | None = None
        self._open_ends = self._no_flushes = self._strays = self._hid_kinds = 0
        self._hid = False
        self._account = Account(self.slots)

    def feed(self, batch: Events) -> list[Judged]:
        """Take one batch (EVENT, shape (n,)), and return the episodes that it decided, slot by
        slot.

        Raises InputError for records that no source of ours makes (`checker.validate.validate`).
        """
        number = validate(batch, self.plan)
        self._count(batch, number)
        self._unmarked = 0 if number[Kind.MARK] else self._unmarked + len(batch)
        if self._unmarked > MAX_UNMARKED:
            what = f"over {MAX_UNMARKED:,} events without a MARK"
            raise InputError(what, "the file is corrupt, or no capture of ghesrace's")
        if self.plan.summary:
            batch = self.digest.take(batch)
        self.events_of.take(batch)
        judged = self._step(self.core.feed(batch), self.core.mark)
        self.events_of.set_all_aside(self.core, self.stale.predictions.all_kept())
        return judged

    def finish(self) -> list[Judged]:
        """Judge what is left, as the stream is over, and return it as `feed` does."""
        return self._step(self.core.finish(), NEVER)

    def follower(self) -> Engine:
        """Return an engine that reports on what comes from now on, as this one judges it. It is fed
        by `follow`, which costs little, and by nothing else.

            window = engine.follower()
            judged = engine.feed(batch)
            window.follow(engine, batch)
        """
        self._followed = True
        made = Engine(self.plan)
        made.core, made.events_of = self.core, self.events_of
        made.stale.look = self.events_of.of
        return made

    def follow(self, leader: Engine, batch: Events) -> None:
        """Take what the *leader* decided of *batch*, which it was just fed; empty after its
        `finish`."""
        self._count(batch, kinds(batch))
        if leader._last is not None:
            self._take(*leader._last)

    @property
    def found(self) -> bool:
        """This is true if some pattern was found so far, other orders of the lock holds aside."""
        return any(p.observed or p.happened for p in self.patterns)

    @property
    def observed(self) -> int:
        """This is how many times some pattern was observed so far."""
        return sum(p.observed for p in self.patterns)

    def _step(self, judged: list[One], mark: int) -> list[Judged]:
        """Take what the core *judged*, and what the kernel did by itself before *mark* (ns)."""
        digested = self.digest.step(mark)
        step = gather(self.core, judged)
        self._last = (step, digested) if self._followed else None
        self._take(step, digested)
        return columns(step.judged + [one for one, n in digested.judged for _ in range(n)])

    def _take(self, step: Decided, digested: Digested) -> None:
        self._account.take(step.every)
        for state in self.core.slots:
            if state.known:
                self.slots[state.number].address = state.address
        for pattern in self.patterns:
            pattern.take(step)
        self._take_digested(digested)
        self._open_ends += step.open_ends
        self._no_flushes += step.no_flushes
        self._strays += step.strays
        self._hid |= step.hid
        self._hid_kinds |= step.hid_kinds

    def _count(self, batch: Events, number: Ints) -> None:
        """Count what is in a batch: *number* records of each kind."""
        self._edited |= bool(number[Kind.EDIT])
        self.events += len(batch) - int(number[Kind.LOSS]) - int(number[Kind.MARK])
        if not number[Kind.LOSS]:
            return
        losses = select(batch, Kind.LOSS)
        for cause in np.unique(losses["cause"]):
            of_cause = losses[losses["cause"] == cause]
            counted = int(of_cause["count"].astype(np.int64).sum())
            self._lost[Cause(int(cause))] = self._lost.get(Cause(int(cause)), 0) + counted
            self._uncountable |= bool((of_cause["count"] == 0).any())
        self.truncated |= bool((losses["cause"] == Cause.TRUNCATED).any())

    def _take_digested(self, digested: Digested) -> None:
        self._hid |= digested.hid
        # Of one read of the state, what is open for the start comes before all that is safe, but
        # for flushes just before a map: those say nothing of the CPU's next map.
        for more in digested.counts:
            self.stale.predictions.of(more.slot, more.cpu)
            if more.traits & Trait.FLUSHED:
                self._count_more(more)
        for one, n in digested.judged:
            self.stale.add(one, n)
            hold, latent, handoff = one.episode.hold, one.latent, one.handoff
            self._account.add(hold.slot, hold.cpu, one.cls, one.why, n, latent, handoff)
        for more in digested.counts:
            if not more.traits & Trait.FLUSHED:
                self._count_more(more)
        self.stale.predictions.take(digested.samples)

    def _count_more(self, more: Count) -> None:
        latent, handoff = bool(more.traits & Trait.LATENT), bool(more.traits & Trait.HANDOFF)
        self._account.add(more.slot, more.cpu, more.cls, more.why, more.n, latent, handoff)

    def report(self) -> Report:
        """Return the verdict on everything fed so far, with what led to it."""
        patterns = {pattern.name: self._result(pattern) for pattern in self.patterns}
        checked = [p for p in self.patterns if patterns[p.name].checked]
        findings = ranked([finding for p in checked for finding in p.findings()])
        reasons = self._reasons(patterns)
        if any(result.observed for result in patterns.values()):
            verdict = Verdict.OBSERVED
        elif any(result.predicted for result in patterns.values()):
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
            qualified_by=self.plan.unknowns,
            assumed_clock_ns=self.plan.clock_error_ns if self.core.facts.assumed else None,
        )

    def _result(self, pattern: Pattern) -> PatternResult:
        because = self.plan.not_checked.get(pattern.name)
        if because is None and _bits(pattern.needs) & ~self.core.facts.traced:
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
        if self._may_hide(patterns):
            causes = ", ".join(cause.name.lower() for cause in sorted(self._lost))
            reasons.append(f"losses: {causes}")
        if self._open_ends:
            reasons.append(f"missed: {self._open_ends:,} maps without an unmap")
        if self._no_flushes:
            reasons.append(f"missed: {self._no_flushes:,} flushes that the kernel's code holds")
        if self._strays:
            reasons.append(f"missed: {self._strays:,} accesses without a map and an unmap")
        if orphans := self._account.orphans + sum(self._account.orphans_at_start.values()):
            reasons.append(f"missed: {orphans:,} unmaps without a map")
        for name, result in patterns.items():
            reasons += [f"uncertain: {name}: {doubt}" for doubt in result.uncertain]
        for slot in self.slots:
            forgiven = {Why.START: slot.uncertain_at_start}
            left = {why: slot.uncertain[why] - forgiven.get(why, 0) for why in Why}
            if any(left.values()):
                words = ", ".join(f"{n:,} {why.name.lower()}" for why, n in left.items() if n)
                reasons.append(f"uncertain: {slot.name}: {words}")
        return reasons

    def _may_hide(self, patterns: dict[str, PatternResult]) -> bool:
        """Return whether a loss may have hidden what would make the verdict worse."""
        if any(cause in self._lost for cause in _WHOLE) or self._hid:
            return True
        if self._lost and self.core.losses.may_have_hidden_one():
            return True
        for pattern in self.patterns:
            if patterns[pattern.name].checked and self._hid_kinds & _bits(pattern.hidden):
                return True
        return bool(self._lost) and self.stale.hides()


def _bits(kinds: tuple[Kind, ...]) -> int:
    return sum(1 << kind for kind in kinds)
