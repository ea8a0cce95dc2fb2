# SPDX-License-Identifier: Apache-2.0
"""Holds a checker to the oracle: what it says of a record, beside what all worlds say.

A checker is *sound* if it claims nothing that a world contradicts, *exact* if it is not uncertain
where all worlds agree. A checker is anything with `feed(stream)`, `finish()` and `report()`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ghesrace.events import Context, Events, Kind, joined, mark
from ghesrace.plan import Plan

from .classes import SAFE
from .judge import Answer, Judgement, judge
from .record import Record
from .worlds import TooManyWorlds

WORDS = ("fresh", "broadcast", "map-flush", "same-frame", "incidental", "none", "uncertain")
RANK = ("clean", "inconclusive", "race-predicted", "race-observed")


class Checker(Protocol):
    """What is compared: `checker.engine.Engine`, or anything of its shape."""

    def feed(self, batch: Events) -> Any:
        """Take all events."""

    def finish(self) -> Any:
        """There are no more."""

    def report(self) -> Any:
        """The answer."""


Make = Callable[[Plan], Checker]


def engine(plan: Plan) -> Checker:
    """The checker of this tree."""
    from ghesrace.checker.engine import Engine

    return Engine(plan)


@dataclass(slots=True, frozen=True)
class Difference:
    """Where a checker says something else. `sound`: no claim of it is wrong; then it says less than
    it could, or names another safe row."""

    what: str
    sound: bool

    def __str__(self) -> str:
        return self.what


@dataclass(slots=True)
class Said:
    """What a checker said: per slot the classes, per episode where it tells, the verdict."""

    verdict: str
    reasons: list[str]
    counts: dict[int, Counter[str]]
    episodes: dict[tuple[int, int, int], str]
    overlaps: set[tuple[int, int]]
    torn: set[tuple[str, int, int]]
    stale: set[tuple[int, ...]]


def said(record: Record, make: Make = engine, cuts: Sequence[int] = ()) -> Said:
    """Feed *record* to a new checker: whole, or in parts with a MARK at each of *cuts* (ns)."""
    checker = make(record.plan)
    judged: list[Any] = []
    for part in _parts(record.stream(), cuts):
        judged += checker.feed(part) or ()
    judged += checker.finish() or ()
    report = checker.report()
    counts = {}
    for number, slot in enumerate(report.slots):
        counts[number] = Counter({w: n for w, n in zip(WORDS, slot.classes, strict=False) if n})
    episodes = {}
    for batch in judged:
        rows = getattr(batch, "episodes", None)
        if rows is None:
            continue
        for row, cls in zip(rows, batch.cls, strict=True):
            episodes[int(batch.slot), int(row["cpu"]), int(row["seq_map"])] = WORDS[int(cls)]
    found = report.findings
    slots = [slot.name for slot in record.plan.slots]
    return Said(
        report.verdict.word,
        list(report.reasons),
        counts,
        episodes,
        {f.cpus for f in found if f.pattern == "overlap"},
        {(f.severity, *f.cpus) for f in found if f.pattern == "torn_edit"},
        {
            (slots.index(f.slot), *f.cpus, *f.frames)
            for f in found
            if f.pattern == "stale" and f.frames is not None and getattr(f, "reordered", False)
        },
    )


def _parts(stream: Events, cuts: Sequence[int]) -> list[Events]:
    """*stream* as a source delivers it: what a CPU's buffer has below a cut, the MARK, then the
    rest. A loss comes before the MARK that passes its begin (`addr`)."""
    parts = []
    for cut in cuts:
        first = np.zeros(len(stream), np.bool_)
        events = ~np.isin(stream["kind"], (Kind.LOSS, Kind.MARK))
        for cpu in np.unique(stream["cpu"][events]):
            mine = np.flatnonzero(events & (stream["cpu"] == cpu))
            below = np.flatnonzero(stream["ts"][mine] < cut)
            if len(below):
                first[mine[: below[-1] + 1]] = True
        first |= (stream["kind"] == Kind.LOSS) & (stream["addr"] < cut)
        parts.append(joined([stream[first], mark(cut)]))
        stream = stream[~first]
    return [*parts, stream]


def stamps(record: Record) -> list[int]:
    """The stamps (ns) of *record*, at each of which it can be cut."""
    return sorted({e.ts for events in record.cpus.values() for e in events})


def depends_on_the_cut(record: Record, make: Make = engine) -> list[Difference]:
    """Whether a checker's answer changes where a MARK cuts the stream, at any of its stamps."""
    whole = said(record, make)
    for cut in stamps(record):
        part = said(record, make, (cut,))
        if (part.verdict, part.counts) != (whole.verdict, whole.counts):
            return [Difference("the answer depends on where a MARK cuts the stream", False)]
    return []


