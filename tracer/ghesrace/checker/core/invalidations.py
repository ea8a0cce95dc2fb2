# SPDX-License-Identifier: Apache-2.0
"""Own invalidations and broadcasts: whose they are, and when they are over."""

from __future__ import annotations

from ghesrace.checker.core import words as w
from ghesrace.checker.core.edits import Edits
from ghesrace.checker.core.facts import Facts
from ghesrace.checker.core.holds import Episode, Shot, Tell
from ghesrace.checker.core.ranges import meets
from ghesrace.checker.core.state import Cell, Cpu, Level, Place, SlotState


class Invalidations:
    """The reader's part that knows which invalidation belongs to what, and settles effects."""

    def __init__(self, facts: Facts, slots: list[SlotState], edits: Edits) -> None:
        self.facts = facts
        self.slots = slots
        self.edits = edits

    def covers(self, state: SlotState, addr: int, size: int, slot: int, kind: int) -> bool:
        """Whether an invalidation covers the slot's page."""
        if kind in (w.K_INV_ALL, w.K_BCAST_ALL):
            return True
        if kind == w.K_INV_PAGE and slot == state.number:
            return True
        if not state.known:
            return False
        if kind == w.K_INV_PAGE:
            return addr >> w.PAGE_BITS << w.PAGE_BITS == state.address
        return meets(addr, size, state.address, w.PAGE)

    def exact(self, state: SlotState, addr: int, size: int, kind: int) -> bool:
        """Whether it is of the slot's page alone."""
        if kind == w.K_INV_PAGE:
            return True
        page = addr >> w.PAGE_BITS << w.PAGE_BITS
        ranged = kind in (w.K_INV_RANGE, w.K_BCAST_RANGE)
        return ranged and state.known and page == state.address and size + (addr - page) <= w.PAGE

    def invalidate(
        self,
        cpu: Cpu,
        level: Level,
        ctx: int,
        ts: int,
        addr: int,
        size: int,
        slot: int,
        kind: int,
    ) -> None:
        """This CPU is about to invalidate in its own TLB."""
        for state in self.slots:
            if not self.covers(state, addr, size, slot, kind):
                continue
            number = state.number
            cell, place = cpu.cells[number], level.use(number)
            exact = self.exact(state, addr, size, kind)
            structural = self.claim(cpu, level, state, ts, exact)
            if exact and not structural and kind == w.K_INV_PAGE:
                place.shot = Shot(cpu.number, ts)
                state.shots.append(place.shot)
            place.inv_first, place.inv_pos, place.inv_structural = ts, cpu.pos, structural
            if not structural:
                cell.opened += 1
            level.pending = w.P_INV

    def claim(self, cpu: Cpu, level: Level, state: SlotState, ts: int, exact: bool) -> bool:
        """Whether an own invalidation is part of a map or an unmap, and note what it is."""
        number = state.number
        place = level.places[number]
        episode = place.episode
        if episode is not None and not episode.unmapped:
            if exact:
                # If its unmap was missed, this may be meant for the next map.
                self.note_pre(cpu, level, number, ts)
                place.pre_in_map = True
                place.pre_since = episode.map_first
            if episode.read_seen:
                episode.flush_first = ts  # of use only if the unmap is missed
                return False
            if episode.map_flush != w.SURE:
                if episode.map_flush_first == w.NEVER:
                    episode.map_flush_first = ts
                episode.waiting_flush = True
                inside = self.facts.implied(episode.point) & w.FLUSH_INSIDE
                if inside and level.last_kind in (w.K_MAP, w.K_INV_PAGE, w.K_INV_RANGE):
                    episode.map_flush = w.SURE
            return True
        if episode is not None and self.flushes_unmap(level, episode, exact):
            episode.unmap_flush, episode.flush_first = w.SURE, ts
            episode.hold.end_first, episode.hold.end_pos = ts, cpu.pos
            return True
        if exact:
            self.note_pre(cpu, level, number, ts)
        return False

    def flushes_unmap(self, level: Level, episode: Episode, exact: bool) -> bool:
        """Whether an own invalidation belongs to an unmap: the first, if it is of exactly the page,
        or directly follows an unmap that implies none."""
        if not self.unflushed(episode):
            return False
        implied = episode.unmap_flush == w.SURE or episode.broadcast == w.SURE
        return exact or (not implied and self.direct(level))

    def ends_unmap(self, level: Level, episode: Episode, exact: bool) -> bool:
        """Whether a broadcast belongs to an unmap: the first of exactly the page, which code may
        send behind its own flush, or what directly follows an unmap that implies none."""
        if exact:
            return episode.told_first == w.NEVER
        implied = episode.broadcast == w.SURE
        return not implied and self.unflushed(episode) and self.direct(level)

    def unflushed(self, episode: Episode) -> bool:
        """Whether an unmap still waits for its flush: the first own one, or broadcast."""
        return episode.flush_first == w.NEVER and episode.told_first == w.NEVER

    def direct(self, level: Level) -> bool:
        """Whether the last event here was the unmap."""
        return level.last_kind in (w.K_UNMAP, w.K_UNMAP_END)

    def note_pre(self, cpu: Cpu, level: Level, slot: int, ts: int) -> None:
        """A flush of this very page, which may be meant for the next map."""
        cell, place = cpu.cells[slot], level.places[slot]
        place.pre_first, place.pre_last = ts, w.NEVER
        place.pre_pos = cpu.pos
        place.pre_in_map = False
        place.pre_luck_first, place.pre_luck_pos = cell.inv_first, cell.inv_pos

    def broadcast(
        self, cpu: Cpu, level: Level, ctx: int, ts: int, addr: int, size: int, kind: int
    ) -> None:
        """This CPU is about to tell all CPUs to invalidate."""
        self.forget_tells(cpu, level, ctx)
        for state in self.slots:
            if not self.covers(state, addr, size, -1, kind):
                continue
            number = state.number
            cell, place = cpu.cells[number], level.use(number)
            tell = Tell(cpu.number, ts)
            exact = self.exact(state, addr, size, kind)
            episode = place.episode
            if episode is not None and not episode.unmapped:
                episode.tell_seen = True
                if episode.read_seen:
                    episode.flush_first = ts  # of use only if the unmap is missed
                else:
                    tell.episode, tell.role = episode, w.ROLE_MAP
                    if episode.map_flush == w.NO:
                        episode.map_flush, episode.map_flush_first = w.MAYBE, ts
            elif episode is not None and self.ends_unmap(level, episode, exact):
                tell.episode, tell.role = episode, w.ROLE_UNMAP
                episode.broadcast, episode.told_first = w.SURE, ts
                episode.hold.end_first, episode.hold.end_pos = ts, cpu.pos
            elif exact:
                self.note_pre(cpu, level, number, ts)
            state.tells.append(tell)
            level.tells.append(tell)
            place.tell_first, place.tell_pos = ts, cpu.pos
            place.tell_structural = tell.role != w.NO
            if tell.role == w.NO:
                cell.opened += 1
        level.telling = True
        if not self.facts.bcast_end_traced:
            level.pending = w.P_INV

    def forget_tells(self, cpu: Cpu, level: Level, ctx: int) -> None:
        """A broadcast whose end was not seen may go on for ever."""
        if not level.telling:
            return
        for tell in level.tells:
            tell.given_up = True
        level.tells = []
        level.telling = False
        for place in level.used:
            if place.tell_first != w.NEVER:
                place.tell_first = w.NEVER
                if not place.tell_structural:
                    cell = cpu.cells[place.slot]
                    cell.opened -= 1
                    cell.inv_last = cell.inv_pos_last = w.NEVER

    def told(self, cpu: Cpu, level: Level, ctx: int, ts: int) -> None:
        """The broadcast of this context is complete on all CPUs."""
        if not level.telling and self.facts.bcast_end_traced:
            self.told_before(cpu, ts)
        for tell in level.tells:
            tell.last = ts
            episode = tell.episode
            if episode is None:
                continue
            if tell.role == w.ROLE_UNMAP:
                episode.told_last = ts
            elif not episode.unmapped and not episode.read_seen:
                episode.waiting_flush = True
        level.tells = []
        level.telling = False
        for place in level.used:
            if place.tell_first != w.NEVER:
                cell = cpu.cells[place.slot]
                self.over(cpu, cell, place.tell_first, place.tell_pos, place.tell_structural, ts)
                place.tell_first = w.NEVER
            if place.pre_first != w.NEVER and place.pre_last == w.NEVER:
                place.pre_last = ts

    def told_before(self, cpu: Cpu, ts: int) -> None:
        """A broadcast whose begin was not seen is over: what it covered is not known."""
        for state in self.slots:
            tell = Tell(cpu.number, ts)
            tell.last, tell.known = ts, False
            state.tells.append(tell)
            cell = cpu.cells[state.number]
            cell.inv_last = max(cell.inv_last, ts)
            cell.inv_pos_last = max(cell.inv_pos_last, cpu.pos)

    def over(self, cpu: Cpu, cell: Cell, first: int, pos: int, structural: bool, ts: int) -> None:
        """An own invalidation that began at *first*, *pos* is over."""
        if first > cell.inv_first:
            cell.inv_first = first
        if pos > cell.inv_pos:
            cell.inv_pos = pos
        if not structural:
            cell.inv_last = max(cell.inv_last, ts)
            cell.inv_pos_last = max(cell.inv_pos_last, cpu.pos)
            cell.opened -= 1

    def luck_until(self, cpu: Cpu, episode: Episode, ts: int) -> None:
        """The access is over: note the latest invalidation that may precede it."""
        cell = cpu.cells[episode.hold.slot]
        if cell.opened:
            episode.luck_last, episode.luck_pos_last = ts, cpu.pos
        else:
            episode.luck_last = min(cell.inv_last, ts)
            episode.luck_pos_last = min(cell.inv_pos_last, cpu.pos)

    def settle(self, cpu: Cpu, level: Level, ctx: int, ts: int, kind: int = 0) -> None:
        """The effect of this context's last event is over: the CPU went on, to an event of this
        *kind* of the same context (0: of another)."""
        pending, episode = level.pending, level.pending_episode
        level.pending = w.P_NOTHING
        if pending in (w.P_MAP, w.P_CLEAR) and self.edits.wanted and episode is not None:
            end = w.K_MAP_END if pending == w.P_MAP else w.K_UNMAP_END
            inside = self.facts.implied(episode.point) & w.FLUSH_INSIDE
            ended = self.facts.traced >> end & 1 != 0 or (inside != 0 and kind == w.K_INV_PAGE)
            self.edits.end_write(level, ts, ended)
        if pending == w.P_MAP and episode is not None:
            episode.map_last = ts
            other = level.pending_other
            if other is not None:
                other.clear_last, other.clear_pos_last = ts, cpu.pos
                level.pending_other = None
        elif pending == w.P_CLEAR and episode is not None:
            episode.clear_last, episode.clear_pos_last = ts, cpu.pos
        elif pending == w.P_READ and episode is not None:
            episode.read_last = ts
            self.luck_until(cpu, episode, ts)
        elif pending == w.P_INV:
            for place in level.used:
                first = place.inv_first
                if first == w.NEVER:
                    continue
                place.inv_first = w.NEVER
                cell = cpu.cells[place.slot]
                self.over(cpu, cell, first, place.inv_pos, place.inv_structural, ts)
                self.flushed(cpu, place, first, ts)
            if level.telling and not self.facts.bcast_end_traced:
                self.told(cpu, level, ctx, ts)

    def flushed(self, cpu: Cpu, place: Place, first: int, ts: int) -> None:
        """Tell whoever claimed the own invalidation that began at *first* that it is over."""
        episode = place.episode
        if episode is not None and episode.flush_first == first:
            episode.flush_last = ts
        if place.pre_first == first:
            place.pre_last = ts
        if place.shot is not None:
            place.shot.last = ts
            place.shot = None
