# SPDX-License-Identifier: Apache-2.0
"""What the kernel judged by itself, in the rule's words: a summary's records become judged
episodes, samples and counts, and losses make of them what they leave sure.

The kernel keeps no events, so a loss is asked of windows: what was counted or judged in one is
`uncertain` if the loss may have hidden what says otherwise. probes/summary_state.bpf.c says what
the kernel itself can't tell; it calls that `uncertain`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ghesrace.checker.core import words as w
from ghesrace.checker.core.facts import Facts
from ghesrace.checker.core.holds import Episode, Hold
from ghesrace.checker.core.losses import Losses
from ghesrace.checker.core.rule import Judged
from ghesrace.checker.core.words import ACCESSES, HANDLER, MAPS, OWN, RESTS_ON, TOLD
from ghesrace.errors import InputError
from ghesrace.events import SUMMARY_KINDS, Events, Kind, Sample, Trait, empty, joined, pick, select
from ghesrace.events import of_kind as are_of

# One step repeats at most so many episodes, which bounds the time that a hostile file can take.
MOST_REPEATED_AT_ONCE = 1 << 20
Name = tuple[int, int]  # the CPU and the slot


@dataclass(frozen=True, slots=True)
class Count:
    """A count is of `n` episodes of `cpu` at `slot` that the kernel only counted. `cls` and `why`
    are as in Judged: of what is uncertain, a loss may have hidden what threatened them."""

    slot: int
    cpu: int
    cls: int
    why: int
    traits: Trait
    n: int


@dataclass(slots=True)
class Digested:
    """One step of a `Digest`: judged episodes, each with how often it happened, episodes that
    stand for others in a prediction and are counted elsewhere, and counts. `hid` says that a loss
    may have hidden an episode."""

    judged: list[tuple[Judged, int]] = field(default_factory=list)
    samples: list[Judged] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    hid: bool = False


class Digest:
    """Takes a summary's records out of batches; judges them once all losses of their time are
    known.

    >>> from ghesrace.events import as_events, blank, joined, mark
    >>> from ghesrace.plan import Plan
    >>> counts = blank(Kind.COUNT)
    >>> counts["slot"], counts["end"], counts["count"] = 0, 99, 7
    >>> facts = Facts(Plan("x86_64", "6.12", (), (), summary=True))
    >>> digest = Digest(facts, Losses(facts))
    >>> digest.take(joined([as_events(counts), mark(100)]))["kind"].tolist()
    [31]
    >>> [count.n for count in digest.step(100).counts]
    [7]
    """

    def __init__(self, facts: Facts, losses: Losses) -> None:
        self.facts = facts
        self.losses = losses
        self.waiting: list[Events] = []
        self.threats: dict[Name, Episode] = {}  # what the next EPISODE of a CPU and slot names
        self.first: dict[tuple[int, int, int], Judged] = {}  # by CPU, slot and begin (ns)
        self.lost_until = w.NOWHERE  # the end of the last loss that may have hidden an episode (ns)
        self.outlived: dict[Name, int] = {}  # the losses until then threaten a CPU no more
        self.proofs: dict[Name, int] = {}  # episodes behind the last loss, up to two matter

    def take(self, batch: Events) -> Events:
        """Keep the summary's records of *batch* for the next `step`; return all others."""
        mine = are_of(batch["kind"], SUMMARY_KINDS)
        if not mine.any():
            return batch
        self.waiting.append(pick(batch, mine))
        return pick(batch, ~mine)

    def step(self, mark: int) -> Digested:
        """Judge what was recorded before *mark* (ns); NEVER at the end.

        Raises InputError if the records repeat more episodes than any host makes.
        """
        found = Digested()
        if not self.waiting:
            return found
        records = joined([empty(), *self.waiting])
        ready = records["ts"] < np.uint64(mark)
        self.waiting = [] if ready.all() else [pick(records, ~ready)]
        records = pick(records, ready)
        self.episodes(select(records, Kind.EPISODE, Kind.THREAT), found)
        self.samples(select(records, Kind.SAMPLE), found)
        self.counts(select(records, Kind.COUNT), found)
        self.repeated(select(records, Kind.AGAIN), found)
        found.hid = any(one.kinds & MAPS for one in self.losses.all)
        return found

    def episodes(self, records: Events, found: Digested) -> None:
        """Take what the kernel judged to be unsafe, or could not judge."""
        for record in records:
            name = int(record["cpu"]), int(record["slot"])
            if record["kind"] == Kind.THREAT:
                self.threats[name] = episode_of(record)
                continue
            one = Judged(episode_of(record))
            one.cls = int(record["cls"])
            one.threat = self.threats.pop(name, None)
            traits = Trait(int(record["traits"]))
            one.latent, one.handoff = Trait.LATENT in traits, Trait.HANDOFF in traits
            if one.cls == w.UNCERTAIN:
                one.why = w.START if Trait.STARTED in traits else w.ORDER
                if self.facts.pti and one.why == w.START:
                    one.why = w.PTI  # what it held may have been dropped by a CR3 write, too
                one.never_safe = Trait.UNSAFE in traits and one.threat is not None
            if Trait.FIRST in traits:
                self.first[*name, one.episode.map_first] = one
            found.judged.append((self.degraded(one, 0), 1))

    def repeated(self, records: Events, found: Digested) -> None:
        """Take more episodes of a shape that was recorded once."""
        if int(records["count"].sum()) > MOST_REPEATED_AT_ONCE:
            raise InputError("a summary repeats more episodes than any host makes", "corrupt")
        for record in records:
            cpu, slot, n = int(record["cpu"]), int(record["slot"]), int(record["count"])
            first = self.first.get((cpu, slot, int(record["begin"])))
            if first is None:  # the first one was lost
                found.counts.append(Count(slot, cpu, w.UNCERTAIN, w.LOSS, Trait(0), n))
            elif n:
                found.judged.append((self.degraded(first, int(record["end"])), n))

    def degraded(self, one: Judged, until: int) -> Judged:
        """An unsafe episode, uncertain if something unseen may have saved it before its access was
        over, or before *until* (ns) if that is later."""
        if one.cls not in (w.INCIDENTAL, w.NONE) and not one.never_safe:
            return one
        made = Judged(one.episode)
        made.latent, made.handoff, made.threat = one.latent, one.handoff, one.threat
        made.cls, made.why, made.never_safe = one.cls, one.why, one.never_safe
        episode, threat = one.episode, one.threat
        if threat is None:  # it was lost, and can't be shown
            made.cls, made.why, made.never_safe = w.UNCERTAIN, w.LOSS, False
            return made
        end = max(until, episode.unmap_first)  # NEVER, if it was not unmapped
        cpu, begin = episode.hold.cpu, min(threat.map_first, episode.map_first)
        told = TOLD
        if made.cls == w.INCIDENTAL or self.facts.hidden_unmap & w.BROADCAST_AFTER_CLEAR:
            told |= MAPS  # what is taken for luck may be a missed unmap's broadcast
        if self.hidden(OWN | MAPS, cpu, begin, end) or self.hidden(told, -1, begin, end):
            made.cls, made.why, made.never_safe = w.UNCERTAIN, w.LOSS, False
        elif made.cls == w.INCIDENTAL and self.hidden(ACCESSES, cpu, begin, end):
            # What is taken for luck may have come behind the access.
            made.cls, made.why, made.never_safe = w.UNCERTAIN, w.LOSS, True
        elif self.facts.pti and made.cls == w.NONE:
            made.cls, made.why, made.never_safe = w.UNCERTAIN, w.PTI, True
        return made

    def hidden(self, kinds: int, cpu: int, begin: int, end: int) -> bool:
        """Whether a loss may have hidden an event of these kinds, on a CPU (-1: on any), between
        stamps that may be of other CPUs. A hidden invalidation may take effect late."""
        error = self.facts.error
        return any(
            one.kinds & kinds
            and (cpu == -1 or one.cpu in (-1, cpu))
            and one.begin - error <= end
            and begin <= (one.late if one.kinds & kinds & (OWN | TOLD) else one.end) + error
            for one in self.losses.all
        )

    def counts(self, records: Events, found: Digested) -> None:
        """Take what the kernel judged to be safe, and only counted."""
        for end in np.unique(records["end"]):
            window = records[records["end"] == end]
            self.window(window, int(window["begin"].min()), int(end), found)

    def window(self, records: Events, begin: int, end: int, found: Digested) -> None:
        """Take the counts of one window. What a loss hid before it may threaten the first episodes
        of a CPU in it: until an invalidation of this CPU's own, which a flushed episode shows, or
        the second that is fresh or behind a broadcast."""
        error, until = self.facts.error, w.NOWHERE
        for one in self.losses.all:
            if one.kinds & (MAPS | HANDLER) and one.begin - error <= end:
                until = max(until, one.end + error)
        if until > self.lost_until:
            self.lost_until = until
            self.proofs.clear()
        touched = until >= begin
        for record in records:
            cpu, slot, n = int(record["cpu"]), int(record["slot"]), int(record["count"])
            traits, cls = Trait(int(record["traits"])), int(record["cls"])
            if Trait.FLUSHED in traits:
                # What is taken for its own flush may be another page's, or before its hold.
                lost = self.hidden(HANDLER, cpu, begin, end) or any(
                    page.cpu in (-1, cpu) and page.begin <= end and begin <= page.end
                    for page in self.losses.within()
                )
            else:
                lost = touched or self.outlived.get((cpu, slot), w.NOWHERE) < self.lost_until
            if lost:
                found.counts.append(Count(slot, cpu, w.UNCERTAIN, w.LOSS, traits, n))
            else:
                found.counts.append(Count(slot, cpu, cls, w.CERTAIN, traits, n))
            if touched or (lost and Trait.FLUSHED in traits):
                continue
            if Trait.FLUSHED in traits:
                self.proofs[cpu, slot] = 2
            elif cls in (w.FRESH, w.BROADCAST):
                self.proofs[cpu, slot] = self.proofs.get((cpu, slot), 0) + n
        for name, proofs in self.proofs.items():
            if proofs >= 2:
                self.outlived[name] = self.lost_until

    def samples(self, records: Events, found: Digested) -> None:
        """Take episodes that stand for all of their kind in a prediction."""
        for record in records:
            one = Judged(episode_of(record))
            one.exposes = record["sample"] == Sample.EXPOSES
            one.vulnerable = one.bare = record["sample"] == Sample.VULNERABLE
            # When the lock hold began and ended was not stamped; it was over when this was read.
            begin, end = max(one.episode.map_first - w.FORCE_CLOSE_NS, 0), int(record["ts"])
            one.touched = self.losses.touch(RESTS_ON, one.episode.hold.cpu, begin, end)
            found.samples.append(one)


