# SPDX-License-Identifier: Apache-2.0
"""One page: its map, its access, its unmap, and the hold that it is in."""

from __future__ import annotations

from ghesrace.checker.core import words as w
from ghesrace.checker.core.edits import Edits
from ghesrace.checker.core.facts import Facts
from ghesrace.checker.core.holds import Episode, Gap, Hold
from ghesrace.checker.core.invalidations import Invalidations
from ghesrace.checker.core.state import Cpu, Level, Place, SlotState


class Pages(Invalidations):
    """The reader's part that makes episodes and holds."""

    def __init__(self, facts: Facts, slots: list[SlotState], edits: Edits) -> None:
        super().__init__(facts, slots, edits)
        self.index = 0  # of the event, in the stream
        self.gaps: list[Gap] = []  # maps and unmaps that must be there and were not recorded
        self.open_ends = 0  # maps without an unmap, of which no loss tells
        self.no_flushes = 0  # ... and maps and unmaps without the flush that their code holds
        self.strays: list[int] = []  # stamps of accesses without a map and an unmap

    def close(self, cpu: Cpu, level: Level, slot: int, ts: int, seq: int) -> None:
        """A hold is over."""
        place = level.places[slot]
        hold = place.hold
        if hold is None:
            return
        episode = place.episode
        place.inner = episode
        if episode is not None:
            self.end(cpu, level, episode, ts, seq)
            place.episode = None
        hold.close = ts
        hold.closed = True
        place.hold = None
        place.pre_first = w.NEVER
        if self.facts.flush_proven:
            self.missed_flushes(hold)

    def missed_flushes(self, hold: Hold) -> None:
        """Note the flushes inside of a hold's maps and unmaps that were not recorded."""
        for episode in hold.all():
            if episode.judged and episode.map_flush != w.SURE:
                until = episode.read_first if episode.read_seen else episode.unmap_first
                until = min(until, hold.close)
                gap = Gap(1 << w.K_INV_PAGE, hold.cpu, episode.map_first, until)
                gap.episode, gap.of_map = episode, True
                self.gaps.append(gap)
            seen = episode.unmapped and not (episode.replaced or episode.left_open)
            if seen and episode.unmap_flush != w.SURE:
                until = min(episode.clear_last, hold.close)
                gap = Gap(1 << w.K_INV_PAGE, hold.cpu, episode.unmap_first, until)
                gap.episode = episode
                self.gaps.append(gap)

    def lock_page(self, slot: int) -> bool:
        """Whether a slot's lock is taken per page."""
        state: SlotState = self.slots[slot]
        return state.lock_page

    def missed_end(self, cpu: Cpu, level: Level, slot: int, ts: int, seq: int) -> None:
        """A copy in which another one began did not go on: its end was missed."""
        place = level.places[slot]
        outer = place.outer
        if outer is None:
            return
        place.outer = None
        self.end(cpu, level, outer, outer.last_first, seq)
        outer.hold.close, outer.hold.closed = ts, True

    def give_up(self, cpu: Cpu, level: Level, hold: Hold, ts: int) -> None:
        """A hold that another copy in its context has hidden is over at *ts* (ns) at the latest."""
        place = level.places[hold.slot]
        if place.outer is not None and place.outer.hold is hold:
            place.outer = None
        last = hold.last()
        self.end(cpu, level, last, last.last_first, w.NEVER)
        hold.close, hold.closed = ts, True

    def end(self, cpu: Cpu, level: Level, episode: Episode, ts: int, seq: int) -> None:
        """An episode is over; where no unmap was seen, one was missed."""
        if episode.index_last == w.NEVER:
            episode.index_last = self.index
        if episode.unmapped:
            return
        episode.left_open = True
        # Behind the access, or the map: a flush that was seen may be the missed unmap's own.
        self.gaps.append(Gap(1 << w.K_UNMAP, cpu.number, episode.read_first, ts))
        episode.unmap_first = episode.read_first
        episode.clear_pos_first = episode.map_pos
        episode.clear_last, episode.clear_pos_last = ts, cpu.pos
        self.last_access(cpu, episode, ts)
        if episode.waiting_flush and episode.map_flush == w.NO:
            episode.map_flush = w.MAYBE
        of_map = episode.waiting_flush and not episode.read_seen
        if of_map or episode.flush_first != w.NEVER:
            # What was taken for a flush of the map, or for luck, may be the missed unmap's: if
            # it lies behind the access, which needs the page mapped.
            episode.unmap_flush = w.MAYBE
        if episode.tell_seen:
            episode.broadcast = w.MAYBE
        if self.facts.proven_unmap & w.BROADCAST_AFTER_CLEAR:
            episode.broadcast = w.SURE  # nobody saw it, but the code of all unmaps was read
        elif self.facts.hidden_unmap & w.BROADCAST_AFTER_CLEAR:
            episode.broadcast = w.MAYBE  # the plan only assumes it
        elif self.facts.proven_unmap & w.PAGE_AFTER_CLEAR:
            episode.unmap_flush = w.SURE
        elif self.facts.hidden_unmap & w.PAGE_AFTER_CLEAR:
            episode.unmap_flush = w.MAYBE

    def drop_stray(self, place: Place) -> None:
        """The copy of an access without a map is over: no unmap was seen either."""
        if place.stray_pos != w.NOWHERE and place.stray_t != w.NEVER:
            self.strays.append(place.stray_t)
        place.stray_pos = w.NOWHERE

    def done(self, level: Level, last: Episode) -> bool:
        """Whether an unmap and its invalidation surely lie before the copy that runs now."""
        if last.broadcast == w.SURE:
            return True
        began = level.copy_depth > 0 and level.copy_pos > last.clear_pos_first
        return began and last.flush_first <= level.copy_t

    def doubt_shot(self, cpu: Cpu, state: SlotState, place: Place) -> None:
        """A flush before an unmap without a map may be that map's, and no answer to another CPU."""
        for shot in state.shots:
            if shot.cpu == cpu.number and shot.first == place.pre_first:
                shot.perhaps_own = True

    def stray_flush(self, level: Level, place: Place, episode: Episode) -> None:
        """A flush of the page before its access, where the map was not seen: behind the map it is
        the map's own, before it one just before the map."""
        if episode.hold.count > 1:
            episode.map_flush, episode.map_flush_first = w.SURE, place.pre_first
            return
        # Of the first page: the lock may have been taken behind the flush.
        episode.pre_first, episode.pre_last = place.pre_first, min(place.pre_last, level.last_t)
        episode.pre_pos = place.pre_pos
        episode.pre_known = self.in_hold(level, place)

    def in_hold(self, level: Level, place: Place) -> bool:
        """Whether a flush before the map is surely behind the begin of its hold: the copy where
        the lock is taken per page; else the handler, which entered before its copy did."""
        if level.in_handler and not self.lock_page(place.slot):
            return True
        return level.edge_pos <= level.copy_pos < place.pre_pos

    def last_access(self, cpu: Cpu, episode: Episode, ts: int) -> None:
        """An access that was not traced is over here at the latest."""
        if not episode.read_seen and episode.read_last == w.NEVER:
            episode.read_last = ts
            self.luck_until(cpu, episode, ts)

    def map(
        self,
        cpu: Cpu,
        level: Level,
        ctx: int,
        ts: int,
        phys: int,
        seq: int,
        pid: int,
        point: int,
        slot: int,
    ) -> None:
        """A page is about to be mapped."""
        state, cell = self.slots[slot], cpu.cells[slot]
        place = level.use(slot)
        if place.stray_seq > seq:
            place.stray_pos = w.NOWHERE  # that access is this map's, whose stamp is late
        self.drop_stray(place)
        before = place.episode
        last = before if before is not None else place.inner
        if before is not None and not before.unmapped:
            # This map's write ends that translation.
            before.unmapped = before.replaced = True
            before.unmap_first, before.clear_pos_first = ts, cpu.pos
            before.index_last = self.index
            self.last_access(cpu, before, ts)
            if before.waiting_flush and before.map_flush == w.NO:
                before.map_flush = w.MAYBE
            level.pending_other = before
        elif before is not None:
            before.index_last = self.index
        hold = place.hold
        if hold is None and level.copy_depth < 2:
            self.missed_end(cpu, level, slot, ts, seq)
        if hold is not None and (state.lock_page or not self.facts.has_handler(slot)):
            pre = place.pre_first
            self.close(cpu, level, slot, ts, seq)
            place.pre_first = pre
            hold = None
        if hold is None:
            hold = self.open_hold(cpu, level, ctx, ts, seq, slot)
        episode = self.open_episode(hold, level, phys >> w.PAGE_BITS << w.PAGE_BITS, seq, pid, slot)
        episode.point = point
        if last is not None and last.unmapped and last.index_map > level.edge_index:
            episode.before = last
        level.mapped = True
        episode.last_first, episode.last_pos = ts, cpu.pos
        cell.first_seen = min(cell.first_seen, ts)
        episode.map_first, episode.map_pos = ts, cpu.pos
        episode.writes = level.copy_writes and level.copy_pos != w.NOWHERE
        episode.read_first = ts
        episode.luck_first, episode.luck_pos = cell.inv_first, cell.inv_pos
        episode.luck_map_first, episode.luck_map_pos = cell.inv_first, cell.inv_pos
        if place.pre_first != w.NEVER:
            episode.pre_first = place.pre_first
            episode.pre_last = min(place.pre_last, ts)
            episode.pre_pos = place.pre_pos
            episode.pre_in_map = place.pre_in_map
            episode.pre_since = place.pre_since
            episode.pre_known = self.in_hold(level, place)
            episode.luck_map_first = place.pre_luck_first
            episode.luck_map_pos = place.pre_luck_pos
            if state.shots:
                self.take_shot(state, cpu.number, episode.pre_first, ts)
            place.pre_first = w.NEVER
        if self.facts.implied(point) & w.PAGE_AFTER_SET:
            episode.map_flush, episode.map_flush_first = w.SURE, ts
        hold.end_first, hold.end_pos = ts, cpu.pos
        level.pending, level.pending_episode = w.P_MAP, episode
        if self.edits.wanted:
            self.edits.begin_write(w.K_MAP, cpu, ctx, ts, slot, point, phys)

    def take_shot(self, state: SlotState, cpu: int, first: int, ts: int) -> None:
        """An own invalidation is part of a map at *ts* (ns): it is no answer to another CPU's
        unmap. One that is so much older that nobody waited for this map is no sure one."""
        if ts - first < w.FORCE_CLOSE_NS:
            state.shots[:] = [s for s in state.shots if s.cpu != cpu or s.first != first]
        else:
            for shot in state.shots:
                if shot.cpu == cpu and shot.first == first:
                    shot.perhaps_own = True

    def open_hold(self, cpu: Cpu, level: Level, ctx: int, ts: int, seq: int, slot: int) -> Hold:
        place = level.places[slot]
        hold = Hold.of(cpu.number, ctx, slot)
        hold.map_first, hold.begin_last, hold.pos_first = ts, ts, cpu.pos
        hold.entry, hold.since_pos = level.edge_t, level.since_pos
        if level.in_handler:
            hold.entry_pos = level.edge_pos
        hold.in_handler = level.in_handler
        hold.copied = level.copy_pos >= level.edge_pos
        hold.bounded = self.lock_page(slot) or level.in_handler
        if self.lock_page(slot) and level.copy_pos >= level.edge_pos:
            hold.entry, hold.entry_pos = level.copy_t, level.copy_pos
        hold.seq_entry = seq
        place.hold = hold
        state = self.slots[slot]
        state.holds.append(hold)
        return hold

    def open_episode(
        self, hold: Hold, level: Level, frame: int, seq: int, pid: int, slot: int
    ) -> Episode:
        place = level.places[slot]
        episode = Episode.of(hold, frame, pid)
        episode.seq_map = seq
        episode.index_entry, episode.index_before = level.edge_index, level.opening
        episode.index_map = self.index
        episode.entry_row, episode.before_row = level.edge_row, level.opening_row
        if self.facts.has_handler(slot):
            episode.seq_entry = level.edge_seq
        else:
            episode.seq_entry = level.copy_seq if level.copy_pos != w.NOWHERE else seq
        hold.add(episode)
        place.episode = episode
        return episode

    def map_end(self, level: Level, slot: int) -> None:
        """The mapping function returned: a flush before that came before the access."""
        for place in level.used:
            number, episode = place.slot, place.episode
            if slot not in (number, -1) or episode is None or episode.unmapped:
                continue
            if episode.waiting_flush and not episode.read_seen:
                episode.map_flush = w.SURE

    def unmap_end(self, cpu: Cpu, level: Level, slot: int, ts: int, seq: int) -> None:
        """The unmapping function returned; where its entry was not seen, that was missed."""
        for place in level.used:
            number, episode = place.slot, place.episode
            if slot not in (number, -1) or episode is None:
                continue
            if not episode.unmapped and slot == number:
                self.end(cpu, level, episode, ts, seq)
                episode.unmapped = True
            if episode.unmapped:
                episode.unmap_over = min(episode.unmap_over, ts)

    def access(
        self, cpu: Cpu, level: Level, ts: int, addr: int, seq: int, slot: int, kind: int
    ) -> None:
        """The mapped page is about to be read or written."""
        page = addr >> w.PAGE_BITS << w.PAGE_BITS
        for place in level.places:
            number, episode = place.slot, place.episode
            state = self.slots[number]
            named = slot == number or (state.known and state.address == page)
            if episode is None or episode.unmapped:
                if named and place.stray_pos == w.NOWHERE:
                    seen = cpu.cells[number].first_seen != w.NEVER
                    begun = level.in_handler or level.copy_depth > 0
                    level.use(number)
                    place.stray_pos, place.stray_seq = cpu.pos, seq
                    # Where nothing was seen before, its map may lie before the start.
                    place.stray_t = ts if begun or seen else w.NEVER
                continue
            if not named and (state.known or slot >= 0):
                continue
            if not state.known:
                state.address, state.known = page, True
                if episode.map_flush == w.NO:  # One before was not known to be of this page.
                    episode.map_flush = w.MAYBE
            if kind == w.K_WRITE:
                episode.writes = True
            if episode.read_seen:
                continue
            episode.read_seen = True
            episode.writes = kind == w.K_WRITE
            episode.read_first, episode.read_seq = ts, seq
            cell = cpu.cells[number]
            episode.luck_first, episode.luck_pos = cell.inv_first, cell.inv_pos
            if episode.waiting_flush:
                episode.map_flush = w.SURE
            episode.hold.end_first, episode.hold.end_pos = ts, cpu.pos
            level.pending, level.pending_episode = w.P_READ, episode
            break

    def unmap(
        self,
        cpu: Cpu,
        level: Level,
        ctx: int,
        ts: int,
        seq: int,
        pid: int,
        point: int,
        slot: int,
    ) -> None:
        """A page is about to be unmapped."""
        place = level.use(slot)
        episode = place.episode
        if episode is None or episode.unmapped:
            episode = self.orphan(cpu, level, ctx, ts, seq, pid, slot)
        self.last_access(cpu, episode, ts)
        episode.unmapped = True
        episode.unmap_first, episode.clear_pos_first = ts, cpu.pos
        if episode.waiting_flush and episode.map_flush == w.NO:
            episode.map_flush = w.MAYBE
        episode.flush_first = w.NEVER
        place.pre_first = w.NEVER
        implied = self.facts.implied(point)
        if implied & w.PAGE_AFTER_CLEAR:
            episode.unmap_flush = w.SURE
        if implied & w.BROADCAST_AFTER_CLEAR:
            episode.broadcast = w.SURE
        episode.hold.end_first, episode.hold.end_pos = ts, cpu.pos
        level.pending, level.pending_episode = w.P_CLEAR, episode
        if self.edits.wanted:
            self.edits.begin_write(w.K_UNMAP, cpu, ctx, ts, slot, point, 0)

    def orphan(
        self, cpu: Cpu, level: Level, ctx: int, ts: int, seq: int, pid: int, slot: int
    ) -> Episode:
        """An unmap whose map was not seen: a frame that nobody knows was mapped."""
        place = level.places[slot]
        outer = place.outer
        if outer is not None:
            # The unmap of a copy in which another one mapped and unmapped the slot.
            inner = place.episode if place.episode is not None else place.inner
            hold = place.hold
            if hold is not None:
                hold.close, hold.closed = ts, True
            place.outer = None
            place.episode, place.hold = outer, outer.hold
            level.mapped = True
            if inner is not None and inner.map_pos > outer.map_pos:
                inner.outer = outer
            return outer
        last = place.episode if place.episode is not None else place.inner
        cell = cpu.cells[slot]
        start = cell.first_seen == w.NEVER and not level.in_handler and level.copy_depth == 0
        if self.lock_page(slot):
            self.close(cpu, level, slot, ts, seq)
        hold = place.hold
        if hold is None:
            hold = self.open_hold(cpu, level, ctx, ts, seq, slot)
        episode = self.open_episode(hold, level, w.UNKNOWN_FRAME, seq, pid, slot)
        episode.judged = False
        self.doubt_shot(cpu, self.slots[slot], place)
        if last is not None and last.unmapped and last.index_map > level.edge_index:
            episode.before = None if self.done(level, last) else last
        if place.pre_first != w.NEVER and place.stray_pos > place.pre_pos and not start:
            self.stray_flush(level, place, episode)
        place.stray_pos = w.NOWHERE  # this unmap is that access's
        episode.at_start = start
        episode.map_first = 0 if start else max(level.edge_t, level.last_t)
        episode.map_last = ts
        episode.read_first, episode.read_last = episode.map_first, ts
        episode.map_pos = cpu.pos
        if not start:
            self.gaps.append(Gap(1 << w.K_MAP, cpu.number, episode.map_first, ts))
        cell.first_seen = min(cell.first_seen, ts)
        return episode
