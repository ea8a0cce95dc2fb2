# SPDX-License-Identifier: Apache-2.0
"""This is the checker's side of a summary: it makes judged episodes, samples and counts from the
records of what the kernel judged, and decides what losses, PTI and the end of the stream change.

The records are events.SUMMARY_EPISODE, SUMMARY_SAMPLE and SUMMARY_COUNT.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ghesrace.errors import InputError
from ghesrace.events import (
    NEVER,
    SUMMARY_KINDS,
    Bools,
    Events,
    Ints,
    Kind,
    Sample,
    Trait,
    empty,
    joined,
    of_kind,
    pick,
    select,
)
from ghesrace.plan import Plan

from .losses import INVALIDATIONS, MAP_KINDS, Windows, hides
from .model import EPISODE, FORCE_CLOSE_NS, Class, Judged, Mark, Table, Why
from .witness import EpisodeKey, episode_key

# One step repeats at most so many episodes, which bounds the memory that a hostile file can take.
MOST_REPEATED_AT_ONCE = 1 << 20
_MARKS = {
    Trait.FLUSHED: Mark.MAP_FLUSH,
    Trait.WRITES: Mark.WRITE,
    Trait.UNMAPPED: Mark.UNMAPPED,
}


@dataclass(frozen=True, slots=True)
class Count:
    """A count is of `n` episodes of `cpu` at `slot` that the kernel judged to be safe and only
    counted.

    `cls` is their class. If a loss may have hidden what threatened them it is UNCERTAIN, and `why`
    says why.
    """

    slot: int
    cpu: int
    cls: Class
    why: Why
    traits: Trait
    n: int


@dataclass(slots=True)
class Digested:
    """One step of a `Digest` yields this.

    `judged` are episodes of which each has a record, or is a repetition of one that has. `samples`
    are episodes that stand for others in a prediction; each is among `judged` or in `counts` too.
    `events` (EVENT) holds, by episode, the map and the unmap of each episode and threat that is
    named here.
    """

    judged: list[Judged]
    samples: list[Judged]
    counts: list[Count]
    events: dict[EpisodeKey, Events]


@dataclass(slots=True)
class Digest:
    """A digest takes a summary's records out of batches, and judges what losses did to them once
    no more losses of their time can come.

    >>> from ghesrace.events import LOSS, as_events, blank, joined, mark
    >>> counts = blank(Kind.COUNT)
    >>> counts["slot"], counts["end"], counts["count"], counts["cls"] = 0, 99, 7, Class.FRESH
    >>> digest = Digest(Plan("x86_64", "6.12", (), (), summary=True))
    >>> digest.take(joined([as_events(counts), mark(100)]))["kind"].tolist()
    [31]
    >>> [count.n for count in digest.step(100, np.zeros(0, LOSS)).counts]
    [7]
    """

    plan: Plan
    _waiting: list[Events] = field(default_factory=list)
    _threats: dict[tuple[int, int], np.void] = field(default_factory=dict)  # by CPU and slot
    # This holds the first episode of a shape, and its threat, by CPU, slot and begin of its map
    # (ns).
    _first: dict[tuple[int, int, int], tuple[np.void, np.void | None]] = field(default_factory=dict)
    _loss_end: dict[str, int] = field(default_factory=lambda: {"map": -1, "inv": -1})

    def take(self, batch: Events) -> Events:
        """Keep the summary's records of *batch* (EVENT, shape (n,)) for the next `step`, and return
        the others."""
        mine = of_kind(batch["kind"], SUMMARY_KINDS)
        if not mine.any():
            return batch
        self._waiting.append(pick(batch, mine))
        return pick(batch, ~mine)

    def step(self, watermark: int, losses: Events) -> Digested:
        """Judge what was recorded before *watermark* (ns). *losses* (LOSS) are those delivered so
        far that are not older than a second. Raises InputError if the records repeat more episodes
        than any host makes."""
        records = joined([empty(), *self._waiting])
        ready = records["ts"] < np.uint64(watermark)
        self._waiting = [records[~ready]] if not ready.all() else []
        records = records[ready]
        hidden = {
            what: hides(self.plan, losses, kinds)
            for what, kinds in (("map", MAP_KINDS), ("inv", INVALIDATIONS))
        }
        error = self.plan.clock_error_ns
        windows = {
            what: Windows.of(losses, mask, error, self._loss_end[what])
            for what, mask in hidden.items()
        }
        found = Digested([], [], [], {})
        self._episodes(records, windows, found)
        self._samples(select(records, Kind.SAMPLE), windows, found)
        found.counts = _counts(select(records, Kind.COUNT), windows["map"])
        self._repeated(select(records, Kind.AGAIN), windows["inv"], found)
        for what, mask in hidden.items():
            ends = losses["end"][mask].astype(np.int64)
            self._loss_end[what] = max(self._loss_end[what], int(ends.max(initial=-1)))
        return found

    def _episodes(self, records: Events, windows: dict[str, Windows], found: Digested) -> None:
        by_slot: dict[int, tuple[list[np.void], list[np.void], list[int]]] = {}
        # Only unsafe episodes have records of their own: a handful where there is no race.
        for record in select(records, Kind.EPISODE, Kind.THREAT):
            name = int(record["cpu"]), int(record["slot"])
            if record["kind"] == Kind.THREAT:
                self._threats[name] = record.copy()
                continue
            episodes, threats, which = by_slot.setdefault(name[1], ([], [], []))
            threat = self._threats.pop(name, None)
            if record["traits"] & Trait.FIRST:
                self._first[*name, int(record["begin"])] = record.copy(), threat
            which.append(-1 if threat is None else len(threats))
            threats += [] if threat is None else [threat]
            episodes.append(record)
        for slot, (episodes, threats, which) in sorted(by_slot.items()):
            judged = self._judged(np.array(episodes), np.array(which), slot)
            judged.threats = _rows(np.array(threats)) if threats else judged.threats
            self._degrade(judged, windows["inv"])
            found.judged.append(judged)
            found.events |= _raw(judged.episodes) | _raw(judged.threats)

    def _repeated(self, records: Events, losses: Windows, found: Digested) -> None:
        """Add more episodes of a shape that was recorded once. A loss since then may have hidden
        what saved them.

        Raises InputError if they are more than any host makes.
        """
        if int(records["count"].sum()) > MOST_REPEATED_AT_ONCE:
            raise InputError("a summary repeats more episodes than any host makes", "corrupt")
        for record in records:
            cpu, slot, n = int(record["cpu"]), int(record["slot"]), int(record["count"])
            first = self._first.get((cpu, slot, int(record["begin"])))
            if first is None:  # The first one was lost.
                found.counts.append(Count(slot, cpu, Class.UNCERTAIN, Why.LOSS, Trait(0), n))
                continue
            episode, threat = first
            which = np.full(n, -1 if threat is None else 0)
            judged = self._judged(np.repeat(np.array([episode]), n), which, slot)
            judged.threats = judged.threats if threat is None else _rows(np.array([threat]))
            self._degrade(judged, losses, until=int(record["end"]))
            found.judged.append(judged)
            found.events |= _raw(judged.episodes[:1]) | _raw(judged.threats)

    def _judged(self, records: Events, threat: Ints, slot: int) -> Judged:
        """Return the episodes *records* (SUMMARY_EPISODE, shape (n,)) of *slot* as judged. *threat*
        (shape (n,)) is each one's row in the threats that the caller sets, or -1."""
        cls = records["cls"].astype(np.int64)
        started = (records["traits"] & Trait.STARTED) != 0
        why = np.where(cls == Class.UNCERTAIN, int(Why.ORDER), 0)
        why[(cls == Class.UNCERTAIN) & started] = Why.START
        return _as_judged(records, slot, cls, why, threat)

    def _degrade(self, judged: Judged, losses: Windows, until: int = 0) -> None:
        """Make those unsafe episodes uncertain which something unseen may have saved.

        A loss may have hidden that from the threat's unmap to the end of the access, or to *until*
        (ns) if that is later. With PTI a CR3 write may have done it.
        """
        rows, cls, why = judged.episodes, judged.cls, judged.why
        unsafe = ((cls == Class.NONE) | (cls == Class.INCIDENTAL)) & (judged.threat >= 0)
        if unsafe.any():
            threat = judged.threats[np.maximum(judged.threat, 0)]
            begin = np.where(threat["t_unmap"] == NEVER, threat["t_map"], threat["t_unmap"])
            end = np.where(rows["t_read_end"] == NEVER, rows["t_close"], rows["t_read_end"])
            hidden = losses.touch(begin, np.maximum(end, until)) & unsafe
            cls[hidden], why[hidden] = Class.UNCERTAIN, Why.LOSS
        # An episode whose threat was lost can't be shown, and is not certain.
        alone = ((cls == Class.NONE) | (cls == Class.INCIDENTAL)) & (judged.threat < 0)
        cls[alone], why[alone] = Class.UNCERTAIN, Why.LOSS
        if self.plan.pti:
            why[cls == Class.NONE] = Why.PTI
            cls[cls == Class.NONE] = Class.UNCERTAIN

    def _samples(self, records: Events, windows: dict[str, Windows], found: Digested) -> None:
        for slot in np.unique(records["slot"]):
            mine = records[records["slot"] == slot]
            # A sample is counted elsewhere by its class, and has none here.
            zeros = np.zeros(len(mine), np.int64)
            judged = _as_judged(mine, int(slot), zeros, zeros, zeros - 1)
            judged.exposes = mine["sample"] == Sample.EXPOSES
            judged.vulnerable = mine["sample"] == Sample.VULNERABLE
            rows = judged.episodes
            for losses in windows.values():
                judged.touched = judged.touched | losses.touch(rows["t_hold"], rows["t_close"])
            found.samples.append(judged)
            found.events |= _raw(rows)