def differences(record: Record, make: Make = engine) -> tuple[Judgement, list[Difference]]:
    """What a checker says differently of *record*. Raises TooManyWorlds."""
    truth = judge(record)
    answer = said(record, make)
    found = _classes(record, truth, answer)
    found += _verdicts(truth, answer)
    if not truth.overlaps.observed and answer.overlaps:
        found.append(Difference("overlap: observed, but some world has none", False))
    mine = {(p.slot, p.x, p.y, p.p, p.q) for p in truth.stale}
    if answer.stale - mine:
        found.append(Difference("stale: predicted, but no order of whole holds surely is", False))
    happened = ("race-observed", "race-predicted")  # then no other order is told
    if mine and not answer.stale and answer.verdict not in happened:
        found.append(Difference("stale: another order is stale, not predicted", True))
    if truth.overlaps.observed and not answer.overlaps:
        found.append(Difference("overlap: missed", answer.verdict != "clean"))
    return truth, found


def _classes(record: Record, truth: Judgement, answer: Said) -> list[Difference]:
    found = []
    left = {slot: Counter(counts) for slot, counts in answer.counts.items()}
    named = _seqs(record)
    for one in truth.episodes:
        word = answer.episodes.get((one.slot, one.cpu, named[id(one.map)]))
        if word is None and left.get(one.slot, Counter())[one.word]:
            word = one.word  # Checkers that only count: as many as there are.
        if word is None:
            continue
        left.setdefault(one.slot, Counter())[word] -= 1
        if (made := _difference(one, word)) is not None:
            found.append(made)
    unmatched = {
        slot: +counts for slot, counts in left.items() if sum((+counts).values()) and answer.counts
    }
    if unmatched and not answer.episodes:
        found.append(Difference(f"classes: {unmatched}", True))
    return found


def _seqs(record: Record) -> dict[int, int]:
    """The position (`seq`) of each event in its CPU's buffer."""
    return {
        id(event): seq for events in record.cpus.values() for seq, event in enumerate(events, 1)
    }


def _difference(one: Answer, word: str) -> Difference | None:
    """What is wrong with calling an episode *word*."""
    if word == one.word:
        return None
    causes = "+".join(sorted(one.causes))
    truth = one.word + (f" ({causes})" if causes else "")
    if word == "uncertain":
        return Difference(f"class: uncertain, {truth} in all worlds", True)
    if one.inconsistent:
        return Difference(f"class: {word} though no world has the lock", False)
    against = one.worlds - (set(SAFE) if word in SAFE else {word})
    if against:
        kinds = sorted({"safe" if w in SAFE else w for w in against})
        return Difference(f"class: {word} for {truth}; a world has {', '.join(kinds)}", False)
    return Difference(f"class: {word} for {truth}, both safe", True)


def _verdicts(truth: Judgement, answer: Said) -> list[Difference]:
    mine, theirs = truth.verdict, answer.verdict
    if mine == theirs:
        return []
    if theirs == "inconclusive":
        return [Difference(f"verdict: inconclusive for {mine}", True)]
    if theirs == "clean":
        return [Difference(f"verdict: false clean for {mine}", False)]
    if RANK.index(theirs) > RANK.index(mine):
        return [Difference(f"verdict: false {theirs} for {mine}", False)]
    return [Difference(f"verdict: {theirs} for {mine}", True)]


