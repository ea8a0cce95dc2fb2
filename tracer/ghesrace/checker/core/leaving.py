# SPDX-License-Identifier: Apache-2.0
"""What a hold leaves behind: the order of holds, and what each CPU may hold since."""

from __future__ import annotations

from ghesrace.checker.core import words as w
from ghesrace.checker.core.facts import Facts
from ghesrace.checker.core.holds import Episode, Hold
from ghesrace.checker.core.losses import Losses
from ghesrace.checker.core.reader import Reader
from ghesrace.checker.core.state import Cell, Newest, SlotState
from ghesrace.checker.core.words import MAP, OWN, TOLD, UNMAPS


class Leaving:
    """The judge's part that keeps what every CPU may hold."""

    def __init__(
        self, facts: Facts, slots: list[SlotState], reader: Reader, losses: Losses
    ) -> None:
        self.facts = facts
        self.clocks = facts.clocks
        self.slots = slots
        self.reader = reader
        self.cpus = reader.cpus
        self.losses = losses

    def cell_of(self, state: SlotState, number: int) -> Cell:
        """The state of a CPU that was seen, and this slot."""
        cpu = self.reader.by_number[number]
        assert cpu is not None
        return cpu.cells[state.number]

    def may_precede(self, one: Hold, other: Hold) -> bool:
        """Whether one hold may lie before another, by the clocks or, on one CPU, its buffer."""
        if one.cpu == other.cpu:
            return one.pos_first < other.pos_first
        return one.end_first <= other.begin_last + self.clocks.error(one.cpu, other.cpu)

    def apart(self, one: Hold, other: Hold) -> bool:
        """Whether the two can stand one behind the other at all."""
        if one.cpu == other.cpu:
            return not (
                one.pos_first < other.pos_first <= one.end_pos
                or other.pos_first < one.pos_first <= other.end_pos
            )
        return self.may_precede(one, other) or self.may_precede(other, one)

    def inherit(self, state: SlotState, cell: Cell) -> None:
        """The first map of a CPU: it may hold what every CPU without one may."""
        cell.mapped = True
        untold = state.untold
        cell.other_maybe.fill(untold.other_maybe.all())
        cell.other_surely.fill(untold.other_surely.all())
        cell.start_open = untold.start_open
        for other in state.cells:
            if other.begun != w.NOWHERE:
                error = self.clocks.error(cell.cpu, other.cpu)
                cell.any_other = max(cell.any_other, other.begun + error)

    def lost_flush(self, episode: Episode) -> bool:
        """Whether a loss may have hidden the flush of an unmap, and its flush is another's."""
        if not episode.unmapped or episode.flush_first == w.NEVER:
            return False
        first, last = episode.unmap_first, episode.flush_first
        return self.losses.hidden_between(OWN | TOLD, episode.hold.cpu, first, last)

    def map_hidden(self, episode: Episode) -> bool:
        """Whether a loss may have hidden the map of an episode that is taken to have begun before
        the start: then it was no earlier than that."""
        return self.losses.hidden_between(MAP, episode.hold.cpu, 0, episode.unmap_first)

    def unflushed(self, episode: Episode) -> bool:
        """Whether neither a flush nor a broadcast of an unmap was seen."""
        flushed = episode.flush_first != w.NEVER or episode.told_first != w.NEVER
        return episode.unmapped and not flushed

    def missed_unmap(self, hold: Hold) -> None:
        """A map that another one replaced, or that has no unmap: a loss may have hidden that, so
        that what was taken for luck is that one's flush."""
        if not self.losses.all:
            return
        for episode in hold.all():
            if episode.unmapped and not episode.replaced:
                continue
            begin, end = episode.map_first, hold.close
            if episode.replaced:
                end = episode.unmap_first
            if not self.losses.hidden_between(UNMAPS, hold.cpu, begin, end):
                continue
            if episode.replaced:
                episode.unmap_first = episode.read_first if episode.read_seen else begin
                episode.clear_pos_first = episode.map_pos
                episode.unmap_lost = True
            if episode.flush_first != w.NEVER or episode.waiting_flush:
                episode.unmap_flush = w.MAYBE
            if self.facts.hidden_unmap & w.BROADCAST_AFTER_CLEAR or episode.tell_seen:
                episode.broadcast = w.MAYBE
            elif self.facts.hidden_unmap & w.PAGE_AFTER_CLEAR:
                episode.unmap_flush = w.MAYBE

    def remember_own(self, state: SlotState, hold: Hold, episode: Episode, cell: Cell) -> None:
        """This CPU's own episode: what it invalidated, and what it left."""
        if episode.map_flush == w.SURE and self.outlasts(hold, episode.map_flush_first):
            self.since_surely(hold, episode.map_flush_first, cell)
        if episode.map_flush != w.NO or episode.pre_first != w.NEVER:
            self.since_maybe(hold, cell)
        cell.any_own = True
        cell.own_maybe.add(episode, False)
        if episode.frame != w.UNKNOWN_FRAME:
            cell.own_surely.add(episode, False)
        if episode.unmap_flush == w.SURE and self.outlasts(hold, episode.flush_first):
            self.since_surely(hold, episode.unmap_first, cell)
        elif episode.broadcast == w.SURE and self.outlasts(hold, episode.told_first):
            self.since_surely(hold, episode.unmap_first, cell, told=True)
        if episode.unmap_flush != w.NO or episode.broadcast != w.NO:
            self.since_maybe(hold, cell)

    def outlasts(self, hold: Hold, flush: int) -> bool:
        """Whether what a hold surely flushed no earlier than this stays so: a hold that overlaps
        it may load its own translation until that is cleared."""
        return not hold.inconsistent or (flush != w.NEVER and flush > hold.beside_last)

    def since_surely(self, hold: Hold, at: int, cell: Cell, told: bool = False) -> None:
        since = cell.surely
        since.known, since.hold, since.at = True, hold, at
        since.begin_last, since.end_first = hold.begin_last, hold.end_first
        cell.start_open = False
        cell.own_maybe.clear()
        self.drop_before(cell.other_maybe, hold)
        if not told:  # what a broadcast covers was a threat all the same
            cell.any_own = False
            if hold.end_first > cell.any_other:
                cell.any_other = w.NOWHERE

    def since_maybe(self, hold: Hold, cell: Cell) -> None:
        since = cell.maybe
        since.known, since.hold, since.end_pos = True, hold, hold.end_pos
        since.begin_last, since.end_first = hold.begin_last, hold.end_first
        if hold.inconsistent:
            since.begin_last = latest(hold)  # what overlaps it may be covered
        cell.own_surely.clear()
        self.keep_behind(cell.other_surely, hold)

    def retire(self, state: SlotState, following: Hold | None, mark: int) -> None:
        """Give every CPU what holds left that surely precede all that is not judged yet."""
        window, error = state.window, self.facts.error
        next_map = following.map_first if following is not None else mark
        kept = 0
        for i, hold in enumerate(window):
            last = max(hold.begin_last, hold.end_first)
            for index in range(hold.count):
                episode = hold.at(index)
                if episode.unmap_over != w.NEVER:
                    last = max(last, episode.unmap_over)  # its use may last so long
            if next_map != w.NEVER and last + error >= next_map:
                window[kept] = hold
                kept += 1
                continue
            after = window[i + 1] if i + 1 < len(window) else following
            if (
                after is not None
                and after.cpu != hold.cpu
                and not state.no_lock
                and not self.may_precede(after, hold)
            ):
                # The lock: its clears are over before the next hold begins.
                latest_clear = after.begin_last + self.clocks.error(after.cpu, hold.cpu)
                for index in range(hold.count):
                    episode = hold.at(index)
                    episode.clear_last = min(episode.clear_last, latest_clear)
            self.hand_out(state, hold)
        if kept < len(window):
            del window[kept:]

    def hand_out(self, state: SlotState, hold: Hold) -> None:
        """Every other CPU may hold now what this hold left."""
        mine = self.cell_of(state, hold.cpu)
        mine.ended = max(mine.ended, latest(hold))
        mine.began = max(mine.began, hold.end_first)
        if hold.told != w.NO:
            mine.told_begin = max(mine.told_begin, hold.begin_last)
            state.told_begin = max(state.told_begin, hold.begin_last)
        if hold.all_told:
            state.told_end = max(state.told_end, hold.end_first)
        surely = hold.told != w.NO or not self.told_behind(state, hold)
        for cell in state.cells:
            if cell.mapped and cell.cpu != hold.cpu:
                self.give(cell, hold, surely)
        self.give(state.untold, hold, surely)
        mine.begun = max(mine.begun, hold.begin_last)
        hold.forget()  # nothing else will ask

    def give(self, cell: Cell, hold: Hold, surely: bool) -> None:
        """One CPU takes what another's hold left, where no broadcast surely covers it, and what
        that told it to drop. *surely*: no other hold's broadcast may cover it either."""
        if hold.told == w.SURE and not hold.inconsistent:
            cell.start_open = False
            self.drop_before(cell.own_maybe, hold)
            self.drop_before(cell.other_maybe, hold)
        if hold.told != w.NO:
            self.keep_behind(cell.own_surely, hold)
            self.keep_behind(cell.other_surely, hold)
        error = self.clocks.error(cell.cpu, hold.cpu)
        since = cell.surely  # NOWHERE: there is none
        if since.end_first <= hold.begin_last + error:
            cell.any_other = max(cell.any_other, hold.begin_last + error)
            for index in range(hold.told_index + 1, hold.count):
                cell.other_maybe.add(hold.at(index), self.clocks.pairs)
        since = cell.maybe
        if surely and (not since.known or hold.end_first > since.begin_last + error):
            for index in range(hold.told_index_maybe + 1, hold.count):
                one = hold.at(index)
                if one.frame != w.UNKNOWN_FRAME:
                    cell.other_surely.add(one, self.clocks.pairs)

    def told_behind(self, state: SlotState, hold: Hold) -> bool:
        """Whether a hold that may have told all CPUs, and was handed out, may lie behind this."""
        if hold.end_first > state.told_begin + self.clocks.largest:
            return False  # as nearly always
        for cell in state.cells:
            if cell.told_begin == w.NOWHERE:
                continue
            if hold.end_first <= cell.told_begin + self.clocks.error(cell.cpu, hold.cpu):
                return True
        return False

    def drop_before(self, threats: Newest, hold: Hold) -> None:
        """Drop what was surely left before a hold."""
        for i in range(threats.count - 1, -1, -1):
            left = threats.at(i).hold
            error = self.clocks.error(left.cpu, hold.cpu)
            if left.cpu == hold.cpu or hold.end_first > left.begin_last + error:
                threats.drop(i)

    def keep_behind(self, threats: Newest, hold: Hold) -> None:
        """Keep only what was surely left after a hold."""
        for i in range(threats.count - 1, -1, -1):
            left = threats.at(i).hold
            if left.end_first <= hold.begin_last + self.clocks.error(left.cpu, hold.cpu):
                threats.drop(i)

    def all_shot(self, state: SlotState, hold: Hold) -> None:
        """Note which of a hold's episodes were told to all, shootdowns by hand included."""
        if hold.told_known:
            return
        hold.told_known = True
        self.missed_unmap(hold)
        for index in range(hold.count):
            episode = hold.at(index)
            told = episode.broadcast
            if told != w.SURE and state.shots and len(self.facts.cpus) > 1:
                told = max(told, self.shot_down(state, hold, episode))
            if told == w.SURE:
                hold.told_index = index
            if told != w.NO:
                hold.told_index_maybe = index
        last = hold.count - 1
        if hold.told_index >= 0:
            hold.told = w.SURE
        elif hold.told_index_maybe >= 0:
            hold.told = w.MAYBE
        hold.all_told = hold.told_index == last

    def shot_down(self, state: SlotState, hold: Hold, episode: Episode) -> int:
        """Whether every other CPU invalidated exactly this page during the unmap.

        Nobody else flushes a GHES page: the code that does has cleared it first.
        """
        result, since = w.SURE, episode.unmap_first
        if not episode.unmapped:
            # It may be missed, wherever behind the map.
            if not self.losses.hidden_between(UNMAPS, hold.cpu, episode.map_first, hold.close):
                return w.NO
            result, since = w.MAYBE, episode.map_first
        following = self.next_begin(state, hold)
        for number in self.facts.cpus:
            if number != hold.cpu and result != w.NO:
                result = min(
                    result, self.shot_by(state, hold.cpu, number, episode, following, since)
                )
        return result

    def shot_by(
        self,
        state: SlotState,
        sender: int,
        number: int,
        episode: Episode,
        following: int,
        since: int,
    ) -> int:
        """Whether one CPU did so after *since* and before the *following* hold begins."""
        until = answered(episode)
        bounded = until != w.NEVER  # else any later one may be its answer
        error, found = self.clocks.error(number, sender), w.NO
        for shot in state.shots:
            if shot.cpu != number:
                continue
            last = shot.last
            if (
                bounded
                and not shot.perhaps_own
                and last != w.NEVER
                and shot.first - error > since
                and last + error < until
                and last + self.facts.error < following
            ):
                return w.SURE
            if (last == w.NEVER or last + error >= since) and (
                shot.first - error <= until and shot.first - self.facts.error <= following
            ):
                found = w.MAYBE
        return found

    def shot_unseen(self, state: SlotState, hold: Hold, episode: Episode) -> bool:
        """Whether all others may have, where losses hid it."""
        unseen = False
        following = self.next_begin(state, hold)
        until = min(answered(episode), following)
        for number in self.facts.cpus:
            if number == hold.cpu:
                continue
            error = self.clocks.error(number, hold.cpu)
            first, last = episode.unmap_first - error, until if until == w.NEVER else until + error
            page = 1 << w.K_INV_PAGE
            hidden = self.losses.hidden_between(page, number, first, last)
            if hidden or self.losses.in_flight(page, number, first, last) != w.NOWHERE:
                unseen = True
            elif (
                self.shot_by(state, hold.cpu, number, episode, following, episode.unmap_first)
                == w.NO
            ):
                return False
        return unseen

    def next_begin(self, state: SlotState, hold: Hold) -> int:
        """When the slot was mapped next: the lock is free then, so what belongs to the unmap of
        this hold is over."""
        found = w.NEVER
        for other in state.window:
            if other.map_first > hold.end_first:
                found = min(found, other.map_first)
        holds, first, behind = state.holds, 0, len(state.holds)
        while first < behind:  # These are in the order of their maps.
            middle = (first + behind) // 2
            other = holds[middle]
            if other.map_first > hold.end_first:
                found, behind = min(found, other.map_first), middle
            else:
                first = middle + 1
        return found


def answered(episode: Episode) -> int:
    """When an unmap's code has what it asked of other CPUs."""
    if episode.unmap_over != w.NEVER:
        return episode.unmap_over
    return episode.clear_last if episode.flush_first == w.NEVER else episode.flush_last


def cleared(hold: Hold) -> int:
    """When the last of a hold's translations is surely cleared."""
    return min(max([episode.clear_last for episode in hold.all()]), hold.close)


def latest(hold: Hold) -> int:
    """The latest end of a hold's effects."""
    found = hold.end_first
    for index in range(hold.count):
        episode = hold.at(index)
        found = max(found, episode.clear_last)
        if episode.flush_first != w.NEVER:
            found = max(found, episode.flush_last)
        if episode.told_first != w.NEVER and episode.told_last != w.NEVER:
            found = max(found, episode.told_last)
    return hold.close if hold.open_end else min(found, hold.close)
