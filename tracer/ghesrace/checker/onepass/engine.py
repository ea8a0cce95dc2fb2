# SPDX-License-Identifier: Apache-2.0
"""Batches in, findings and a verdict out: the engine on the one-pass core."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ghesrace.checker.findings import Finding, ranked
from ghesrace.checker.model import EPISODE, Judged, Mark, Table
from ghesrace.checker.onepass import words as w
from ghesrace.checker.onepass.edits import Meeting
from ghesrace.checker.onepass.reader import Sent
from ghesrace.checker.onepass.rule import Judged as One
from ghesrace.checker.onepass.run import Core
from ghesrace.checker.onepass.state import Episode
from ghesrace.checker.report import PatternResult, Report, SlotCounts, Verdict
from ghesrace.checker.validate import validate
from ghesrace.errors import InputError
from ghesrace.events import Cause, Events, Kind, select
from ghesrace.plan import Plan

from .keep import Keep
from .stale import StaleFindings
from .together import Overlaps, Shootdowns, TornEdits

# Sources mark several times a second; a file of a few MB can claim any number of events.
MAX_UNMARKED = 1 << 23
WHOLE = (Cause.TRUNCATED, Cause.PROBE_GONE, Cause.UNWATCHED)


@dataclass(slots=True)
class Decided:
    """What one step of the core decided. `open_ends` and `orphans` count missed unmaps and maps,
    `hid` tells of losses that may hide a whole page, `hid_kinds` of what any may hide."""

    judged: list[One]
    overlaps: list[tuple[Episode, Episode]]
    met: list[Meeting]
    sent: list[Sent]
    not_ordered: int
    open_ends: int
    orphans: int
    hid: bool
    hid_kinds: int


class Engine:
    """Feed it batches (`feed`), end the stream (`finish`), ask for a `report` at any time."""

    def __init__(self, plan: Plan, *, all_occurrences: bool = False) -> None:
        self.plan = plan
        self.core = Core(plan)
        self.keep = Keep()
        self.stale = StaleFindings(plan, self.keep.of, all_occurrences)
        self.overlaps = Overlaps(plan, all_occurrences)
        self.torn = TornEdits(plan, all_occurrences)
        self.shootdowns = Shootdowns(plan, all_occurrences)
        self.slots = [SlotCounts(slot.name, slot.address) for slot in plan.slots]
        for slot in self.slots:
            slot.uncertain = [0] * 6
        self.events = 0
        self.truncated = False
        self._lost: dict[Cause, int] = {}
        self._uncountable = False
        self._unmarked = 0
        self.last: Decided | None = None
        self._not_ordered = self._open_ends = self._orphans = self._hid_kinds = 0
        self._hid = False
        self._at_start: dict[tuple[int, int], int] = {}

    def feed(self, batch: Events) -> list[Judged]:
        """Take one batch; return the episodes that it decided.

        Raises InputError for records that no source of ours makes (see `validate`).
        """
        validate(batch, self.plan)
        self._count(batch)
        self.keep.take(batch)
        self._unmarked = 0 if (batch["kind"] == Kind.MARK).any() else self._unmarked + len(batch)
        if self._unmarked > MAX_UNMARKED:
            what = f"over {MAX_UNMARKED:,} events without a MARK"
            raise InputError(what, "the file is corrupt, or no capture of ghesrace's")
        judged = self.core.feed(batch)
        self._decide(judged)
        self.keep.set_all_aside(self.core, self.stale.predictions.all_kept())
        return tables(judged)

    def steps(self, batch: Events) -> Iterator[list[Judged]]:
        """`feed`, in one step."""
        yield self.feed(batch)

    def finish(self) -> list[Judged]:
        """The stream is over; judge what is left."""
        judged = self.core.finish()
        self._decide(judged)
        return tables(judged)

    def follower(self) -> Engine:
        """An engine that reports on what comes from now on, as this one judges it: it is fed by
        `follow`, which costs little, and by nothing else."""
        made = Engine(self.plan)
        made.core, made.keep = self.core, self.keep
        made.stale.look = self.keep.of
        return made

    def follow(self, leader: Engine, batch: Events) -> None:
        """Take *batch*, of which the *leader* just made its step; empty after its `finish`."""
        self._count(batch)
        if leader.last is not None:
            self._take(leader.last)

    def _decide(self, judged: list[One]) -> None:
        """Gather what the core decided in this step, and take it."""
        core = self.core
        pages = bool(core.losses.pages())
        self.last = Decided(
            judged,
            core.judge.overlaps,
            core.met,
            core.reader.shootdowns,
            core.judge.not_ordered,
            core.reader.open_ends,
            core.reader.orphans,
            pages and core.losses.hid_episodes,
            core.losses.seen,
        )
        core.judge.overlaps, core.met, core.reader.shootdowns = [], [], []
        core.judge.not_ordered = core.reader.open_ends = core.reader.orphans = 0
        core.losses.seen, core.losses.hid_episodes = 0, False
        self._take(self.last)

    def _take(self, step: Decided) -> None:
        self._account(step.judged)
        for a, b in step.overlaps:
            self.overlaps.add(a, b)
        for met in step.met:
            self.torn.add(met)
        for sent in step.sent:
            self.shootdowns.add(sent)
        self._not_ordered += step.not_ordered
        self._open_ends += step.open_ends
        self._orphans += step.orphans
        self._hid |= step.hid
        self._hid_kinds |= step.hid_kinds

    @property
    def found(self) -> bool:
        """Whether some pattern was found so far, other orders of the lock holds left aside."""
        return any(p.happened for p in self._patterns())

    @property
    def observed(self) -> int:
        """How many times some pattern was observed so far."""
        return sum(p.observed for p in self._patterns())

    def _patterns(self) -> tuple[StaleFindings | TornEdits | Shootdowns | Overlaps, ...]:
        return self.stale, self.torn, self.shootdowns, self.overlaps

    def _count(self, batch: Events) -> None:
        losses = select(batch, Kind.LOSS)
        self.events += len(batch) - len(losses) - int((batch["kind"] == Kind.MARK).sum())
        for cause in np.unique(losses["cause"]):
            of_cause = losses[losses["cause"] == cause]
            counted = int(of_cause["count"].astype(np.int64).sum())
            self._lost[Cause(int(cause))] = self._lost.get(Cause(int(cause)), 0) + counted
            self._uncountable |= bool((of_cause["count"] == 0).any())
        self.truncated |= bool((losses["cause"] == Cause.TRUNCATED).any())

    def _account(self, judged: list[One]) -> None:
        for one in judged:
            self.stale.add(one)
            hold = one.episode.hold
            counts = self.slots[hold.slot]
            counts.episodes += 1
            counts.handoffs += one.handoff
            counts.latent += one.latent
            counts.classes[one.cls] += 1
            key = (hold.slot, hold.cpu)
            if one.cls == w.UNCERTAIN:
                counts.uncertain[one.why] += 1
                if one.why == w.START:
                    self._at_start[key] = self._at_start.get(key, 0) + 1
            else:
                counts.uncertain_at_start += self._at_start.pop(key, 0)
        for state in self.core.slots:
            if state.known:
                self.slots[state.number].address = state.address

    def report(self) -> Report:
        """The verdict on everything fed so far."""
        patterns = {name: self._result(name) for name in NEEDS}
        checked = {name for name, result in patterns.items() if result.checked}
        found: list[Finding] = []
        for name, pattern in zip(NEEDS, self._patterns(), strict=True):
            if name in checked:
                found += pattern.findings()
        findings = ranked(found)
        reasons = self._reasons(patterns)
        if any(p.observed for p in patterns.values()):
            verdict = Verdict.OBSERVED
        elif any(p.predicted for p in patterns.values()):
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

    def _result(self, name: str) -> PatternResult:
        because = self.plan.not_checked.get(name)
        if because is None and NEEDS[name] & ~self.core.facts.traced != 0:
            because = "it was recorded without the probe points that this needs"
        if because is not None:
            return PatternResult(False, 0, 0, because, {}, [])
        pattern = self._patterns()[list(NEEDS).index(name)]
        harmless = pattern.harmless if isinstance(pattern, TornEdits) else {}
        doubts = self._doubts(name)
        return PatternResult(True, pattern.observed, pattern.predicted, None, harmless, doubts)

    def _doubts(self, name: str) -> list[str]:
        """What could not be decided, in a few words each."""
        found = self.stale.doubts() if name == "stale" else []
        if name == "torn_edit":
            if self.torn.undecided:
                n = self.torn.undecided
                found.append(f"{n:,} writes that may have met an edit can't be ordered")
            if self.core.edits.truncated:
                found.append("more edits at once than can be compared")
        elif name == "overlap" and self.overlaps.observed and self._not_ordered:
            n = self._not_ordered
            found.append(f"{n:,} pairs of uses of a slot that can't be ordered")
        return found

    def _reasons(self, patterns: dict[str, PatternResult]) -> list[str]:
        reasons = []
        because = patterns["stale"].not_checked_because
        if because is not None:
            reasons.append(f"not-checked: stale: {because}")
        if not any(slot.episodes for slot in self.slots):
            reasons.append("no-traffic")
        if self.truncated:
            reasons.append("truncated")
        if Cause.PROBE_GONE in self._lost:
            reasons.append("probe-failed")
        if self._hidden(patterns):
            causes = ", ".join(cause.name.lower() for cause in sorted(self._lost))
            reasons.append(f"losses: {causes}")
        if self._open_ends:
            reasons.append(f"missed: {self._open_ends:,} maps without an unmap")
        if self._orphans:
            reasons.append(f"missed: {self._orphans:,} unmaps without a map")
        for name, result in patterns.items():
            reasons += [f"uncertain: {name}: {doubt}" for doubt in result.uncertain]
        for slot in self.slots:
            words = [
                f"{n - forgiven} {why.lower()}"
                for number, (why, n) in enumerate(zip(WHY, slot.uncertain, strict=True))
                if (n - (forgiven := slot.uncertain_at_start if number == w.START else 0))
            ]
            if words:
                reasons.append(f"uncertain: {slot.name}: {', '.join(words)}")
        return reasons

    def _hidden(self, patterns: dict[str, PatternResult]) -> bool:
        """Whether a loss may have hidden what would make the verdict worse."""
        if any(cause in self._lost for cause in WHOLE) or self._hid:
            return True
        for name, kinds in HIDDEN.items():
            if patterns[name].checked and self._hid_kinds & kinds:
                return True
        return bool(self._lost) and self.stale.hidden()


# The patterns, in the order in which they are told, and the kinds of events that each needs.
NEEDS = {
    "stale": 1 << w.K_MAP | 1 << w.K_UNMAP,
    "torn_edit": 1 << w.K_EDIT,
    "shootdown": 1 << w.K_SHOOTDOWN,
    "overlap": 1 << w.K_MAP | 1 << w.K_UNMAP,
}
# What a loss must not hide of them.
HIDDEN = {
    "torn_edit": 1 << w.K_EDIT | 1 << w.K_EDIT_END,
    "shootdown": 1 << w.K_SHOOTDOWN,
}
WHY = ("certain", "start", "loss", "order", "pti", "inconsistent")


def tables(judged: list[One]) -> list[Judged]:
    """Judged episodes as columns, slot by slot."""
    by_slot: dict[int, list[One]] = {}
    for one in judged:
        by_slot.setdefault(one.episode.hold.slot, []).append(one)
    found = []
    for slot, mine in sorted(by_slot.items()):
        threats = [one.threat for one in mine if one.threat is not None]
        which = np.cumsum([one.threat is not None for one in mine]) - 1
        which[[one.threat is None for one in mine]] = -1
        flags = np.array(
            [(o.latent, o.handoff, o.vulnerable, o.exposes, o.touched) for o in mine], np.bool_
        ).T
        found.append(
            Judged(
                slot,
                rows([one.episode for one in mine]),
                np.array([one.cls for one in mine], np.int64),
                np.array([one.why for one in mine], np.int64),
                flags[0],
                flags[1],
                which,
                rows(threats),
                flags[2],
                flags[3],
                flags[4],
            )
        )
    return found


def rows(episodes: list[Episode]) -> Table:
    """Episodes as rows."""
    table = np.zeros(len(episodes), EPISODE)
    if not episodes:
        return table
    holds = [episode.hold for episode in episodes]
    for name in ("slot", "cpu", "ctx"):
        table[name] = [getattr(hold, name) for hold in holds]
    for name, of in _COLUMNS.items():
        table[name] = [getattr(episode, of) for episode in episodes]
    for of, mark in _MARKS.items():
        seen = np.array([getattr(episode, of) for episode in episodes], np.bool_)
        table["marks"] |= np.where(seen, int(mark), 0).astype(np.uint8)
    return table


_COLUMNS = {
    "frame": "frame",
    "pid": "pid",
    "seq_map": "seq_map",
    "t_map": "map_first",
    "t_read": "read_first",
    "t_unmap": "unmap_first",
}
_MARKS = {"writes": Mark.WRITE, "read_seen": Mark.ACCESS_SEEN, "unmapped": Mark.UNMAPPED}
