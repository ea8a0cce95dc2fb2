# SPDX-License-Identifier: Apache-2.0
"""`judge(record)`: what DESIGN's rules say of a record, by going through all of its worlds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ghesrace.events import Cause, Kind

from . import code, effects, pairs, predictions, worlds
from .classes import SAFE, combine
from .classes import judge as classify
from .code import Code, Episode
from .losses import variants
from .record import Ev, Record

# What the patterns that the oracle leaves aside, or asks of what is recorded alone, are made of.
OTHER_PATTERNS = (Kind.EDIT, Kind.SHOOTDOWN)


@dataclass(slots=True)
class Answer:
    """What the worlds say of one recorded episode, named by the event of its map.

    `plain`: its classes in the worlds in which nothing is hidden and its CPU held nothing at the
    start, `started`: in those in which it held something; `hiding` and `hiding_started`: the same
    of worlds with hidden events. `inconsistent`: no world has its lock.
    """

    map: Ev
    slot: int
    cpu: int
    plain: set[str] = field(default_factory=set)
    started: set[str] = field(default_factory=set)
    hiding: set[str] = field(default_factory=set)
    hiding_started: set[str] = field(default_factory=set)
    inconsistent: bool = False
    pti: bool = False

    @property
    def worlds(self) -> set[str]:
        """Its class in each world."""
        found = self.plain | self.started | self.hiding | self.hiding_started
        return found | {"incidental"} if self.pti and "none" in found else found

    @property
    def word(self) -> str:
        """Its class."""
        return "uncertain" if self.inconsistent else combine(self.worlds)

    @property
    def causes(self) -> set[str]:
        """What is open, if it is `uncertain`."""
        if self.word != "uncertain":
            return set()
        if self.inconsistent:
            return {"inconsistent"}
        found = set()
        if self.plain and combine(self.plain) == "uncertain":
            found.add("order")
        seen = self.plain | self.hiding
        if self.hiding - self.plain and combine(seen) == "uncertain":
            found.add("loss")
        if (self.started | self.hiding_started) - seen:
            found.add("start")
        if self.pti and "none" in seen:  # What only the start leaves open is the start's.
            found.add("pti")
        return found

    @property
    def never_safe(self) -> bool:
        """Whether it is safe in no world: then, if `uncertain`, it counts as predicted."""
        return not self.inconsistent and not self.worlds & set(SAFE)


@dataclass(slots=True)
class Hidden:
    """The classes of the episodes that are hidden whole: `started` per slot and CPU, where the CPU
    held something at the start."""

    plain: set[str] = field(default_factory=set)
    started: dict[tuple[int, int], set[str]] = field(default_factory=dict)

    def may_be_unsafe(self, judged_later: set[tuple[int, int]]) -> bool:
        """Whether one may be; as the start alone leaves open only where no later one was judged."""
        return bool(self.plain - set(SAFE)) or any(
            found - set(SAFE) for key, found in self.started.items() if key not in judged_later
        )


@dataclass(slots=True)
class Judgement:
    """The answers of one record. `hidden`: those of the episodes that are hidden whole."""

    episodes: list[Answer]
    verdict: str
    reasons: list[str]
    hidden: Hidden
    overlaps: pairs.Pairs
    torn: pairs.Pairs
    stale: list[predictions.Prediction]
    worlds: int

    def classes(self) -> dict[int, dict[str, int]]:
        """Per slot: how many episodes of each class."""
        found: dict[int, dict[str, int]] = {}
        for one in self.episodes:
            counts = found.setdefault(one.slot, {})
            counts[one.word] = counts.get(one.word, 0) + 1
        return found


def judge(record: Record) -> Judgement:
    """Go through the worlds of *record*. Raises worlds.TooManyWorlds."""
    answers: dict[int, Answer] = {}
    hidden = Hidden()
    count = 0
    possible = _possible(
        [_Variant.of(seen, hides) for seen, hides in _as_proven(record, variants(record))]
    )
    for one in possible:
        count += one.take(answers, hidden)
    built = effects.build(code.read(record))
    overlaps = pairs.overlaps(built)
    for one in possible:
        if overlaps.observed:  # What surely overlaps does so whatever is hidden.
            here = pairs.overlaps(one.built).observed
            overlaps.observed = [pair for pair in overlaps.observed if pair in here]
    every = [one.built for one in possible]
    made = Judgement(
        list(answers.values()),
        "",
        [],
        hidden,
        overlaps,
        pairs.torn_edits(built),
        predictions.predictions(every),
        count,
    )
    _conclude(made, built, every)
    return made


@dataclass(slots=True)
class _Variant:
    """The record with some hidden events, or none, and the rows of each slot's holds."""

    built: effects.Effects
    hides: bool
    rows: dict[int, worlds.Rows]

    @classmethod
    def of(cls, seen: code.Code, hides: bool) -> _Variant:
        built = effects.build(seen)
        slots = sorted({e.slot for e in seen.episodes})
        return cls(built, hides, {slot: worlds.rows(built, slot) for slot in slots})

    @property
    def broken(self) -> set[int]:
        """The slots whose holds no row explains."""
        return {slot for slot, rows in self.rows.items() if rows.overlapping}

    def take(self, answers: dict[int, Answer], hidden: Hidden) -> int:
        """All worlds of this variant, into the *answers*; how many there were."""
        return sum(
            _ask(self.built, self.rows[one.slot], one, self.hides, answers, hidden)
            for one in self.built.code.episodes
            if one.map is not None and not _cut_off(one)
        )


