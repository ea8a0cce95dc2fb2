# SPDX-License-Identifier: Apache-2.0
"""May hold, threats, classes: was each episode safe, and what saved it (DESIGN, "The rules").

A TLB fill can't be traced, so this is a may-analysis: CPU y may hold V->p if that translation
was live at any instant after y's last invalidation covering V. (Mark Rutland, linux-arm-kernel
2023, "[QUESTION FOR ARM64 TLB]": a CPU may allocate TLB entries at any time for any reason.)

The lock puts the episodes of a slot in a row, so threats are index ranges of that row: those
from y's last own structural invalidation, and from the last broadcast, to the episode. Of such
a range only two episodes can matter: the last one, and the last one with a frame other than
the last one's. These, and each CPU's last structural invalidation, are the whole state.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ghesrace.checker.losses import INVALIDATIONS, MAP_KINDS, Windows, hides, touched
from ghesrace.checker.model import EPISODE, SAFE, Chunk, Class, Judged, Mark, Table, Why
from ghesrace.events import ALL_CPUS, NEVER, Bools, Events, Ints, joined, pick, present
from ghesrace.plan import Plan


@dataclass(slots=True)
class Judge:
    """Judges chunks in order; the carried rows are all that it remembers."""

    plan: Plan
    _carried: dict[int, Table] = field(default_factory=dict)
    _loss_end: dict[str, int] = field(default_factory=lambda: {"map": -1, "inv": -1})

    def step(self, chunk: Chunk) -> list[Judged]:
        """Judge a chunk's episodes, slot by slot."""
        hidden = {
            what: hides(self.plan, chunk.losses, kinds)
            for what, kinds in (("map", MAP_KINDS), ("inv", INVALIDATIONS))
        }
        windows = {
            what: Windows.of(
                chunk.losses, hidden[what], self.plan.clock_error_ns, self._loss_end[what]
            )
            for what in hidden
        }
        judged = []
        for slot in present(chunk.episodes["slot"]):
            judged.append(self._slot(int(slot), chunk, windows))
        for what, mask in hidden.items():
            ends = chunk.losses["end"][mask].astype(np.int64)
            self._loss_end[what] = max(self._loss_end[what], int(ends.max(initial=-1)))
        return judged

    def witnesses(self) -> Table:
        """The episodes that may yet threaten: a witness may need their events later."""
        tails = [rows[_Order(rows, rows[:0], 0).threatening()] for rows in self._carried.values()]
        return joined([np.zeros(0, EPISODE), *tails])

    def _slot(self, slot: int, chunk: Chunk, windows: dict[str, Windows]) -> Judged:
        new = pick(chunk.episodes, chunk.episodes["slot"] == slot)
        old = self._carried.get(slot, np.zeros(0, EPISODE))
        rows = joined([old, new])
        luck = pick(chunk.luck, chunk.luck["slot"] == slot)
        order = _Order(rows, luck, self.plan.clock_error_ns)
        cls, why = order.classes(windows)
        _uncertain_order(rows, luck, cls, why, windows, self.plan.clock_error_ns)
        if self.plan.pti:
            why[cls == Class.NONE] = Why.PTI
            cls[cls == Class.NONE] = Class.UNCERTAIN
        if self.plan.forced_broadcast:
            # Here the local invalidation of the threat's unmap reached this CPU too.
            told = rows["marks"][np.maximum(order.threat, 0)] & Mark.UNMAP_FLUSH != 0
            cls[(cls == Class.NONE) & told] = Class.INCIDENTAL
        touched = _touched(self.plan, chunk.losses, rows)
        self._carried[slot] = order.remembered()
        handoff = np.zeros(len(rows), np.bool_)
        handoff[1:] = rows["cpu"][1:] != rows["cpu"][:-1]
        n = len(old)
        return Judged(
            slot,
            new,
            cls[n:],
            why[n:],
            order.latent()[n:],
            handoff[n:],
            order.threat[n:],
            rows,
            order.vulnerable()[n:],
            order.exposes()[n:],
            touched[n:],
        )