def nesting(record: Record) -> str:
    """Whether an NMI interrupts something that matters."""
    for events in record.cpus.values():
        contexts = [e.ctx for e in events]
        for at, ctx in enumerate(contexts):
            if ctx == Context.NMI and at > 0 and contexts[at - 1] not in (Context.NMI,):
                before = contexts[at - 1]
                if any(other <= before for other in contexts[at:] if other != Context.NMI):
                    return "nested"
    return "flat"


def lost(record: Record) -> str:
    """The kind of the record's loss."""
    if not record.losses:
        return "-"
    one = record.losses[0]
    kinds = (
        ""
        if one.kinds is None
        else " " + "+".join(sorted(Kind(k).name.lower().replace("_", "-") for k in one.kinds))
    )
    return one.cause.name.lower() + kinds


@dataclass(slots=True)
class Tally:
    """Counts per stratum (class, cause, NMI nesting, kind of loss): records compared, unsound,
    inexact; and per kind of difference its count and first record."""

    strata: dict[tuple[str, str, str, str], list[int]] = field(default_factory=dict)
    kinds: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    records: int = 0
    unsound: int = 0
    inexact: int = 0
    skipped: int = 0

    def add(
        self, name: object, record: Record, make: Make = engine, cuts: bool = False
    ) -> list[Difference]:
        """Compare one record, known by *name* (a seed); with *cuts* also cut at each stamp."""
        try:
            truth, found = differences(record, make)
            if cuts:
                found += depends_on_the_cut(record, make)
        except TooManyWorlds:
            self.skipped += 1
            return []
        self.records += 1
        self.unsound += any(not one.sound for one in found)
        self.inexact += any(one.sound for one in found)
        cause = lost(record)
        nested = nesting(record)
        for one in {(a.word, "+".join(sorted(a.causes)) or "-") for a in truth.episodes}:
            row = self.strata.setdefault((*one, nested, cause.split(" ")[0]), [0, 0, 0])
            row[0] += 1
            row[1] += any(not d.sound for d in found)
            row[2] += any(d.sound for d in found)
        for difference in found:
            kind = self.kinds.setdefault((str(difference), cause), [0, name, difference.sound])
            kind[0] += 1
        return found

    def wrong(self) -> dict[str, tuple[str, str]]:
        """The kinds of unsound answers, without what only one record says: of each the difference
        and the first record that shows it."""
        found: dict[str, tuple[str, str]] = {}
        for (what, lost_), (_, first, sound) in self.kinds.items():
            if not sound:
                kind = f"{what.partition(';')[0]} [{lost_.split(' ')[0]}]"
                found.setdefault(kind, (what, str(first)))
        return found

    def table(self) -> str:
        """The strata, as text."""
        head = ("class", "cause", "NMI", "loss", "records", "unsound", "inexact")
        rows = [head, *((*key, *map(str, row)) for key, row in sorted(self.strata.items()))]
        widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
        return "\n".join(
            "  ".join(
                text.ljust(w) if n < 4 else text.rjust(w)
                for n, (text, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )

    def merged(self, others: Iterable[Tally]) -> Tally:
        """This tally and *others* as one."""
        for other in others:
            for key, row in other.strata.items():
                mine = self.strata.setdefault(key, [0, 0, 0])
                self.strata[key] = [a + b for a, b in zip(mine, row, strict=True)]
            for name, kind in other.kinds.items():
                if name in self.kinds:
                    self.kinds[name][0] += kind[0]
                else:
                    self.kinds[name] = list(kind)
            self.records += other.records
            self.unsound += other.unsound
            self.inexact += other.inexact
            self.skipped += other.skipped
        return self
