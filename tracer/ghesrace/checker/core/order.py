# SPDX-License-Identifier: Apache-2.0
"""Per-CPU event streams: order, effective time, and what follows each event on its CPU.

Program order is the buffer's. A *context run* is one stay of a CPU in one context (task,
softirq, irq, nmi), as far as the events show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ghesrace.events import NEVER, Bools, Context, Events, Ints, pick

from .search import by_cpu

LEVELS = tuple(Context)


@dataclass(slots=True)
class Streams:
    """Events sorted by (cpu, position); indices are into `ev`, n stands for "not seen"."""

    ev: Events
    t: Ints  # ns; never decreases along a CPU
    after: Ints  # the next event in the same or a lower context: this one's effect is over
    lower: Ints  # the next event in a lower context: this one's context was left
    kind: npt.NDArray[np.uint8]  # of `ev`, in one piece

    @classmethod
    def of(cls, events: Events) -> Streams:
        """Sort and time-stamp a set of events; see DESIGN "Order".

        A stamp can be late when an NMI hits the clock read: the buffer's order wins, and a
        stamp is never later than that of the next event of its CPU.
        """
        ev = pick(events, by_cpu(events))
        n = len(ev)
        t = ev["ts"].astype(np.int64)
        after, lower = np.full(n, n, np.int64), np.full(n, n, np.int64)
        cpu, ctx = ev["cpu"].astype(np.int64), ev["ctx"].copy()
        cuts = np.flatnonzero(np.diff(cpu)) + 1
        edges = np.array([0, *cuts, n])
        end = np.repeat(edges[1:], np.diff(edges))  # of the stream of each event's CPU
        for lo, hi in pairwise(edges):
            t[lo:hi] = np.minimum.accumulate(t[lo:hi][::-1])[::-1]
        for level in LEVELS:
            hit = ctx <= level
            hits, passed = np.append(np.flatnonzero(hit), n), np.cumsum(hit)
            # To the next level these are the lower ones.
            for result, of in ((after, level), (lower, level + 1)):
                here = np.flatnonzero(ctx == of)
                following = hits[passed[here]]
                result[here] = np.where(following < end[here], following, n)
        return cls(ev, t, after, lower, ev["kind"].copy())

    def before(self, watermark: int) -> tuple[Streams, Events]:
        """Split into what is stamped below *watermark* (ns) and the raw rest."""
        ready = self.t < watermark
        if ready.all():
            return self, self.ev[:0]
        return Streams.of(pick(self.ev, ready)), pick(self.ev, ~ready)

    def looked_up(self, at: Ints) -> tuple[Ints, Ints]:
        """Position and time of the events at these indices; NEVER where the index is n."""
        seen = at < len(self.ev)
        seq, t = np.full(len(at), NEVER, np.int64), np.full(len(at), NEVER, np.int64)
        seq[seen], t[seen] = self.ev["seq"][at[seen]], self.t[at[seen]]
        return seq, t


class ProgramOrder:
    """A step's events in program order (by CPU, context, position) with their context runs.

    Arrays are indexed by program position. `key_end` is the end of the (CPU, context) that an
    event belongs to, `run` marks the first event of a context run, `after_*` bound the event's
    effect and `lower_*` tell when its context was left.
    """

    def __init__(self, s: Streams) -> None:
        key = s.ev["cpu"].astype(np.int64) * len(LEVELS) + s.ev["ctx"]
        order = np.argsort(key, kind="stable")  # s has the order of each CPU
        self.ev, self.t, key = pick(s.ev, order), s.t[order], key[order]
        self.kind = s.kind[order]
        self.seq = self.ev["seq"].astype(np.int64)
        cuts = np.flatnonzero(np.diff(key)) + 1
        edges = np.concatenate([[0], cuts, [len(key)]])
        self.key_start = np.repeat(edges[:-1], np.diff(edges))
        self.key_end = np.repeat(edges[1:], np.diff(edges))
        self.after_seq, self.after_t = s.looked_up(s.after[order])
        self.lower_seq, self.lower_t = s.looked_up(s.lower[order])
        run = self.key_start == np.arange(len(order))
        task = self.ev["ctx"] == Context.TASK
        run[1:] |= self.lower_seq[:-1] < self.seq[1:]
        run[1:] |= task[1:] & (self.ev["pid"][1:] != self.ev["pid"][:-1])
        self.run: Bools = run

    def last_edge(self, edge: Bools) -> Ints:
        """For each event, the position of the last *edge* at or before it in its context."""
        at = np.where(edge | self.run, np.arange(len(edge)), self.key_start)
        return np.maximum.accumulate(at)