class _Order:
    """The rows of a slot in one order of their lock holds."""

    def __init__(self, rows: Table, luck: Table, error: int) -> None:
        self.rows, self.luck, self.error = rows, luck, error
        n = len(rows)
        at = np.arange(n)
        # The clear is over before the slot's next map on any CPU: the lock is held.
        next_map = np.append(rows["t_map"][1:], NEVER)
        self.t_clear = np.minimum(rows["t_clear"], next_map)
        self.t_unmap = np.minimum(rows["t_unmap"], next_map)
        self.pre_sure, self.pre_maybe = self._pre_flushes()
        marks = rows["marks"]
        self.flushes = (marks & Mark.MAP_FLUSH != 0) | self.pre_sure
        # The first row that an invalidation of each row's own does not cover.
        since = np.where(marks & Mark.UNMAP_FLUSH != 0, at + 1, np.where(self.flushes, at, -1))
        self.own = np.full(n, -1, np.int64)  # y's last row with an own invalidation, before i
        self.since = np.full(n, -1, np.int64)
        for cpu in present(rows["cpu"]):
            mine = np.flatnonzero(rows["cpu"] == cpu)
            self.since[mine[1:]] = np.maximum.accumulate(since[mine])[:-1]
            row = np.maximum.accumulate(np.where(since[mine] >= 0, mine, -1))
            self.own[mine[1:]] = row[:-1]
        # One more than the last row before i whose unmap told all CPUs.
        told = np.where(marks & Mark.BROADCAST != 0, at, -1)
        self.told = np.append(-1, np.maximum.accumulate(told)[:-1])[:n] + 1
        first = np.maximum(np.maximum(self.since, 0), self.told)
        # The last row with another frame than this row's, at or after `first`.
        frame = rows["frame"]
        changed = np.ones(n, np.bool_)
        changed[1:] = frame[1:] != frame[:-1]
        run_start = np.maximum.accumulate(np.where(changed, at, 0)) if n else at
        self.before_run = run_start - 1
        last = np.where(changed, at - 1, self.before_run)
        self.threat = np.where(last >= first, last, -1)
        self.any_threat = np.maximum(self.since, 0) < at
        self.unprotected = first < at

    def _pre_flushes(self) -> tuple[Bools, Bools]:
        """Flushes just before the map that surely, or maybe, follow the previous clear."""
        rows = self.rows
        has = rows["marks"] & Mark.PRE_FLUSH != 0
        same = np.append(True, rows["cpu"][1:] == rows["cpu"][:-1])[: len(rows)]
        # Not t_clear of this class: this very map, which bounds it, follows the flush.
        clear = np.append(-1, rows["t_clear"][:-1])[: len(rows)]
        unmap = np.append(-1, self.t_unmap[:-1])[: len(rows)]
        sure = np.where(same, rows["t_pre"] >= clear, rows["t_pre"] - self.error > clear)
        maybe = np.where(same, rows["t_pre"] >= unmap, rows["t_pre"] + self.error > unmap)
        return has & sure, has & maybe

    def _early_flushes(self) -> tuple[Bools, Bools]:
        """Flushes before the map that another hold came after: luck, which surely, or maybe,
        follows the threat's clear all the same."""
        rows, j = self.rows, np.maximum(self.threat, 0)
        has = (rows["marks"] & Mark.PRE_FLUSH != 0) & ~self.pre_sure & (self.threat >= 0)
        slack = np.where(rows["cpu"][j] == rows["cpu"], 0, self.error)
        sure = rows["t_pre"] - slack > self.t_clear[j]
        return has & sure, has & (rows["t_pre"] + slack > self.t_unmap[j])

    def classes(self, windows: dict[str, Windows]) -> tuple[Ints, Ints]:
        """Class and reason of uncertainty of every row, in this order."""
        rows, n = self.rows, len(self.rows)
        start = (self.since < 0) & (self.told == 0)
        threatened = self.threat >= 0
        sure, maybe = self._lucky(
            rows["seq_read"], rows["t_read"], rows["seq_read_end"], rows["t_read_end"]
        )
        early_sure, early_maybe = self._early_flushes()
        sure |= early_sure
        maybe |= early_maybe | self.pre_maybe & ~self.flushes
        cls = np.full(n, int(Class.NONE), np.int64)
        why = np.zeros(n, np.int64)
        cls[sure] = Class.INCIDENTAL
        undecided = threatened & maybe & ~sure
        cls[~threatened] = Class.SAME_FRAME
        cls[self.flushes] = Class.MAP_FLUSH
        cls[~self.unprotected] = Class.BROADCAST
        cls[~self.any_threat] = Class.FRESH
        at_start = start & ~threatened
        cls[at_start] = np.where(self.flushes[at_start], Class.MAP_FLUSH, Class.UNCERTAIN)
        why[at_start & ~self.flushes] = Why.START
        undecided &= (cls == Class.NONE) | (cls == Class.INCIDENTAL)
        cls[undecided], why[undecided] = Class.UNCERTAIN, Why.ORDER
        # What a loss may have hidden: a map makes safe uncertain, an invalidation unsafe.
        own = np.maximum(self.own, 0)
        flushed = rows["marks"][own] & Mark.UNMAP_FLUSH != 0
        t_own = np.where(flushed, rows["t_unmap"][own], rows["t_map"][own])
        t_own = np.where(self.own >= 0, t_own, 0)
        t_told = np.where(self.told > 0, self.t_unmap[np.maximum(self.told - 1, 0)], 0)
        t_own = np.maximum(t_own, t_told)
        t_read = np.where(rows["t_read_end"] == NEVER, rows["t_read"], rows["t_read_end"])
        hidden = windows["map"].touch(t_own, t_read) & ~self.flushes & np.isin(cls, SAFE)
        t_threat = self.t_unmap[np.maximum(self.threat, 0)]
        unsafe = (cls == Class.NONE) | (cls == Class.INCIDENTAL)
        hidden |= windows["inv"].touch(t_threat, t_read) & unsafe
        cls[hidden], why[hidden] = Class.UNCERTAIN, Why.LOSS
        return cls, why

    def _lucky(self, seq: Ints, t: Ints, seq_end: Ints, t_end: Ints) -> tuple[Bools, Bools]:
        """Rows whose CPU invalidated the slot by luck between their threat's clear and an
        access at the position [seq, seq_end] (time [t, t_end]): surely, and perhaps."""
        rows, n = self.rows, len(self.rows)
        sure, maybe = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        j = np.maximum(self.threat, 0)
        if not n or not len(self.luck):
            return sure, maybe
        same = rows["cpu"][j] == rows["cpu"]
        clear, unmap = self.t_clear[j], self.t_unmap[j]
        told = self.luck[self.luck["cpu"] == ALL_CPUS]
        told = told[np.argsort(told["t"], kind="stable")]
        t_end = np.minimum(t_end, NEVER - self.error) + self.error
        for cpu in present(rows["cpu"]):
            mine = np.flatnonzero((rows["cpu"] == cpu) & (self.threat >= 0))
            luck = self.luck[self.luck["cpu"] == cpu]
            done = luck[np.argsort(luck["seq_end"], kind="stable")]
            k = np.searchsorted(done["seq_end"], seq[mine], side="right")
            newest = np.append(-1, np.maximum.accumulate(done["seq"]))[k]
            newest_t = np.append(-1, np.maximum.accumulate(done["t"]))[k]
            sure[mine] = np.where(
                same[mine],
                newest >= rows["seq_clear"][j][mine],
                newest_t - self.error > clear[mine],
            )
            # Its own broadcasts are ordered by position too, others' by the clock only.
            begun = self.luck[self.luck["sender"] == cpu]
            begun = begun[np.argsort(begun["seq"], kind="stable")]
            k = np.searchsorted(begun["seq"], seq_end[mine], side="left")
            latest = np.append(-1, np.maximum.accumulate(begun["t_end"]))[k]
            others = told[told["sender"] != cpu]
            k = np.searchsorted(others["t"], t_end[mine], side="right")
            latest = np.maximum(latest, np.append(-1, np.maximum.accumulate(others["t_end"]))[k])
            maybe[mine] = np.minimum(latest, NEVER - self.error) + self.error > unmap[mine]
        told = told[np.argsort(told["t_end"], kind="stable")]
        k = np.searchsorted(told["t_end"], t - self.error, side="left")
        newest_t = np.append(-1, np.maximum.accumulate(told["t"]))[k]
        sure |= (newest_t - self.error > clear) & (self.threat >= 0)
        return sure, maybe

    def latent(self) -> Bools:
        """Rows whose CPU may hold another frame's translation when they begin."""
        rows = self.rows
        sure, _ = self._lucky(rows["seq_map"], rows["t_map"], rows["seq_map"], rows["t_map"])
        return np.asarray((self.threat >= 0) & ~sure)

    def _hold(self) -> Ints:
        """Number of each row's lock hold; the rows of a hold stand together."""
        rows = self.rows
        new = np.ones(len(rows), np.bool_)
        new[1:] = False
        for name in ("cpu", "ctx", "seq_hold"):
            new[1:] |= rows[name][1:] != rows[name][:-1]
        return np.cumsum(new)

    def vulnerable(self) -> Bools:
        """Rows that nothing of their own lock hold would protect from a hold before it."""
        rows, hold, n = self.rows, self._hold(), len(self.rows)
        own_in_hold = (self.own >= 0) & (hold[np.maximum(self.own, 0)] == hold)
        told = np.maximum(self.told - 1, 0)
        told_in_hold = (self.told > 0) & (hold[told] == hold)
        lucky = np.zeros(n, np.bool_)
        # Luck after the stamp of a traced access may come too late: the access stays reachable.
        seen = rows["marks"] & Mark.ACCESS_SEEN != 0
        access = np.where(seen, rows["seq_read"], rows["seq_read_end"])
        for cpu in present(rows["cpu"]):
            mine = np.flatnonzero(rows["cpu"] == cpu)
            # Its own, broadcasts too; another CPU's broadcast may come at any other time.
            seqs = np.sort(self.luck["seq"][self.luck["sender"] == cpu])
            first = np.searchsorted(seqs, rows["seq_hold"][mine], side="left")
            lucky[mine] = np.searchsorted(seqs, access[mine], side="left") > first
        protected = self.flushes | self.pre_maybe | own_in_hold | told_in_hold | lucky
        return np.asarray(~protected)

    def exposes(self) -> Bools:
        """Rows that no broadcast of their own lock hold covers."""
        told = self.rows["marks"] & Mark.BROADCAST != 0
        hold = self._hold()
        last_told = np.zeros(len(self.rows) + 1, np.int64)
        np.maximum.at(last_told, hold[told], np.flatnonzero(told) + 1)
        return np.asarray(last_told[hold] <= np.arange(len(self.rows)))

    def threatening(self) -> Ints:
        """The last row and the last one with another frame than its: no others matter."""
        n = len(self.rows)
        return np.unique([i for i in (n - 1, *self.before_run[-1:]) if i >= 0]).astype(np.int64)

    def remembered(self) -> Table:
        """Rows that can still threaten or cover a later episode, in order.

        What their neighbours in the full row proved is written into them.
        """
        told = np.flatnonzero(self.rows["marks"] & Mark.BROADCAST != 0)
        covers = (self.rows["marks"] & Mark.UNMAP_FLUSH != 0) | self.flushes
        keep = [self.threatening(), told[-1:]]
        for cpu in present(self.rows["cpu"]):
            keep.append(np.flatnonzero(covers & (self.rows["cpu"] == cpu))[-1:])
        at = np.unique(np.concatenate(keep))
        rows = self.rows[at]
        rows["t_clear"], rows["t_unmap"] = self.t_clear[at], self.t_unmap[at]
        flushed = np.where(self.flushes[at], int(Mark.MAP_FLUSH), 0)
        rows["marks"] = rows["marks"] & ~np.uint8(Mark.PRE_FLUSH) | flushed
        return np.asarray(rows)