def _cut_off(episode: Episode) -> bool:
    """Whether the end of the record cuts a hidden episode off before its access: like one that is
    recorded, it is not judged."""
    hidden = episode.map is not None and episode.map.hidden
    return hidden and not (episode.access or episode.unmap or episode.replaced or episode.over)


def _as_proven(record: Record, found: Iterable[tuple[Code, bool]]) -> Iterable[tuple[Code, bool]]:
    """What was read in the code of all maps and unmaps is done, seen or not: those of the variants
    in which the fewest flushes are missing."""
    if not record.flushes_are_proven:
        return found
    every = list(found)
    fewest = min(_lacking(code) for code, _ in every)
    return [one for one in every if _lacking(one[0]) == fewest]


def _lacking(code: Code) -> int:
    """How many maps and unmaps lack the flush that their function ends with."""
    maps = sum(
        e.map is not None
        and bool(e.access or e.unmap or e.over)
        and not any(map(_inside, e.map_flushes))
        for e in code.episodes
    )
    last = {id(events[-1]) for events in code.record.cpus.values() if events}
    return maps + sum(
        e.unmap is not None and id(e.unmap) not in last and not _inside(e.unmap_flush)
        for e in code.episodes
    )


def _inside(flush: Ev | None) -> bool:
    """Whether this may be the flush of its page that a map or an unmap ends with: nothing else is
    hidden in its stead."""
    return flush is not None and (not flush.hidden or flush.kind == Kind.INV_PAGE)


def _possible(found: list[_Variant]) -> list[_Variant]:
    """The variants that have a world. A slot that has one in no variant has no lock."""
    hopeless = set.intersection(*(one.broken for one in found))
    good = [one for one in found if one.broken <= hopeless]
    return good or found


def _ask(
    built: effects.Effects,
    found: worlds.Rows,
    episode: Episode,
    hides: bool,
    answers: dict[int, Answer],
    hidden: Hidden,
) -> int:
    assert episode.map is not None
    name = id(episode.map)
    answer = answers.get(name)
    if not episode.map.hidden and answer is None:
        pti = built.code.record.plan.pti
        answer = answers[name] = Answer(episode.map, episode.slot, episode.cpu, pti=pti)
    if answer is not None and episode.hold in found.overlapping:
        answer.inconsistent = True
    plain: set[str] = set()
    started: set[str] = set()
    count = 0
    for row in found.rows:
        asked = worlds.question(built, row, episode)
        for at in worlds.worlds(row, asked):
            for base, more in classify(asked, at):
                count += 1
                plain.add(base)
                started.update(more)
    if answer is None:
        hidden.plain |= plain
        hidden.started.setdefault((episode.slot, episode.cpu), set()).update(started)
    elif hides:
        answer.hiding |= plain
        answer.hiding_started |= started
    else:
        answer.plain |= plain
        answer.started |= started
    return count