def episode_of(record: np.void) -> Episode:
    """The episode of a record (SUMMARY_EPISODE or SUMMARY_SAMPLE), with those of its events that
    the kernel stamped: its map and its unmap."""
    hold = Hold(int(record["mapper"]), int(record["ctx"]), int(record["slot"]))
    begin, end = int(record["begin"]), int(record["end"])
    traits = Trait(int(record["traits"]))
    made = Episode(hold, int(record["frame"]), 0)
    hold.add(made)
    hold.in_handler = hold.bounded = hold.closed = True
    hold.map_first = hold.entry = begin
    hold.close = end if end else int(record["ts"])
    made.seq_entry, made.seq_map, made.read_seq = int(record["call"]), begin, begin
    made.map_first = made.read_first = begin
    made.writes = Trait.WRITES in traits
    if end:
        made.unmapped, made.unmap_first = True, end
    events = empty(2 if end else 1)
    for at, (kind, ts) in enumerate(((Kind.MAP, begin), (Kind.UNMAP, end))[: len(events)]):
        events[at]["kind"], events[at]["ts"], events[at]["seq"] = kind, ts, ts
    events["cpu"], events["ctx"], events["slot"] = hold.cpu, hold.ctx, hold.slot
    events["phys"][0] = made.frame
    made.rows = [events]
    made.index_last = -1  # no other of its events is in the stream
    return made
