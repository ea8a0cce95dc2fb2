# SPDX-License-Identifier: Apache-2.0
"""What took place: episodes and the lock holds that they are in, invalidations that may concern
others, and what is missing.

Times are ns of the capture's clock, positions count the events of one CPU. An effect has two
bounds: `*_first` is the earliest, `*_last` the latest (NEVER while nothing bounds it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ghesrace import uncompiled as cython
from ghesrace.checker.core.words import FORCE_CLOSE_NS, NEVER, NO, NOWHERE

if not TYPE_CHECKING and cython.compiled:
    import cython  # which Cython reads, and Python never does


@cython.no_gc
@cython.freelist(4096)
@cython.cclass
class Episode:
    """One map...unmap of one slot by one CPU in one context.

    `judged` is false for what stands for an episode that was not seen itself: a recorded unmap
    whose map is hidden. `flush_first` is the unmap's own flush, `told_*` its broadcast.
    """

    def __init__(self, hold: Hold, frame: int, pid: int) -> None:
        self.fill(hold, frame, pid)

    @staticmethod
    def of(hold: Hold, frame: int, pid: int) -> Episode:
        """An episode that begins."""
        made = Episode.__new__(Episode)
        made.fill(hold, frame, pid)
        return made

    def fill(self, hold: Hold, frame: int, pid: int) -> None:
        self.hold = hold
        self.frame = frame
        self.pid = pid
        self.judged = True
        self.writes = False
        self.seq_entry = 0  # of the notification (or copy) that it is part of
        self.seq_map = 0
        self.point = 0
        self.map_first = 0
        self.map_last = NEVER
        self.map_pos = 0
        self.read_seen = False
        self.read_first = 0
        self.read_last = NEVER
        self.read_seq = 0
        self.last_first = 0  # stamp and place of the last event while it was mapped
        self.last_pos = 0
        self.outer: Episode | None = None  # in whose copy this one's is, in the same context
        self.unmapped = False
        self.replaced = False  # the slot's next map ended it
        self.unmap_lost = False  # ... and a loss may have hidden its unmap
        self.unordered = False  # it may have overlapped another CPU's use
        self.unmap_first = NEVER
        self.clear_last = NEVER
        self.clear_pos_first = NEVER
        self.clear_pos_last = NEVER
        self.left_open = False  # its copy or handler ended without an unmap: a missed probe
        self.map_flush = NO
        self.map_flush_first = NEVER
        self.waiting_flush = False  # flushed after the map; whether before the access is open
        self.pre_first = NEVER  # a flush just before the map
        self.pre_last = NEVER
        self.pre_pos = 0
        self.pre_in_map = False  # it came behind an access without an unmap
        self.pre_since = 0  # ... of a map of this time
        self.at_start = False  # its map lies before the start
        # The flush that the unmap before this map has: it is this one's if that one's was lost.
        self.before: Episode | None = None
        self.pre_known = False  # whether the begin of its hold was seen before that
        self.unmap_over = NEVER  # the unmapping function's return
        self.unmap_flush = NO
        self.flush_first = NEVER
        self.flush_last = NEVER
        self.broadcast = NO
        self.tell_seen = False  # a broadcast while it was mapped
        self.told_first = NEVER
        self.told_last = NEVER
        # Own invalidations, luck included: begin of the newest that was surely over before the
        # map and before the access, and the latest end of one that may precede the access.
        self.luck_map_first = NOWHERE
        self.luck_map_pos = NOWHERE
        self.luck_first = NOWHERE
        self.luck_pos = NOWHERE
        self.luck_last = NOWHERE
        self.luck_pos_last = NOWHERE
        # Where its events are in the stream: of the entry, the last before the map, the map, and
        # the one that shows that it is over. `rows` are those that were set aside.
        self.index_entry = -1
        self.index_before = -1
        self.index_map = 0
        self.index_last = NEVER
        self.rows: list[object] | None = None
        self.entry_row: object = None
        self.before_row: object = None
        self.kept_until = -1


@cython.no_gc
@cython.freelist(4096)
@cython.cclass
class Hold:
    """The episodes of one CPU under one hold of the slot's lock.

    `begin_last` is the latest time at which it may have begun to have effects, `end_first` the
    earliest at which all of them may be over.
    """

    def __init__(self, cpu: int, ctx: int, slot: int) -> None:
        self.fill(cpu, ctx, slot)

    @staticmethod
    def of(cpu: int, ctx: int, slot: int) -> Hold:
        """A hold that begins."""
        made = Hold.__new__(Hold)
        made.fill(cpu, ctx, slot)
        return made

    def fill(self, cpu: int, ctx: int, slot: int) -> None:
        self.cpu = cpu
        self.ctx = ctx
        self.slot = slot
        # Its episodes by their maps: mostly one alone, for which no list is made.
        self.count = 0
        self.first: Episode | None = None
        self.others: list[Episode] | None = None
        self.seq_entry = 0
        self.since_pos = NOWHERE  # it began no earlier: its context had not, or ran another handler
        self.entry_pos = NOWHERE  # where the lock was not taken yet, if that was seen
        self.in_handler = False  # whether its handler's entry was seen
        self.copied = False  # whether its copy's entry was seen
        self.bounded = False  # whether the record shows where such holds end
        self.entry = 0  # the handler's or the copy's entry: the lock is taken after it
        self.map_first = 0
        self.begin_last = NEVER
        self.end_first = 0
        self.close = NEVER
        self.pos_first = 0
        self.end_pos = 0  # of the last effect's event
        self.closed = False
        self.done = False  # judged
        self.prepared = False
        self.open_end = False  # whether a loss may have hidden the flush with which it ends
        self.inconsistent = False  # it overlaps others, which may last until `beside_last`
        self.beside_last = NOWHERE
        self.touched = False  # a loss may have hidden what says otherwise of it
        self.told = NO  # whether its last unmap was told to all
        self.told_index = -1  # of the last episode that a broadcast surely covers
        self.told_index_maybe = -1
        self.told_known = False
        self.all_told = False

    def add(self, episode: Episode) -> None:
        """Take the next episode."""
        self.count += 1
        if self.first is None:
            self.first = episode
        elif self.others is None:
            self.others = [episode]
        else:
            self.others.append(episode)

    def at(self, index: int) -> Episode:
        """The *index*th episode, of `count`."""
        found = self.first if index == 0 or self.others is None else self.others[index - 1]
        assert found is not None
        return found

    def last(self) -> Episode:
        """The last episode so far."""
        return self.at(self.count - 1)

    def all(self) -> list[Episode]:
        """All episodes."""
        return [self.at(i) for i in range(self.count)]

    def forget(self) -> None:
        """Let its episodes go: they know their hold, and no cycle is left."""
        self.count = 0
        self.first = self.others = None


@cython.no_gc
@cython.freelist(4096)
@cython.cclass
class Span:
    """What lasts from one event to another: a GHES write, an edit, or a handler's run.

    `last` is the time (ns) by which it is over, `ended` whether its own end was seen.
    """

    @staticmethod
    def of(what: int, kind: int, cpu: int, ctx: int, t: int, pos: int) -> Span:
        """A span that begins."""
        made = Span.__new__(Span)
        made.fill(what, kind, cpu, ctx, t, pos)
        return made

    def fill(self, what: int, kind: int, cpu: int, ctx: int, t: int, pos: int) -> None:
        self.what = what
        self.kind = kind
        self.cpu = cpu
        self.ctx = ctx
        self.t = t
        self.pos = pos
        self.slot = -1
        self.point = 0
        self.pid = 0
        self.addr = 0
        self.size = 0
        self.phys = 0
        self.last = NEVER
        self.ended = False
        self.inside: list[Span] | None = None  # writes that interrupted it


@cython.no_gc
@cython.freelist(64)
@cython.cclass
class Tell:
    """One broadcast of a page of a slot: of no use to others before `last`."""

    def __init__(self, sender: int, first: int) -> None:
        self.sender = sender
        self.first = first
        self.last = NEVER
        self.known = True  # whether it surely covers the slot
        self.episode: Episode | None = None  # whose unmap or map it belongs to
        self.role = NO  # 1: of the map, 2: of the unmap
        self.given_up = False  # its end was missed


@cython.no_gc
@cython.freelist(64)
@cython.cclass
class Shot:
    """One own invalidation of exactly the slot's page, outside of an episode."""

    def __init__(self, cpu: int, first: int) -> None:
        self.cpu = cpu
        self.first = first
        self.last = NEVER
        self.perhaps_own = False  # whether it may be the flush of a map that was not seen