def _counts(records: Events, losses: Windows) -> list[Count]:
    """Return the counts of *records* (SUMMARY_COUNT). A loss that could hide a map makes safe
    episodes uncertain, unless their own map flush was seen."""
    begin, end = records["begin"].astype(np.int64), records["end"].astype(np.int64)
    hidden: Bools = losses.touch(begin, end) & (records["traits"] & Trait.FLUSHED == 0)
    return [
        Count(
            int(record["slot"]),
            int(record["cpu"]),
            Class.UNCERTAIN if lost else Class(int(record["cls"])),
            Why.LOSS if lost else Why.CERTAIN,
            Trait(int(record["traits"])),
            int(record["count"]),
        )
        for record, lost in zip(records, hidden, strict=True)
    ]


def _as_judged(records: Events, slot: int, cls: Ints, why: Ints, threat: Ints) -> Judged:
    """Return *records* (SUMMARY_EPISODE or SUMMARY_SAMPLE) of *slot*, judged so, without threats
    yet."""
    rows, no = _rows(records), np.zeros(len(records), np.bool_)
    latent = (records["traits"] & Trait.LATENT) != 0
    handoff = (records["traits"] & Trait.HANDOFF) != 0
    return Judged(slot, rows, cls, why, latent, handoff, threat, rows[:0], no, no, no)


