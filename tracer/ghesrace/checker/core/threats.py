# SPDX-License-Identifier: Apache-2.0
"""What may, and what surely does, threaten an episode; and the luck that may have saved it."""

from __future__ import annotations

from ghesrace.checker.core import words as w
from ghesrace.checker.core.classes import Threats
from ghesrace.checker.core.holds import Episode, Hold, Loss
from ghesrace.checker.core.leaving import Leaving, latest
from ghesrace.checker.core.state import Cell, SlotState
from ghesrace.checker.core.words import BEGINS, OWN, TOLD, UNMAPS


class Threatening(Leaving):
    """The judge's part that asks each question twice."""

    def flushed(
        self, state: SlotState, hold: Hold, episode: Episode, cell: Cell, others: list[Hold]
    ) -> int:
        """Whether the CPU invalidated the slot by structure in this hold, before the access."""
        if not episode.judged and self.facts.hidden_map & w.PAGE_AFTER_SET:
            return w.SURE  # Nobody saw its map, but what that implies protects it.
        found = episode.map_flush
        seen = found == w.SURE and episode.map_flush_first != w.NEVER
        first, last = episode.map_first, episode.map_flush_first
        if seen and self.losses.all and self.whole_between(hold.cpu, first, last):
            # Of two episodes that a loss made one, the flush may belong to the second.
            found = w.MAYBE
        before = episode.before
        if found == w.NO and before is not None and self.lost_flush(before):
            found = w.MAYBE
        if found == w.SURE or episode.pre_first == w.NEVER:
            return found
        surely = maybe = cell.last_pos < episode.pre_pos
        if episode.pre_in_map:
            # A flush before the next map only if an unmap was missed.
            surely = False
            first, last = episode.pre_since, episode.map_first
            maybe = self.losses.hidden_between(UNMAPS, hold.cpu, first, last)
        for gone in state.cells:
            if gone.cpu == hold.cpu or gone.ended == w.NOWHERE:
                continue
            error = self.clocks.error(gone.cpu, hold.cpu)
            if gone.ended + error >= episode.pre_first:
                surely = False
            if gone.began - error > episode.pre_last:
                maybe = False
        for other in others:
            error = self.clocks.error(other.cpu, hold.cpu)
            if latest(other) + error >= episode.pre_first:
                surely = False
            late = other.end_first - error > episode.pre_last
            if late and not self.may_precede(hold, other):
                maybe = False
        for loss in self.losses.pages():
            # What it hid may have been interrupted, and lie between the flush and the map.
            error = self.clocks.error(loss.cpu, hold.cpu)
            if loss.cpu != hold.cpu and loss.begin - error <= hold.begin_last:
                surely = False
            if loss.cpu in (-1, hold.cpu) and loss.begin <= episode.map_first:
                surely = surely and loss.end < episode.pre_first
        if surely and episode.pre_known and not self.held_before(state, hold, episode):
            return w.SURE
        return max(found, w.MAYBE if maybe else w.NO)

    def held_before(self, state: SlotState, hold: Hold, episode: Episode) -> bool:
        """Whether a CPU that had not shown the slot yet may have held it when a flush came before
        this map: it mapped it before the start, and a loss hid the unmap. Nobody holds the lock for
        a second."""
        latest_begin = self.reader.start + w.FORCE_CLOSE_NS
        for loss in self.losses.all:
            error = self.clocks.error(loss.cpu, hold.cpu)
            behind = loss.begin > min(hold.begin_last + error, latest_begin)
            if not loss.kinds & UNMAPS or loss.cpu == hold.cpu or behind:
                continue
            if loss.late + error < episode.pre_first or (loss.count and loss.spent >= loss.count):
                continue
            for number in self.facts.cpus if loss.cpu < 0 else (loss.cpu,):
                cpu = self.cpus.get(number)
                unseen = cpu is None or cpu.cells[state.number].first_seen > loss.begin
                if number != hold.cpu and unseen:
                    return True
        return False

    def vulnerable(self, state: SlotState, hold: Hold, index: int, cell: Cell) -> bool:
        """Whether surely nothing invalidates between a hold's begin and this access."""
        episode = hold.at(index)
        if episode.pre_first != w.NEVER:
            return False
        # What was taken for the map's flush may be that of an unmap which a loss hid.
        if episode.map_flush != w.NO and not (episode.left_open and episode.map_flush == w.MAYBE):
            return False
        for i in range(index):
            before = hold.at(i)
            if before.map_flush != w.NO or before.unmap_flush != w.NO or before.broadcast != w.NO:
                return False
        begin = max(hold.entry_pos, cell.last_pos)
        if begin == w.NOWHERE and self.facts.traced & BEGINS and not hold.copied:
            return False  # it lies before the start, and may have invalidated there
        if episode.luck_pos_last <= max(begin, hold.since_pos):
            return True
        return self.outside(state, hold, episode.luck_last)

    def outside(self, state: SlotState, hold: Hold, last: int) -> bool:
        """Whether another CPU's hold lies surely between what was over by *last* and this hold."""
        if last == w.NEVER:
            return False
        for gone in state.cells:
            behind = last + self.clocks.error(gone.cpu, hold.cpu)
            if gone.cpu != hold.cpu and gone.began != w.NOWHERE and behind < gone.began:
                return True
        for other in state.window:
            behind = last + self.clocks.error(other.cpu, hold.cpu)
            follows = other.cpu != hold.cpu and not self.may_precede(hold, other)
            if follows and behind < other.end_first:
                return True
        return False

    def maybe_since(self, other: Hold, cell: Cell, hold: Hold) -> bool:
        """Whether a hold may lie behind the last sure invalidation of this CPU's own."""
        since = cell.surely  # NOWHERE: there is none
        if since.hold is hold:
            return False
        return since.end_first <= other.begin_last + self.clocks.error(hold.cpu, other.cpu)

    def surely_since(self, other: Hold, cell: Cell, hold: Hold) -> bool:
        """Whether a hold surely lies behind whatever may be such an invalidation."""
        since = cell.maybe
        if not since.known:
            return True
        if since.hold is hold:
            return False
        return other.end_first > since.begin_last + self.clocks.error(hold.cpu, other.cpu)

    def maybe(
        self,
        t: Threats,
        state: SlotState,
        hold: Hold,
        episode: Episode,
        threat: Episode,
        own: bool,
        tellers: list[Hold],
    ) -> None:
        """Take a translation that this CPU may hold."""
        t.any = True
        for teller in tellers:
            error = self.clocks.error(threat.hold.cpu, teller.cpu)
            behind = teller.end_first > threat.hold.begin_last + error
            if behind and threat.hold.end_first < teller.end_first:
                return
        t.uncovered = True
        if threat.frame == t.frame and threat.frame != w.UNKNOWN_FRAME:
            return
        t.harmful = True
        lucky = self.luck_surely(state, hold, threat, own, episode)
        if not lucky:
            t.all_lucky = False
        if threat.frame == w.UNKNOWN_FRAME:
            t.loss = t.loss or not threat.at_start or self.map_hidden(threat)
            t.start = t.start or threat.at_start
        else:
            t.known = True
            t.loss = t.loss or threat.unmap_lost or threat.left_open
            if not self.luck_before_map(threat, own, episode):
                t.latent = True

    def surely(
        self,
        t: Threats,
        state: SlotState,
        hold: Hold,
        episode: Episode,
        left: Episode,
        own: bool,
        cell: Cell,
        tellers: list[Hold],
    ) -> None:
        """Take a translation that this CPU surely may hold."""
        if left.frame in (t.frame, w.UNKNOWN_FRAME):
            return
        for teller in tellers:
            error = self.clocks.error(left.hold.cpu, teller.cpu)
            if left.hold.end_first <= teller.begin_last + error:
                return
        lucky = False
        if self.losses.all:
            if self.whole_between(left.hold.cpu, left.map_first, left.unmap_first):
                t.loss = True  # What the unmap ended may be another map's.
                return
            # Of a map that another one replaced, the unmap may be what is hidden.
            begin = left.map_first if left.replaced else left.unmap_first
            begin -= self.clocks.error(left.hold.cpu, hold.cpu)
            begin, end = min(begin, hold.map_first), episode.read_last
            if self.losses.hidden_between(OWN, hold.cpu, begin, end) or (
                self.losses.told_between(hold.cpu, begin, end)
            ):
                t.loss = True
                return
            last = self.losses.in_flight(OWN | TOLD, hold.cpu, begin, end)
            if last != w.NOWHERE and not (hold.in_handler and hold.entry > last):
                t.loss = True  # It may be this hold's own flush before the map.
                return
            if last != w.NOWHERE or self.told_late(hold, begin, end):
                t.loss = lucky = True
        t.harmful_surely = True
        if not lucky and not self.luck_maybe(state, hold, left, own, episode, cell):
            t.unlucky = True
        if t.threat_surely is None or left.hold.end_first > t.threat_end:
            t.threat_surely, t.threat_end = left, left.hold.end_first
        if left.unmap_flush == w.NO:
            t.threat_flushed = False

    def told_late(self, hold: Hold, begin: int, end: int) -> bool:
        """Whether a broadcast of another CPU that was hidden before may have been interrupted, and
        yet have fallen between these stamps."""
        error = self.facts.error
        for cpu in self.facts.cpus:
            late = self.losses.in_flight(TOLD, cpu, begin - error, end + error)
            if cpu != hold.cpu and late != w.NOWHERE:
                return True
        return False

    def stands(
        self, state: SlotState, hold: Hold, episode: Episode, cell: Cell, left: Episode, cls: int
    ) -> bool:
        """Whether *left* leaves an episode unsafe under the proven bound of the clocks, too.

        The same questions are asked of that bound; where more would have to be asked, of flushes
        before the map and of losses, the answer is no.
        """
        if (
            episode.pre_first != w.NEVER
            or self.losses.all
            or self.facts.wait < self.facts.proven.largest
        ):
            return False
        assumed, self.clocks = self.clocks, self.facts.proven
        try:
            return self.unsafe(state, hold, episode, cell, left, cls)
        finally:
            self.clocks = assumed

    def unsafe(
        self, state: SlotState, hold: Hold, episode: Episode, cell: Cell, left: Episode, cls: int
    ) -> bool:
        """Whether *left* surely threatens an episode, and for the class `none` without luck."""
        x, own = left.hold, left.hold.cpu == hold.cpu
        if not own and (self.may_precede(hold, x) or not self.surely_since(x, cell, hold)):
            return False
        if self.told_behind(state, x):
            return False
        tellers = [k for k in state.window if k.told != w.NO and k.cpu != hold.cpu]
        for other in state.holds:
            if other.cpu == hold.cpu or not self.may_precede(x, other):
                continue
            if other.map_first > hold.close + self.facts.wait:
                continue
            if state.shots or any(one.broadcast != w.NO for one in other.all()):
                return False
        t = Threats.of(episode.frame)
        self.surely(t, state, hold, episode, left, own, cell, tellers)
        return t.harmful_surely and (t.unlucky or cls != w.NONE)

    def hidden(
        self,
        t: Threats,
        state: SlotState,
        hold: Hold,
        episode: Episode,
        cell: Cell,
        tellers: list[Hold],
    ) -> None:
        """Take what a loss may have mapped unseen since the last sure invalidation."""
        if not episode.judged and episode.before is not None:
            t.unknown(w.LOSS)  # The flush behind the unmap before it may lie behind its map.
        within, since = self.losses.within(), cell.surely
        least = min(since.at, since.end_first) - self.facts.error
        for i in range(len(within) - 1, -1, -1):
            loss = within[i]
            if loss.reach < least:
                break  # All that these hid lies before that invalidation.
            if self.may_lie_between(loss, state, hold, episode, cell, tellers):
                t.unknown(w.LOSS)

    def may_lie_between(
        self,
        loss: Loss,
        state: SlotState,
        hold: Hold,
        episode: Episode,
        cell: Cell,
        tellers: list[Hold],
    ) -> bool:
        """Whether an episode that *loss* hid may lie behind the last sure own invalidation, and
        before this episode: on this CPU by its buffer, on another by the lock and the clocks."""
        error, since = self.clocks.error(loss.cpu, hold.cpu), cell.surely
        behind = loss.end >= since.at  # NOWHERE: there is none
        if loss.cpu in (-1, hold.cpu) and loss.begin <= episode.map_first and behind:
            return True
        if loss.cpu == hold.cpu or loss.begin - error > hold.begin_last:
            return False
        if loss.end + self.facts.error < state.told_end:
            return False
        for teller in tellers:
            late = self.clocks.error(loss.cpu, teller.cpu)
            if teller.all_told and loss.end + late < teller.end_first:
                return False  # Its last unmap told everybody, behind all that this loss hid.
        if since.known:
            return since.hold is not hold and loss.end + error >= since.end_first
        return cell.start_open or loss.end + self.facts.error >= state.told_end

    def whole_between(self, cpu: int, begin: int, end: int) -> bool:
        """Whether a loss may have hidden an unmap and a map of this CPU then."""
        within = self.losses.inside()
        for i in range(len(within) - 1, -1, -1):
            loss = within[i]
            if loss.reach < begin:
                break
            if loss.cpu in (-1, cpu) and loss.begin <= end and begin <= loss.end:
                return True
        return False

    def luck_surely(
        self, state: SlotState, hold: Hold, left: Episode, own: bool, episode: Episode
    ) -> bool:
        """Whether any invalidation surely fell between a threat's clear and the access."""
        clocks = self.clocks
        if own and left.clear_pos_last != w.NEVER:
            if episode.luck_pos >= left.clear_pos_last:
                return True
        elif episode.luck_first - clocks.error(hold.cpu, left.hold.cpu) > left.clear_last:
            return True
        # The lock: it was cleared before this hold began, unless this hold's map ended it.
        before = left.hold is not hold and not (own and left.replaced)
        if before and episode.luck_pos > hold.pos_first:
            return True
        for sender, first in state.old_first.items():
            late = clocks.error(sender, left.hold.cpu)
            if sender != hold.cpu and first - late > left.clear_last:
                return True
        for tell in state.tells:
            if tell.sender != hold.cpu and tell.known:
                after = tell.first - clocks.error(tell.sender, left.hold.cpu) > left.clear_last
                over = tell.last + clocks.error(tell.sender, hold.cpu)
                if after and over < episode.read_first:
                    return True
        return False

    def luck_before_map(self, left: Episode, own: bool, episode: Episode) -> bool:
        """Whether this CPU's own luck dropped the entry before it mapped the slot."""
        if own and left.clear_pos_last != w.NEVER:
            return episode.luck_map_pos >= left.clear_pos_last
        error = self.clocks.error(episode.hold.cpu, left.hold.cpu)
        return episode.luck_map_first - error > left.clear_last

    def luck_maybe(
        self,
        state: SlotState,
        hold: Hold,
        left: Episode,
        own: bool,
        episode: Episode,
        cell: Cell,
    ) -> bool:
        """Whether any invalidation may have fallen between a threat's clear and the access."""
        clocks = self.clocks
        error = clocks.error(hold.cpu, left.hold.cpu)
        if own:
            if episode.luck_pos_last > left.clear_pos_first:
                return True
        elif episode.luck_last + error >= left.unmap_first:
            # What this CPU did in a hold that surely precedes the threat's came before its clear.
            past = w.NOWHERE
            if cell.maybe.known and cell.maybe.hold is not hold:
                past = cell.maybe.end_pos
            if cell.last_begin != w.NOWHERE and left.hold.end_first > cell.last_begin + error:
                past = max(past, cell.last_pos)
            if episode.luck_pos_last > past:
                return True
        for sender, last in state.old_last.items():
            late = clocks.error(sender, left.hold.cpu)
            if sender != hold.cpu and last + late >= left.unmap_first:
                return True
        for tell in state.tells:
            if tell.sender != hold.cpu:
                late = clocks.error(tell.sender, left.hold.cpu)
                begun = tell.first - clocks.error(tell.sender, hold.cpu) <= episode.read_last
                if begun and (tell.last == w.NEVER or tell.last + late >= left.unmap_first):
                    return True
        return False