class Loss:
    """Up to `count` (0: any number of) events of these kinds, hidden on `cpu` (-1: any) between
    `begin` and `end` (ns). From `idle` on a task can have run in it; by `late` an invalidation that
    it hid is over: what was interrupted may take effect after the interruption."""

    def __init__(self, cpu: int, begin: int, end: int, kinds: int, count: int) -> None:
        self.cpu = cpu
        self.begin = begin
        self.end = end
        self.idle = begin
        self.late = end + FORCE_CLOSE_NS
        self.reach = end  # until when this lasts, or one before it in its list
        self.reach_late = self.late  # ... and what these hid
        self.kinds = kinds
        self.count = count
        self.spent = 0  # on maps and unmaps that are missing and that no other can have hidden
        self.concluded = False  # whether all is known that may be missing because of it
        self.whole = False  # whether it hid one handler with all that this did, and nothing else


@cython.no_gc
@cython.freelist(64)
@cython.cclass
class Gap:
    """An event of these kinds that the kernel's code must have made on *cpu* between two stamps,
    and that was not recorded: the unmap of a map, the map of an unmap, or the flush inside of
    either function, of that `episode`."""

    def __init__(self, kinds: int, cpu: int, begin: int, end: int) -> None:
        self.kinds = kinds
        self.cpu = cpu
        self.begin = begin
        self.end = end
        self.episode: Episode | None = None
        self.of_map = False  # whether it is the map's flush, and not the unmap's
        self.by: Loss | None = None  # the one loss that hid it, if that told how many it hid