def _uncertain_order(
    rows: Table, luck: Table, cls: Ints, why: Ints, windows: dict[str, Windows], error: int
) -> None:
    """Judge both orders of neighbours that the clocks can't order; where they differ: uncertain.

    Under the lock whole episodes follow each other, so the order of two is certain as soon as
    the end of the second is later than the begin of the first by more than the clock error.
    """
    n = len(rows)
    end = np.where(rows["t_unmap"] == NEVER, rows["t_map"], rows["t_unmap"])
    doubtful = np.zeros(n, np.bool_)  # this row might precede the one before it
    doubtful[1:] = (rows["cpu"][1:] != rows["cpu"][:-1]) & (end[1:] <= rows["t_map"][:-1] + error)
    if not doubtful.any():
        return
    group = np.cumsum(~doubtful)
    swapped = np.lexsort((-np.arange(n), group))
    other_cls = np.empty(n, np.int64)
    other_cls[swapped] = _Order(rows[swapped], luck, error).classes(windows)[0]
    both_safe = np.isin(cls, SAFE) & np.isin(other_cls, SAFE)
    differ = (cls != other_cls) & ~both_safe & (cls != Class.UNCERTAIN)
    # More than two in doubt: more orders than these two. Only what is safe in any stays so.
    crowd = (np.bincount(group)[group] > 2) & (cls != Class.MAP_FLUSH) & (cls != Class.BROADCAST)
    differ |= crowd & (cls != Class.UNCERTAIN)
    cls[differ], why[differ] = Class.UNCERTAIN, Why.ORDER


def _touched(plan: Plan, losses: Events, rows: Table) -> Bools:
    """Episodes that a loss on their own CPU, or on one unknown, may have changed."""
    either = losses[hides(plan, losses, (*MAP_KINDS, *INVALIDATIONS))]
    close = np.where(rows["t_close"] == NEVER, rows["t_map"], rows["t_close"])
    return touched(plan, either, rows["cpu"], rows["t_hold"], close)