def _rows(records: Events) -> Table:
    """Return *records* (SUMMARY_EPISODE or SUMMARY_SAMPLE) as EPISODE. The stamp of an effect
    stands for its position in the CPU's buffer too, which a summary does not have."""
    rows = np.zeros(len(records), EPISODE)
    rows["slot"], rows["cpu"], rows["ctx"] = records["slot"], records["mapper"], records["ctx"]
    rows["frame"] = records["frame"]
    for trait, mark in _MARKS.items():
        rows["marks"] |= np.where(records["traits"] & trait != 0, int(mark), 0).astype(np.uint8)
    begin, end = records["begin"].astype(np.int64), records["end"].astype(np.int64)
    end = np.where(end == 0, NEVER, end)
    rows["seq_hold"] = rows["seq_entry"] = records["call"]
    # When the lock hold began was not stamped, but it was at most FORCE_CLOSE_NS before.
    rows["t_hold"] = np.maximum(begin - FORCE_CLOSE_NS, 0)
    rows["t_pre"] = NEVER
    for name in ("map", "read"):
        rows[f"seq_{name}"] = rows[f"t_{name}"] = begin
    for name in ("seq_read_end", "t_read_end", "t_unmap", "seq_clear", "t_clear", "seq_close"):
        rows[name] = end
    rows["t_close"] = np.where(end == NEVER, records["ts"].astype(np.int64), end)
    return rows


def _raw(rows: Table) -> dict[EpisodeKey, Events]:
    """Return, by episode, those of its events that the kernel stamped: its map and its unmap."""
    found = {}
    for row in rows:
        events = empty(2)
        events["kind"] = Kind.MAP, Kind.UNMAP
        events["ts"] = events["seq"] = row["t_map"], row["t_unmap"]
        for name in ("cpu", "ctx", "slot"):
            events[name] = row[name]
        events["phys"][0] = row["frame"]
        found[episode_key(row)] = events[: 2 if row["t_unmap"] != NEVER else 1]
    return found
