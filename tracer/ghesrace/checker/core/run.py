# SPDX-License-Identifier: Apache-2.0
"""The loop: one event at a time, judged as soon as a MARK allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ghesrace import uncompiled as cython
from ghesrace.checker.core import words as w
from ghesrace.checker.core.edits import Edits, Meeting
from ghesrace.checker.core.facts import Facts
from ghesrace.checker.core.holds import Hold
from ghesrace.checker.core.losses import Losses
from ghesrace.checker.core.reader import Reader
from ghesrace.checker.core.rule import Judge, Judged
from ghesrace.checker.core.state import SlotState
from ghesrace.plan import Plan

if not TYPE_CHECKING and cython.compiled:
    import cython
COMPILED = cython.compiled
LEARNT_FROM = (w.K_MAP, w.K_UNMAP, w.K_READ, w.K_WRITE)
MOST_LEARNT = 10_000  # of these in a batch, in which the address of a slot is looked for


class Core:
    """Feed it batches of EVENT records; it returns the episodes that they decided."""

    def __init__(self, plan: Plan) -> None:
        self.facts = Facts(plan)
        self.slots = [
            SlotState(i, slot.lock == "page", slot.address) for i, slot in enumerate(plan.slots)
        ]
        self.losses = Losses(self.facts)
        self.edits = Edits(self.facts, self.slots, self.losses)
        self.reader = Reader(self.facts, self.slots, self.edits)
        self.judge = Judge(self.facts, self.slots, self.reader, self.losses)
        self.met: list[Meeting] = []
        self.mark = 0
        self.unknown = True  # whether some slot's address is not known
        self.seen = 0  # events of the batches before

    def feed(self, batch: Any) -> list[Judged]:
        """Take one batch; judge what its MARKs allow."""
        if self.unknown:
            self.learn(batch)
        mark = self.scan(batch) if COMPILED else self.walk(batch)
        self.seen += len(batch)
        if mark == self.mark:
            return []
        self.mark = mark
        self.force(mark)
        self.met += self.edits.step(mark)
        return self.judge.step(mark)

    def walk(self, batch: Any) -> int:
        """One event at a time, as Python's numbers; return the last MARK."""
        mark = self.mark
        for index, row in enumerate(batch.tolist(), self.seen):
            ts, addr, phys, size, seq, pid, point, cpu, slot, kind, ctx, flags, aux, _ = row
            if kind < w.K_LOSS:
                self.reader.event(
                    ts, addr, phys, size, seq, pid, point, cpu, slot, kind, ctx, flags, index
                )
            elif kind == w.K_LOSS:
                self.losses.add(addr, ts, cpu, size, point, aux)
            elif kind == w.K_MARK:
                mark = max(mark, ts)
        return mark

    def scan(self, batch: Any) -> int:
        """The same, compiled: straight from the batch's memory."""
        events = batch
        mark = self.mark
        for i in range(len(batch)):
            e = cython.address(events[i])
            if e.kind < w.K_LOSS:
                self.reader.event(
                    e.ts,
                    e.addr,
                    e.phys,
                    e.size,
                    e.seq,
                    e.pid,
                    e.point,
                    e.cpu,
                    e.slot,
                    e.kind,
                    e.ctx,
                    e.flags,
                    self.seen + i,
                )
            elif e.kind == w.K_LOSS:
                self.losses.add(e.addr, e.ts, e.cpu, e.size, e.point, e.aux)
            elif e.kind == w.K_MARK:
                mark = max(mark, int(e.ts))
        return mark

    def learn(self, batch: Any) -> None:
        """Slots of a vm area, and all arm64 slots, show their address only in the events."""
        self.unknown = False
        for state in self.slots:
            if state.known:
                continue
            tells = (batch["slot"] == state.number) & (batch["addr"] != 0)
            at = np.flatnonzero(tells & (batch["kind"] < w.K_LOSS))
            if len(at):
                first = at[np.argmin(batch["ts"][at])]
            else:
                first = accessed(batch, state.number)
            if first >= 0:
                state.address = int(batch["addr"][first]) >> w.PAGE_BITS << w.PAGE_BITS
                state.known = True
            else:
                self.unknown = True

    def force(self, mark: int) -> None:
        """No handler holds a slot's lock for a second: where it ended was not seen."""
        for state in self.slots:
            for hold in state.holds:
                over = hold.map_first + w.FORCE_CLOSE_NS
                if hold.closed or over >= mark:
                    continue
                cpu = self.reader.cpus[hold.cpu]
                level = cpu.levels[hold.ctx]
                at = max(over, level.last_t)
                place = level.places[hold.slot]
                if place.hold is hold:
                    self.reader.settle(cpu, level, hold.ctx, at)
                    self.reader.close(cpu, level, hold.slot, at, w.NEVER)
                else:
                    self.reader.give_up(cpu, level, hold, at)

    def finish(self) -> list[Judged]:
        """The stream is over: judge what is left."""
        for state in self.slots:
            for hold in state.holds:
                if not hold.closed:
                    self.cut(hold)
                    # Where its CPU began another copy in its own, an unmap was missed.
                    if self.reader.cpus[hold.cpu].levels[hold.ctx].places[hold.slot].hold is hold:
                        self.judge.outlasts_others(state, hold)
        for cpu in self.reader.cpus.values():
            for level in cpu.levels:
                for place in level.places:
                    self.reader.drop_stray(place)
        self.met += self.edits.step(w.NEVER)
        return self.judge.step(w.NEVER)

    def cut(self, hold: Hold) -> None:
        """The end of the stream leaves a hold open: that is no missed probe."""
        cpu = self.reader.cpus[hold.cpu]
        episode = hold.last()
        hold.closed, hold.close = True, w.NEVER
        if not (episode.unmapped or episode.left_open):
            episode.unmap_first = max(episode.map_first, episode.read_first)
            episode.clear_pos_first = episode.map_pos
            if episode.waiting_flush and episode.map_flush == w.NO:
                episode.map_flush = w.MAYBE
            if not episode.read_seen or episode.read_last == w.NEVER:
                self.reader.luck_until(cpu, episode, w.NEVER)


def accessed(batch: Any, slot: int) -> int:
    """The index of an access of the page that *slot* alone has mapped on its CPU, in its context;
    -1 if there is none among the first of the batch. The reader learns from an access, too; but it
    has then read what was flushed before, which may have been that page."""
    kind, mapped = batch["kind"], dict[tuple[int, int], int]()
    for at in np.flatnonzero(np.isin(kind, LEARNT_FROM))[:MOST_LEARNT].tolist():
        what, number = int(kind[at]), int(batch["slot"][at])
        here = int(batch["cpu"][at]), int(batch["ctx"][at])
        if what == w.K_MAP:
            mapped[here] = number if here not in mapped else -1
        elif what == w.K_UNMAP:
            mapped.pop(here, None)
        elif mapped.get(here) == slot and number < 0:
            return int(at)
    return -1