def _conclude(made: Judgement, built: effects.Effects, every: list[effects.Effects]) -> None:
    """The verdict, and why it is no better. *built*: what is recorded, *every*: with each choice
    of hidden events that has a world, the fewest first."""
    record = built.code.record
    words = [one.word for one in made.episodes]
    predicted = [one for one in made.episodes if one.word == "incidental" or one.never_safe]
    reasons = made.reasons
    if not made.episodes:
        reasons.append("no-traffic")
    judged_later: set[tuple[int, int]] = set()
    for one in reversed(made.episodes):
        key = (one.slot, one.cpu)
        if one.word != "uncertain":
            judged_later.add(key)
        elif one.causes != {"start"} or key not in judged_later:
            reasons.append(f"uncertain: {', '.join(sorted(one.causes))}")
    for one in record.losses:
        if one.cause in (Cause.TRUNCATED, Cause.PROBE_GONE, Cause.UNWATCHED):
            reasons.append(f"losses: {one.cause.name.lower()}")
        elif one.kinds is None and any(map(record.traced, OTHER_PATTERNS)):
            reasons.append("losses: an edit or a shootdown may be hidden")
    if not record.unmaps_are_proven and not _counted(record, built.code):
        reasons.append("missed: a map without an unmap")
    if record.flushes_are_proven and _lacking(every[0].code):
        reasons.append("missed: a flush that the code holds")
    if made.hidden.may_be_unsafe(judged_later):
        reasons.append("a hidden episode may be unsafe")
    fewest = _fewest(every)
    if record.losses and not made.stale and all(predictions.doubts(one) for one in fewest):
        reasons.append("losses: another order of the holds may be stale")
    if not made.stale and all(predictions.doubts(one, one_call=True) for one in fewest):
        reasons.append("nothing tells the notifications apart that one CPU took alone")
    reasons += made.overlaps.reasons(record) + made.torn.reasons(record)
    if "none" in words or made.overlaps.observed or made.torn.observed:
        made.verdict = "race-observed"
    elif predicted or made.stale or made.torn.predicted:
        made.verdict = "race-predicted"
    else:
        made.verdict = "inconclusive" if reasons else "clean"


def _fewest(every: list[effects.Effects]) -> list[effects.Effects]:
    """Those with the fewest hidden events: what surely is missing, wherever it may be."""

    def hidden(built: effects.Effects) -> int:
        return sum(e.hidden for events in built.code.record.cpus.values() for e in events)

    least = min(map(hidden, every))
    return [built for built in every if hidden(built) == least]


def _counted(record: Record, code: Code) -> bool:
    """Whether a recorded loss has each unmap that is missing where a copy or handler ended."""
    spent = dict.fromkeys(range(len(record.losses)), 0)
    for one in code.episodes:
        if one.over is None or one.unmap is not None or one.replaced is not None:
            continue
        begin = one.map.ts if one.map is not None else 0
        by = [
            number
            for number, loss in enumerate(record.losses)
            if loss.kinds is None or Kind.UNMAP in loss.kinds
            if loss.cpu in (None, one.cpu) and loss.begin <= one.over.ts and begin <= loss.end
        ]
        if not by:
            return False
        if len(by) == 1:
            spent[by[0]] += 1
    return all(
        loss.count is None or spent[number] <= loss.count
        for number, loss in enumerate(record.losses)
    )


def judged_kinds(record: Record) -> bool:
    """Whether the verdict is about everything in the record: the oracle leaves shootdowns aside."""
    sent = any(e.kind == Kind.SHOOTDOWN for events in record.cpus.values() for e in events)
    return not sent and not any(Kind.SHOOTDOWN in (one.kinds or ()) for one in record.losses)
