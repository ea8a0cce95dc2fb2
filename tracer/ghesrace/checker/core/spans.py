# SPDX-License-Identifier: Apache-2.0
"""What lasts: GHES page-table writes, uses of a slot, handler runs and page-table edits.

A *span* is the time from one event to the one that ends it. The spans of a CPU are ordered and
nested by buffer position, those of different CPUs by the clock alone: no lock is trusted here.
`Tracker` makes spans out of a stream, each exactly once, wherever the stream is cut; `Meetings`
finds those that meet. Both remember only what is open, at most a second, and what may yet meet
something that is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ghesrace.checker.losses import hides, touched
from ghesrace.checker.model import FORCE_CLOSE_NS, SPAN, Spans, Table, What
from ghesrace.events import (
    ALL_CPUS,
    NEVER,
    NO_POINT,
    NO_SLOT,
    Bools,
    Context,
    Events,
    Ints,
    Kind,
    empty,
    joined,
    of_kind,
    pick,
)
from ghesrace.plan import Plan

from .order import Streams

_HELPS = 1 << 8  # of an event that is kept, but begins nothing that is open
MOST_OPEN = 1 << 16  # only a damaged or foreign file can have more
# What follows a map or an unmap while its function or the copy around it is not over.
_INSIDE = (
    Kind.MAP_END,
    Kind.UNMAP_END,
    Kind.INV_PAGE,
    Kind.INV_RANGE,
    Kind.BCAST_RANGE,
    Kind.COPY_END,
)


@dataclass(slots=True)
class Tracker:
    """Feed it the new events of each step, below a watermark; it returns spans."""

    plan: Plan
    overflowed: bool = False  # more was open than can be remembered
    _open: Events = field(default_factory=empty)
    _waits: Ints = field(default_factory=lambda: np.zeros(0, np.int64))  # Whats that are open
    _symbols: Ints = field(init=False)
    _no_edit_end: bool = field(init=False)
    _returns: Bools = field(init=False)
    _flushes: Bools = field(init=False)

    def __post_init__(self) -> None:
        probes = self.plan.probes
        names = sorted({probe.symbol for probe in probes})
        self._symbols = np.full(NO_POINT + 1, -1, np.int64)
        self._symbols[: len(probes)] = [names.index(probe.symbol) for probe in probes]
        kinds = {probe.kind for probe in probes}
        self._no_edit_end = Kind.EDIT_END.name not in kinds
        ends = {Kind.MAP: Kind.MAP_END, Kind.UNMAP: Kind.UNMAP_END}
        self._returns = _by_kind({k for k, end in ends.items() if end.name in kinds})
        self._flushes = np.zeros(NO_POINT + 1, np.bool_)
        self._flushes[: len(probes)] = ["flush-inside" in probe.implies for probe in probes]

    def step(self, fresh: Events, losses: Events, watermark: int) -> Spans:
        """The spans that these events end; *fresh* holds each event once, in any CPU order."""
        s = Streams.of(joined([self._open, fresh]))
        due = self._due(s.ev)
        waits = np.zeros(len(s.ev), np.int64)
        over, still = [np.zeros(0, SPAN)], [np.zeros(0, SPAN)]
        for find in (self._writes, self._uses, self._calls, self._edits):
            begin, close, spans, more = find(s)
            if not len(begin):
                continue
            bit = 1 << int(spans["what"][0])
            late = (close >= 0) & (s.t[close] - spans["t"] > FORCE_CLOSE_NS)
            given_up = (close < 0) & (watermark - spans["t"] > FORCE_CLOSE_NS)
            _give_up(spans, late | given_up)
            mine = due[begin] & bit != 0  # the others were returned by an earlier step
            waiting = (close < 0) & ~given_up
            over.append(pick(spans, mine & ~waiting))
            still.append(pick(spans, mine & waiting))
            waits[begin[mine & waiting]] |= bit
            waits[more[mine & waiting & (more >= 0)]] |= _HELPS
        keep = np.flatnonzero(waits)
        if len(keep) > MOST_OPEN:
            self.overflowed = True
            keep = keep[np.argsort(s.t[keep], kind="stable")][-MOST_OPEN:]
        keep = np.sort(keep)
        self._open, self._waits = pick(s.ev, keep), waits[keep]
        result = Spans(joined(over), joined(still), watermark)
        result.over["touched"] = _touched(self.plan, losses, result.over)
        return result

    def _due(self, events: Events) -> Ints:
        """Which spans each event may begin: all that a new one does, else what it waits for."""
        rank = np.argsort(_names(self._open))
        names = np.append(_names(self._open)[rank], NEVER)
        at = np.searchsorted(names, _names(events))
        old = names[at] == _names(events)
        return np.where(old, np.append(self._waits[rank], 0)[at], -1)

    # Each returns, per span: the index of its begin, that of the event that ends it (-1: none
    # yet), the spans, and the index of another event to keep while it is open (-1: none).

    def _writes(self, s: Streams) -> tuple[Ints, Ints, Table, Ints]:
        at = np.flatnonzero(of_kind(s.kind, (Kind.MAP, Kind.UNMAP)) & (s.ev["slot"] != NO_SLOT))
        close = np.where(s.after[at] < len(s.ev), s.after[at], -1)
        return self._until_after(s, at, close, What.WRITE)

    def _until_after(
        self, s: Streams, at: Ints, close: Ints, what: What
    ) -> tuple[Ints, Ints, Table, Ints]:
        spans = _spans(s, at, close, what)
        kind = s.kind[close]
        flushed = self._flushes[s.ev["point"][at]] & (kind == Kind.INV_PAGE)
        spans["ended"] = (close >= 0) & (self._returns[s.kind[at]] | flushed)
        return at, close, spans, np.full(len(at), -1)

    def _uses(self, s: Streams) -> tuple[Ints, Ints, Table, Ints]:
        rows = np.flatnonzero(of_kind(s.kind, (Kind.MAP, Kind.UNMAP)) & (s.ev["slot"] != NO_SLOT))
        key = _cpu_context(s.ev, rows) << 16 | s.ev["slot"][rows].astype(np.int64)
        at, last, ended = self._paired(s, rows, key, Kind.MAP)
        after = np.where(ended, s.after[last], len(s.ev))
        known = after < len(s.ev)
        after = np.where(known, after, 0)
        # Without a trace of the unmap's end, its begin is all that can be told.
        inside = of_kind(s.kind[after], _INSIDE) & (s.ev["ctx"][after] == s.ev["ctx"][at])
        close = np.where(ended, np.where(known, np.where(inside, after, last), -1), last)
        spans = _spans(s, at, close, What.USE)
        spans["t_sure"] = np.where(ended, s.t[last], spans["t_end"])  # NEVER while it is open
        spans["ended"] = ended & (close >= 0)
        # Whether the unmap's own end is the end depends on the event after it: both are new.
        close = np.where(ended & known, after, close)
        return at, close, spans, np.where(ended, last, -1)

    def _calls(self, s: Streams) -> tuple[Ints, Ints, Table, Ints]:
        rows = np.flatnonzero(of_kind(s.kind, (Kind.NOTIFY, Kind.NOTIFY_END)))
        key = _cpu_context(s.ev, rows) << 20 | self._symbols[s.ev["point"][rows]] + 1
        at, close, ended = self._paired(s, rows, key, Kind.NOTIFY)
        spans = _spans(s, at, close, What.CALL)
        spans["ended"] = ended
        return at, close, spans, np.full(len(at), -1)

    def _edits(self, s: Streams) -> tuple[Ints, Ints, Table, Ints]:
        rows = np.flatnonzero(of_kind(s.kind, (Kind.EDIT, Kind.EDIT_END)))
        if self._no_edit_end:
            at = rows[s.kind[rows] == Kind.EDIT]
            close = np.where(s.after[at] < len(s.ev), s.after[at], -1)
            return self._until_after(s, at, close, What.EDIT)
        # A task may be preempted in an edit, and go on elsewhere: its pid says whose end it is.
        ev = pick(s.ev, rows)
        task = (ev["ctx"] == Context.TASK) & (ev["pid"] != 0)
        who = np.where(task, ev["pid"].astype(np.int64) + (1 << 24), _cpu_context(ev))
        key = who << 20 | self._symbols[ev["point"]] + 1
        at, close, ended = self._paired(s, rows, key, Kind.EDIT)
        spans = _spans(s, at, close, What.EDIT)
        spans["ended"] = ended
        return at, close, spans, np.full(len(at), -1)

    @staticmethod
    def _paired(s: Streams, rows: Ints, key: Ints, begins: Kind) -> tuple[Ints, Ints, Bools]:
        """Each begin among *rows* with what follows it under the same *key*: the begin, the end
        (-1: none yet), and whether that is a real end, and not that the context was left or that
        it began again."""
        order = np.lexsort((s.ev["seq"][rows], s.t[rows], key))
        rows, key = rows[order], key[order]
        following = np.append(rows[1:], -1)[: len(rows)]
        following[:-1][key[1:] != key[:-1]] = -1
        begin = s.kind[rows] == begins
        at, end = rows[begin], following[begin]
        real = (end >= 0) & (s.kind[end] != begins)
        gone = s.lower[at]
        task = s.ev["ctx"][at] == Context.TASK
        left = ~task & (gone < len(s.ev)) & ((end < 0) | (gone < end))
        return at, np.where(left, gone, end), real & ~left


def _names(events: Events) -> Ints:
    """A number for each event that no other of the same stream has."""
    name: Ints = events["seq"].astype(np.int64) << 16 | events["cpu"]
    return name


def _cpu_context(events: Events, at: Ints | slice = slice(None)) -> Ints:
    key: Ints = events["cpu"][at].astype(np.int64) << 2 | events["ctx"][at]
    return key


def _by_kind(kinds: set[Kind]) -> Bools:
    table = np.zeros(256, np.bool_)
    table[list(kinds)] = True
    return table


def _spans(s: Streams, at: Ints, close: Ints, what: What) -> Table:
    spans = np.zeros(len(at), SPAN)
    spans["what"] = what
    for name in ("kind", "cpu", "ctx", "slot", "point", "pid", "addr", "size", "phys", "seq"):
        spans[name] = s.ev[name][at]
    spans["t"] = s.t[at]
    spans["seq_end"], spans["t_end"] = NEVER, NEVER
    over = close >= 0
    spans["seq_end"][over], spans["t_end"][over] = s.ev["seq"][close[over]], s.t[close[over]]
    spans["t_sure"] = spans["t_end"]
    return spans


def _give_up(spans: Table, hopeless: Bools) -> None:
    """Nothing lasts for a second: where it ended was not seen."""
    t = spans["t"][hopeless]
    longest = np.where(spans["what"][hopeless] == What.WRITE, 0, FORCE_CLOSE_NS)
    sure = spans["t_sure"][hopeless]  # of a use whose unmap was seen
    spans["t_end"][hopeless] = np.minimum(t + longest, sure)
    spans["t_sure"][hopeless] = np.where(sure - t > FORCE_CLOSE_NS, t, sure)
    spans["ended"][hopeless] = False


_HIDERS = {
    What.WRITE: (Kind.MAP, Kind.UNMAP, Kind.MAP_END, Kind.UNMAP_END),
    What.USE: (Kind.MAP, Kind.UNMAP),
    What.CALL: (Kind.NOTIFY, Kind.NOTIFY_END),
    What.EDIT: (Kind.EDIT, Kind.EDIT_END),
}


def _touched(plan: Plan, losses: Events, spans: Table) -> Bools:
    """Spans of which a loss may have hidden the real end."""
    result = np.zeros(len(spans), np.bool_)
    for what, kinds in _HIDERS.items() if len(losses) else ():
        mine = losses[hides(plan, losses, kinds)]
        if what == What.EDIT:  # a task goes on on any CPU
            mine["cpu"] = ALL_CPUS
        at = np.flatnonzero(spans["what"] == what)
        here = spans[at]
        result[at] = touched(plan, mine, here["cpu"], here["t"], here["t_end"])
    return result
