# SPDX-License-Identifier: Apache-2.0
"""What the core remembers: a state per CPU, per slot, per CPU and slot.

Times are ns of the capture's clock, positions count the events of one CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ghesrace import uncompiled as cython
from ghesrace.checker.core.holds import Episode, Hold, Shot, Span, Tell
from ghesrace.checker.core.words import LEVELS, NEVER, NOWHERE

if not TYPE_CHECKING and cython.compiled:
    import cython  # which Cython reads, and Python never does


class Level:
    """One context of one CPU: the run that it is in, and its copy."""

    def __init__(self, ctx: int, slots: int) -> None:
        self.ctx = ctx
        self.calls = 0  # handlers that run, and when and where the first was entered
        self.call_t = 0
        self.call_point = -1
        self.writing: Span | None = None  # the GHES function that writes a PTE
        self.active = False
        self.pid = 0
        self.edge_seq = 0  # where a handler was entered or left, or the context was entered
        self.edge_t = 0
        self.edge_pos = 0
        self.since_pos = NOWHERE  # what runs here surely began behind this
        self.edge_index = -1
        self.edge_row: object = None  # set aside, when its batch is over
        self.opening_row: object = None
        self.opening = -1  # the last event since a handler or copy began, if no unmap followed
        self.in_handler = False
        self.copy_depth = 0
        self.copy_seq = 0
        self.copy_t = 0
        self.copy_pos = NOWHERE
        self.copy_writes = False
        self.last_t = 0
        self.last_pos = NOWHERE
        self.last_kind = 0
        # The effect that the next event bounds.
        self.pending = 0
        self.pending_episode: Episode | None = None
        self.pending_other: Episode | None = None
        # A broadcast that has not ended.
        self.telling = False
        self.tells: list[Tell] = []
        self.mapped = False  # whether an episode may be mapped here
        self.places = [Place(slot) for slot in range(slots)]
        self.used: list[Place] = []  # those that anything was noted in, by their slots

    def use(self, slot: int) -> Place:
        """A slot's place, in which something will be noted."""
        place = self.places[slot]
        if not place.used:
            place.used = True
            self.used = [one for one in self.places if one.used]
        return place


class Place:
    """One context of one CPU, and a slot: what runs there, and what has not taken effect yet.

    `outer` is of a copy in which another one began: two contexts that the record does not tell
    apart, or a missed end. `pre_*` are of a flush of exactly this page, which may be meant for the
    next map.
    """

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.used = False
        self.episode: Episode | None = None
        self.hold: Hold | None = None
        self.outer: Episode | None = None
        self.inner: Episode | None = None  # the last that was closed
        self.shot: Shot | None = None
        self.pre_first = NEVER
        self.pre_last = NEVER
        self.pre_pos = NOWHERE
        self.stray_pos = NOWHERE  # of the first access since the copy began, without a map
        self.stray_t = NEVER
        self.stray_seq = NEVER
        self.pre_in_map = False
        self.pre_since = 0
        self.pre_luck_first = NOWHERE
        self.pre_luck_pos = NOWHERE
        # An own invalidation, and a broadcast, that are not over.
        self.inv_first = NEVER
        self.inv_pos = NOWHERE
        self.inv_structural = False
        self.tell_first = NEVER
        self.tell_pos = NOWHERE
        self.tell_structural = False


class Cpu:
    """One CPU's stream."""

    def __init__(self, number: int, slots: int) -> None:
        self.number = number
        self.pos = 0
        self.last_t = 0
        self.top = -1
        self.levels = [Level(ctx, slots) for ctx in range(LEVELS)]
        self.cells = [Cell(number, slot) for slot in range(slots)]
        self.last_task = NOWHERE
        self.tasks: list[int] = []  # when its tasks went on, as far as a loss may still be told


