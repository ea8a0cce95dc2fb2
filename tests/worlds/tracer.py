# SPDX-License-Identifier: Apache-2.0
"""What a tracer records of a history: stamps, their errors, the start, and what gets lost.

A record's place in its CPU's buffer is taken before its clock is read, so an NMI in between has
later places and earlier stamps. CPU c's clock is the true time plus an offset that drifts; two of
them never differ by more than the clock error. Losses name whose records they hide, so a world
that is made smaller keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from ghesrace.events import (
    ALL_CPUS,
    NO_POINT,
    NO_SLOT,
    Cause,
    Context,
    Events,
    Kind,
    empty,
    loss,
    mark,
)
from ghesrace.plan import Plan

from .machine import History, Record

EPOCH = 1_000_000  # ns: stamps of true time 0, so that windows can begin earlier

Name = tuple[int, int]  # task and step of a record


@dataclass(frozen=True, slots=True)
class Clock:
    """A CPU's clock: true time + `offset` ns, which grows by one ns each `drift` ns (0: never).

    The offset swings back as it reaches `most` (ns): it stays in [offset, most].
    """

    offset: int = 0
    drift: int = 0
    most: int = 0

    @property
    def range(self) -> tuple[int, int]:
        """The least and the largest difference from the true time, ns."""
        swings = self.drift and self.most > self.offset
        return self.offset, self.most if swings else self.offset

    def read(self, at: int) -> int:
        """The stamp at true time *at*, ns."""
        grown = 0
        if self.drift and self.most > self.offset:
            span = self.most - self.offset
            phase = at // self.drift % (2 * span)
            grown = phase if phase <= span else 2 * span - phase
        return EPOCH + at + self.offset + grown


@dataclass(frozen=True, slots=True)
class Loss:
    """Records that were lost: those named `gone`, all of one CPU.

    `cause` says how the record tells it: OVERRUN (a window of the buffer), DROPPED (single
    writes of a CPU, counted between two readings of the counter `wide` ns apart), MISSED (hits
    of probes, likewise), NMI_UNMATCHED (a whole handler), CPU_ONLINE. `counted`: the count is
    known. `whole`: the counter was read at the end of the recording only. `named`: a MISSED
    knows its CPU.
    """

    cause: Cause
    gone: tuple[Name, ...]
    wide: int = 1000
    counted: bool = True
    whole: bool = False
    named: bool = False


@dataclass(slots=True)
class Recording:
    """One recording: `events` by CPU in buffer order, `losses` as records, and what is missing.

    `maps` names the episode of each recorded map by (CPU, seq); `lost` are names of records
    that a loss hid, `early` of those that came before the start.
    """

    plan: Plan
    events: Events
    losses: Events
    end: int
    maps: dict[tuple[int, int], Name] = field(default_factory=dict)
    lost: set[Name] = field(default_factory=set)
    early: set[Name] = field(default_factory=set)

    def whole(self) -> list[Events]:
        """The stream in one batch."""
        return [np.concatenate([self.losses, self.events, mark(self.end)])]

    def cut(self, *at: int) -> list[Events]:
        """The stream in batches that end with a MARK at each of these stamps (ns)."""
        batches, lower = [], 0
        below = self._below()
        for limit in (*sorted(set(at)), self.end):
            part = self.events[(below >= lower) & (below < limit)]
            begun = self.losses["addr"]
            mine = self.losses[(begun >= lower) & (begun < limit)]
            if limit == self.end:
                mine = self.losses[begun >= lower]
            batches.append(np.concatenate([mine, part, mark(limit)]))
            lower = limit
        return batches

    def _below(self) -> np.ndarray:
        """Of each event, the stamp behind which a MARK must bring it: its own, or that of a
        later one of its CPU if that is earlier."""
        ts = self.events["ts"].astype(np.int64)
        for cpu in np.unique(self.events["cpu"]):
            at = np.flatnonzero(self.events["cpu"] == cpu)
            ts[at] = np.minimum.accumulate(ts[at][::-1])[::-1]
        return ts

    def shifted(self, by: int) -> Recording:
        """The same, *by* ns later."""
        events, losses = self.events.copy(), self.losses.copy()
        events["ts"] += np.uint64(by)
        losses["ts"] += np.uint64(by)
        losses["addr"] += np.uint64(by)
        return Recording(self.plan, events, losses, self.end + by)

    def renumbered(self, order: list[int]) -> Recording:
        """The same, in which CPU c is called order[c]."""
        events, losses = self.events.copy(), self.losses.copy()
        names = np.array(order, np.uint16)
        events["cpu"] = names[events["cpu"]]
        known = losses["cpu"] != ALL_CPUS
        losses["cpu"][known] = names[losses["cpu"][known]]
        events = events[np.lexsort((events["seq"], events["cpu"]))]
        return Recording(self.plan, events, losses, self.end)


def record(
    history: History,
    plan: Plan,
    clocks: tuple[Clock, ...],
    *,
    start: int | None = None,
    losses: tuple[Loss, ...] = (),
    told: bool = True,
) -> Recording:
    """What a tracer with *plan* records of *history*.

    *start* (ns of true time): what was recorded before it is dropped, whatever its stamp. *told*:
    losses leave records of themselves.
    """
    gone = {name for one in losses for name in _hidden_by(one, history)}
    rows: list[tuple[int, Record, int]] = []  # stamp, record, CPU: those that are recorded
    stamps: dict[tuple[int, int], int] = {}  # (CPU, place in its buffer) -> stamp
    made = Recording(plan, empty(), empty(), 0)
    for cpu, buffer in enumerate(history.buffers):
        for place, row in enumerate(buffer):
            stamps[cpu, place] = clocks[cpu].read(row.clock)
        first = 0
        if start is not None:
            read = list(accumulate((row.clock for row in reversed(buffer)), min))[::-1]
            first = sum(at < start for at in read)
        for place, row in enumerate(buffer):
            name = (row.task, row.step)
            if place < first:
                made.early.add(name)
            elif name in gone:
                made.lost.add(name)
            else:
                rows.append((stamps[cpu, place], row, cpu))
    made.events = _events(rows, plan, made)
    made.end = max((stamp for stamp in stamps.values()), default=EPOCH) + 10 * 1_000_000
    if told and losses:
        parts = [part for one in losses for part in _told(one, history, stamps, made)]
        made.losses = np.concatenate([empty(), *parts])
    return made


def _events(rows: list[tuple[int, Record, int]], plan: Plan, made: Recording) -> Events:
    points = _points(plan)
    events = empty(len(rows))
    seq: dict[int, int] = {}
    table = []
    for stamp, row, cpu in rows:
        op = row.op
        assert op.kind is not None
        seq[cpu] = seq.get(cpu, 0) + 1
        if op.kind == Kind.MAP:
            made.maps[cpu, seq[cpu]] = (row.task, op.page)
        size = row.size if op.kind == Kind.NMI_REF else op.size
        addr = 0 if plan.arch == "arm64" and op.kind == Kind.UNMAP else op.addr
        table.append(
            (stamp, addr, op.phys, size, seq[cpu], row.pid, points.get(op.kind, NO_POINT), cpu,
             op.slot if op.slot >= 0 else NO_SLOT, op.kind, row.ctx, op.flags, 0, 0)
        )  # fmt: skip
    if table:
        events[:] = np.array(table, dtype=events.dtype)
    return events


def _points(plan: Plan) -> dict[Kind, int]:
    points = {}
    for index, probe in enumerate(plan.probes):
        points[Kind[probe.kind]] = index
        if probe.clear_kind is not None:
            points[Kind[probe.clear_kind]] = index
    return points


def _hidden_by(one: Loss, history: History) -> set[Name]:
    """The names that *one* hides: an overrun takes all between its first and its last, a CPU that
    came online all up to the last."""
    if one.cause not in (Cause.OVERRUN, Cause.CPU_ONLINE):
        return set(one.gone)
    hidden: set[Name] = set()
    for buffer in history.buffers:
        at = [i for i, row in enumerate(buffer) if (row.task, row.step) in one.gone]
        if at:
            first = at[0] if one.cause == Cause.OVERRUN else 0
            hidden |= {(row.task, row.step) for row in buffer[first : at[-1] + 1]}
    return hidden


def _told(
    one: Loss, history: History, stamps: dict[tuple[int, int], int], made: Recording
) -> list[Events]:
    """The LOSS records that a source makes of *one*; none if it hid nothing."""
    gone = _hidden_by(one, history) & made.lost
    hidden = [
        (cpu, place, row)
        for cpu, buffer in enumerate(history.buffers)
        for place, row in enumerate(buffer)
        if (row.task, row.step) in gone
    ]
    if not hidden:
        return []
    cpu = hidden[0][0]
    buffer = history.buffers[cpu]
    places = [place for _, place, _ in hidden]
    times = [stamps[cpu, place] for place in places]
    begin, end = min(times), max(times)
    count = len(hidden) if one.counted else 0
    if one.cause == Cause.OVERRUN:
        # From the last record before it to the first one behind it, as a reader knows it.
        begin = min(begin, stamps[cpu, max(min(places) - 1, 0)])
        end = max(end, stamps[cpu, min(max(places) + 1, len(buffer) - 1)])
        return [loss(begin, end, one.cause, cpu, count)]
    begin, end = max(begin - one.wide, 0), end + one.wide
    if one.whole:
        begin, end = 0, made.end - 1
    if one.cause == Cause.CPU_ONLINE:
        return [loss(begin, end, one.cause, cpu)]
    if one.cause == Cause.DROPPED:
        return [loss(begin, end, one.cause, cpu, count)]
    assert one.cause in (Cause.MISSED, Cause.NMI_UNMATCHED), one.cause
    points = _points(made.plan)
    hits: dict[int, int] = {}
    for _, _, row in hidden:
        assert row.op.kind is not None
        hits[points[row.op.kind]] = hits.get(points[row.op.kind], 0) + 1
    parts = []
    if one.cause == Cause.NMI_UNMATCHED and Kind.NMI_REF in points:
        task = hidden[0][2].task
        for place, row in enumerate(buffer):
            if row.task == task and row.op.kind == Kind.NMI_REF:
                at = stamps[cpu, place]
                since = min(max(at - row.size - 100_000, 0), min(times))
                reference = points[Kind.NMI_REF]
                parts.append(loss(since, max(at, max(times)), one.cause, cpu, 1, reference))
    who = cpu if one.named else ALL_CPUS
    for point, n in sorted(hits.items()):
        parts.append(loss(begin, end, Cause.MISSED, who, n if one.counted else 0, point))
    return parts


def guarded(history: History) -> dict[int, list[Name]]:
    """The records that came while another probe of their CPU ran, by their task: kprobes that
    the kernel would have skipped."""
    found: dict[int, list[Name]] = {}
    for buffer in history.buffers:
        for row in buffer:
            if row.guarded and row.ctx == Context.NMI:
                found.setdefault(row.task, []).append((row.task, row.step))
    return found
