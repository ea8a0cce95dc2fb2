# SPDX-License-Identifier: Apache-2.0
"""Batches in, finished episodes in slot order out, wherever the stream was cut.

The state between batches is the tail of each CPU's stream back to the begin of its unfinished
lock hold (at most a second), and the newest few invalidations of each CPU and slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ghesrace.checker.model import EPISODE, FORCE_CLOSE_NS, LUCK, Chunk, Mark, Table
from ghesrace.errors import InputError
from ghesrace.events import (
    ALL_CPUS,
    NEVER,
    PAGE_SIZE,
    Bools,
    Events,
    Ints,
    Kind,
    blank,
    empty,
    joined,
    pick,
    present,
    select,
)
from ghesrace.plan import Plan

from .episodes import SlotEvents
from .order import Streams

# Sources mark several times a second; a file of a few MB can claim any number of events.
MAX_UNMARKED = 1 << 23
MOST_EVENTS_AT_ONCE = 1 << 16  # events in a step: each takes up to a KB while it is judged


@dataclass(slots=True)
class Correlator:
    """Feed it batches; it yields chunks of finished episodes."""

    plan: Plan
    watermark: int = 0
    addresses: list[int | None] = field(init=False)
    _pending: list[Events] = field(default_factory=list)
    _losses: list[Events] = field(default_factory=list)
    _luck: Table = field(default_factory=lambda: np.zeros(0, LUCK))
    _done: dict[tuple[int, int], int] = field(default_factory=dict)  # (slot, cpu) -> seq_map
    _seen: Ints = field(default_factory=lambda: np.full(1 << 16, -1, np.int64))  # seq, per CPU

    def __post_init__(self) -> None:
        self.addresses = [slot.address for slot in self.plan.slots]

    def feed(self, batch: Events) -> Iterator[Chunk]:
        """Take one batch; yield what became decidable by it, nothing before the next MARK.

        A chunk must be judged before the next is asked for. Raises InputError if there is no MARK
        for so long that memory would not be bounded.
        """
        kind = batch["kind"]
        losses, marks = select(batch, Kind.LOSS), batch["ts"][kind == Kind.MARK]
        events = pick(batch, (kind != Kind.LOSS) & (kind != Kind.MARK))
        self._losses += [losses] if len(losses) else []
        self._pending += [events] if len(events) else []
        if not len(marks):
            if sum(map(len, self._pending)) + sum(map(len, self._losses)) > MAX_UNMARKED:
                what = f"over {MAX_UNMARKED:,} events without a MARK"
                raise InputError(what, "the file is corrupt, or no capture of ghesrace's")
            return
        end = max(self.watermark, int(marks.max()))
        if sum(map(len, self._pending)) > MOST_EVENTS_AT_ONCE:
            yield from self._in_pieces(end)
        self.watermark = end
        yield self._step(final=False)

    def _in_pieces(self, end: int) -> Iterator[Chunk]:
        """Steps on the way to the watermark *end*, as if there had been MARKs; what is left of
        them is pending."""
        s = Streams.of(joined(self._pending))
        events, t = s.ev, s.t
        times = np.sort(t[(t > self.watermark) & (t < end)])[
            MOST_EVENTS_AT_ONCE::MOST_EVENTS_AT_ONCE
        ]
        self._pending = []
        left = np.ones(len(t), np.bool_)
        for until in np.unique(times).tolist():
            ready = left & (t < until)
            left &= ~ready
            self._pending.append(pick(events, ready))
            self.watermark = until
            yield self._step(final=False)
        self._pending.append(pick(events, left))

    def finish(self) -> Chunk:
        """The stream is over: return everything that is left."""
        return self._step(final=True)

    def _step(self, final: bool) -> Chunk:
        watermark = NEVER if final else self.watermark
        everything = Streams.of(joined([empty(), *self._pending]))
        s, held_back = everything.before(watermark)
        cpu, seq = s.ev["cpu"], s.ev["seq"].astype(np.int64)
        fresh = pick(s.ev, seq > self._seen[cpu])
        newest = np.append(cpu[1:] != cpu[:-1], True)[: len(cpu)]  # of each CPU
        self._seen[cpu[newest]] = np.maximum(self._seen[cpu[newest]], seq[newest])
        self._learn_addresses(s)
        slots = SlotEvents(self.plan, s, self.addresses)
        self.addresses = slots.addresses_with_accesses()
        episodes, waiting = [np.zeros(0, EPISODE)], [np.zeros(0, EPISODE)]
        luck = [self._resolved_luck(s)]
        for slot in range(len(self.plan.slots)):
            found, beside = slots.episodes(slot)
            found = pick(found, ~self._already_done(slot, found))
            if final:  # what the end of the capture cut off before the access can't be judged
                found = found[found["marks"] & (Mark.UNMAPPED | Mark.ACCESS_SEEN) != 0]
            closed = self._closed(found) | final
            ready = len(found) if closed.all() else int(np.argmin(closed))
            episodes.append(found[:ready])
            waiting.append(found[ready:])
            luck.append(beside)
            for cpu in present(found["cpu"][:ready]):
                mine = found["seq_map"][:ready][found["cpu"][:ready] == cpu]
                self._done[slot, int(cpu)] = int(mine.max())
        losses = joined([blank(Kind.LOSS, 0), *self._losses])
        chunk = Chunk(joined(episodes), joined(luck), s.ev, losses, fresh, watermark)
        tail = slots.unfinished(joined(waiting))
        self._pending = [tail, held_back]
        self._luck = _newest(_before_tail(chunk.luck, tail))
        self._losses = [losses[losses["end"].astype(np.int64) > self.watermark - FORCE_CLOSE_NS]]
        return chunk

    def _already_done(self, slot: int, found: Table) -> Bools:
        done = np.zeros(len(found), np.bool_)
        for cpu in present(found["cpu"]):
            last = self._done.get((slot, int(cpu)), -1)
            done |= (found["cpu"] == cpu) & (found["seq_map"] <= last)
        return done

    def _closed(self, found: Table) -> Bools:
        """An episode is over when its context went on, or when the slot was mapped again."""
        closed = found["seq_close"] != NEVER
        closed[:-1] = True
        return np.asarray(closed | (self.watermark - found["t_map"] > FORCE_CLOSE_NS))

    def _resolved_luck(self, s: Streams) -> Table:
        """The carried invalidations, with the end that their CPU's newer events prove."""
        luck = self._luck
        unknown = (luck["t_end"] == NEVER) & (luck["cpu"] != ALL_CPUS)
        for i in np.flatnonzero(unknown):  # a handful per CPU and slot at most
            row = luck[i]
            later = (s.ev["cpu"] == row["cpu"]) & (s.ev["ctx"] <= row["ctx"])
            at = np.flatnonzero(later & (s.ev["seq"] > np.uint64(row["seq"])))
            if len(at):
                luck["seq_end"][i], luck["t_end"][i] = s.ev["seq"][at[0]], s.t[at[0]]
        return luck

    def _learn_addresses(self, s: Streams) -> None:
        """Slots of a vm area, and all arm64 slots, show their address only in the events."""
        for slot, known in enumerate(self.addresses):
            tells = (s.ev["slot"] == slot) & (s.ev["addr"] != 0)
            if known is None and tells.any():
                self.addresses[slot] = int(s.ev["addr"][tells][0]) & ~(PAGE_SIZE - 1)


def _before_tail(luck: Table, tail: Events) -> Table:
    """What is not found again in the kept tail of its CPU."""
    past = np.ones(len(luck), np.bool_)
    for cpu in present(tail["cpu"]):
        begin = int(tail["seq"][tail["cpu"] == cpu].min())
        past &= (luck["sender"] != cpu) | (luck["seq"] < begin)
    return np.asarray(luck[past])


def _newest(luck: Table, keep: int = 8) -> Table:
    """The newest invalidations of each (slot, CPU): older ones can't decide anything.

    At most one per context level is unfinished, so the newest finished one is among eight.
    """
    luck = luck[np.lexsort((luck["t"], luck["cpu"], luck["slot"]))]
    group = luck["slot"].astype(np.int64) << 16 | luck["cpu"]
    age = np.searchsorted(group, group, side="right") - np.arange(len(luck))
    return np.asarray(luck[age <= keep])