@cython.no_gc
@cython.cclass
class Newest:
    """Episodes whose translations a CPU may still hold, the newest first.

    Two of distinct frames are all that can matter. Where pairs of CPUs have clock bounds of their
    own, two of each CPU: of two CPUs' threats the clocks may order the newer one surely, and not
    the older one.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first: Episode | None = None
        self.second: Episode | None = None
        self.others: list[Episode] = []  # behind these two

    def at(self, index: int) -> Episode:
        """The *index*th, of `count`."""
        found = self.first if index == 0 else self.second if index == 1 else self.others[index - 2]
        assert found is not None
        return found

    def all(self) -> list[Episode]:
        """All of them."""
        return [self.at(i) for i in range(self.count)]

    def fill(self, episodes: list[Episode]) -> None:
        """Take these instead."""
        self.count = len(episodes)
        self.first = episodes[0] if self.count > 0 else None
        self.second = episodes[1] if self.count > 1 else None
        self.others = episodes[2:]

    def add(self, one: Episode, pairs: bool) -> None:
        """Take one that is newer than all; *pairs*: pairs of CPUs have bounds of their own."""
        newest = self.first
        if newest is None:
            self.first, self.count = one, 1
        elif pairs:
            mine, theirs = [one], []
            for old in self.all():
                if old.hold.cpu != one.hold.cpu:
                    theirs.append(old)
                elif old.frame != one.frame and len(mine) == 1:
                    mine.append(old)
            self.fill(mine + theirs)
        else:
            self.first = one
            if newest.frame != one.frame:
                self.second, self.count = newest, 2

    def drop(self, index: int) -> None:
        """Forget the *index*th."""
        if index == 0:
            self.first = self.second
        if index > 1:
            del self.others[index - 2]
        elif self.others:
            self.second = self.others.pop(0)
        else:
            self.second = None
        self.count -= 1

    def clear(self) -> None:
        """Forget all."""
        self.first = self.second = None
        self.count = 0
        if self.others:
            self.others = []


@cython.no_gc
@cython.freelist(64)
@cython.cclass
class Since:
    """The hold in which a CPU last invalidated the slot by structure."""

    def __init__(self) -> None:
        self.known = False
        self.hold: Hold | None = None
        self.begin_last = NOWHERE
        self.end_first = NOWHERE
        self.end_pos = NOWHERE
        self.at = NOWHERE  # the invalidation's own earliest time


class Cell:
    """One CPU and slot: its own invalidations in program order, and what it may hold.

    `surely` and `maybe` are the last structural invalidation, and the last that may be one. What
    may be a threat since `surely`, and what surely is one since `maybe`, is kept in `*_maybe` and
    `*_surely`.
    """

    def __init__(self, cpu: int, slot: int) -> None:
        self.cpu = cpu
        self.slot = slot
        self.inv_first = NOWHERE  # of those that are over: the newest begin, the latest end
        self.inv_pos = NOWHERE
        self.inv_last = NOWHERE
        self.inv_pos_last = NOWHERE
        self.opened = 0  # how many are open that are no part of a map or an unmap
        self.first_seen = NEVER  # when this CPU mapped or unmapped the slot first
        self.mapped = False  # whether this CPU ever mapped the slot
        self.surely = Since()
        self.maybe = Since()
        self.start_open = True
        self.own_maybe = Newest()
        self.own_surely = Newest()
        self.other_maybe = Newest()
        self.other_surely = Newest()
        self.any_own = False  # whether it, or others, mapped anything since `surely`
        self.any_other = NOWHERE  # until when (own clock) others may have mapped since `surely`
        self.last_pos = NOWHERE  # where the effects of its last judged hold ended
        self.last_begin = NOWHERE
        self.last_ctx = NOWHERE  # the context of that
        # Of its holds that were handed out: the newest begin of one, and of one that may have
        # told all; the latest end of one, and the latest of the earliest ends.
        self.begun = NOWHERE
        self.told_begin = NOWHERE
        self.ended = NOWHERE
        self.began = NOWHERE


class SlotState:
    """One slot: its holds in the order of their first map, and what broadcasts did."""

    def __init__(self, number: int, lock_page: bool, address: int | None) -> None:
        self.number = number
        self.lock_page = lock_page
        self.known = address is not None
        self.address = address or 0
        self.cells: list[Cell] = []  # of every CPU that was seen
        self.holds: list[Hold] = []  # not judged yet
        self.window: list[Hold] = []  # judged; may yet lie after a hold that is not
        self.tells: list[Tell] = []
        self.shots: list[Shot] = []
        self.untold = Cell(-1, number)  # a CPU that has not mapped the slot yet
        self.no_lock = False  # whether holds overlapped, so that no lock is assumed from there on
        self.told_begin = NOWHERE  # the newest of all cells
        self.last_cpu = -1  # of the last hold in order
        self.last_unmap = NEVER  # ... and when it unmapped the slot last
        # Of broadcasts that are over for everybody: each sender's newest begin and end.
        self.old_first: dict[int, int] = {}
        self.old_last: dict[int, int] = {}
        self.told_end = NOWHERE
