# SPDX-License-Identifier: Apache-2.0
"""Was each episode safe, and what saved it: DESIGN's "May hold, threats, classes".

Each question is asked twice. What *may* threaten an episode is every translation that may have
been live after the last invalidation that *surely* is structural; what *surely* threatens it is
what was live after the last one that *may* be. The same for the order of holds, for broadcasts
and for luck.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ghesrace import uncompiled as cython
from ghesrace.checker.core import words as w
from ghesrace.checker.core.classes import Threats, cause_of, class_of
from ghesrace.checker.core.facts import Facts
from ghesrace.checker.core.holds import Episode, Gap, Hold
from ghesrace.checker.core.leaving import cleared
from ghesrace.checker.core.losses import Losses
from ghesrace.checker.core.reader import Reader
from ghesrace.checker.core.state import Cell, SlotState
from ghesrace.checker.core.threats import Threatening
from ghesrace.checker.core.uses import last_stamp, meet, over
from ghesrace.checker.core.words import HANDLER, MAPS, MOST_IN_DOUBT, OWN, RESTS_ON, TOLD, UNMAPS

if not TYPE_CHECKING and cython.compiled:
    import cython  # which Cython reads, and Python never does


@cython.no_gc
@cython.freelist(4096)
@cython.cclass
class Judged:
    """One episode, judged, or one whose map is hidden (`episode.judged` is false). `threat` is the
    one that matters most, or None."""

    def __init__(self, episode: Episode) -> None:
        self.fill(episode)

    @staticmethod
    def of(episode: Episode) -> Judged:
        """The answers on one episode."""
        made = Judged.__new__(Judged)
        made.fill(episode)
        return made

    def fill(self, episode: Episode) -> None:
        self.episode = episode
        self.cls = w.FRESH
        self.why = w.CERTAIN
        self.latent = False
        self.handoff = False
        self.before = w.NEVER  # when the hold before unmapped the slot, ns
        self.threat: Episode | None = None
        self.never_safe = False  # uncertain, but unsafe in every world
        self.vulnerable = False
        self.bare = False  # vulnerable, if its hold begins with its copy or map
        self.exposes = False
        self.touched = False
        self.in_flight = False  # an invalidation that its hold interrupted may be hidden
        self.told_unseen = False  # a shootdown of what its hold left may be hidden
        self.assumes = False  # unsafe only if the clocks agree as they are assumed to


class Judge(Threatening):
    """Judges the holds of each slot in the order of their first map."""

    def __init__(
        self, facts: Facts, slots: list[SlotState], reader: Reader, losses: Losses
    ) -> None:
        super().__init__(facts, slots, reader, losses)
        self.not_safe: list[Judged] = []  # of what was judged, what is not surely safe
        self.hidden_maps = 0  # episodes that were judged and whose map is hidden
        self.overlaps: list[tuple[Episode, Episode, bool]] = []  # whether the clocks are assumed
        self.strays = 0  # accesses whose map and unmap are hidden
        self.uses = 0
        self.not_ordered = 0  # of them, by the clocks or for want of what a loss hid
        self.asked = Threats.of(0)  # the questions about the episode at hand
        self.beside: list[Hold] = []  # holds whose order with the one at hand is open

    def step(self, mark: int) -> list[Judged]:
        """Judge what *mark* (ns) has passed by the clock error; NEVER at the end."""
        judged: list[Judged] = []
        self.losses.settle(self.cpus, self.slots, mark)
        self.explain(mark)
        self.losses.conclude(self.slots, self.reader.gaps, mark)
        for state in self.slots:
            self.sweep(state, mark, judged)
            self.prune(state, mark)
        self.losses.forget(mark - w.FORCE_CLOSE_NS)
        return judged

    def explain(self, mark: int) -> None:
        """Ask which loss hid each map and unmap that is missing; one that none hid is a missed
        probe that nobody counted."""
        proven = self.facts.proven_unmap & (w.BROADCAST_AFTER_CLEAR | w.PAGE_AFTER_CLEAR)
        left: list[Gap] = []
        flushes: list[Gap] = []
        for gap in self.reader.gaps:
            if gap.end + self.facts.wait >= mark or gap.end >= self.losses.hold_back:
                left.append(gap)
            elif self.losses.spend(gap):
                if gap.episode is not None:
                    flushes.append(gap)
            elif gap.episode is not None:
                self.reader.no_flushes += 1
            elif gap.kinds == UNMAPS and not proven:
                self.reader.open_ends += 1
        self.flushes_missed(flushes)
        self.reader.gaps = left
        safe = self.facts.hidden_map & w.PAGE_AFTER_SET
        waiting = []
        for at in self.reader.strays:
            if at + self.facts.wait >= mark:
                waiting.append(at)
            elif not safe:
                self.strays += 1
        self.reader.strays = waiting

    def flushes_missed(self, gaps: list[Gap]) -> None:
        """Losses hid flushes inside of maps and unmaps, which their code holds: they took place. Of
        more flushes than a loss hid, nobody knows which did."""
        too_many = [gap for gap in gaps if gap.by is not None and gap.by.spent > gap.by.count]
        for gap in gaps:
            episode = gap.episode
            if episode is None or gap in too_many:
                continue
            if gap.of_map:
                episode.map_flush = w.SURE
            else:
                episode.unmap_flush = w.SURE
                episode.flush_first, episode.flush_last = gap.begin, gap.end
        for gap in too_many:
            self.reader.no_flushes += 1
            if gap.by is not None:
                gap.by.spent -= 1

    def sweep(self, state: SlotState, mark: int, judged: list[Judged]) -> None:
        """Judge one slot's holds, as far as nothing that may precede them is missing."""
        holds, error = state.holds, self.facts.error
        if not in_order(holds):
            holds.sort(key=_place)
        i = 0
        while i < len(holds):
            hold = holds[i]
            if not self.ready(hold, mark):
                break
            self.split(state, i)
            hold = holds[i]
            until, complete = i + 1, True
            reach = max(hold.begin_last, hold.end_first) + error
            while until < len(holds):
                other = holds[until]
                if other.map_first > reach:
                    break
                waits = other.cpu != hold.cpu and not self.ready(other, mark)
                if waits and self.may_yet_precede(other, hold):
                    complete = False
                    break
                until += 1
            if not complete:
                break
            self.judge(state, i, until, judged)
            i += 1
            state.window.append(hold)
            self.retire(state, holds[i] if i < len(holds) else None, mark)
        del holds[:i]

    def ready(self, hold: Hold, mark: int) -> bool:
        """Whether everything that bounds a hold has been delivered."""
        if not hold.closed:
            return False
        until = hold.close + self.facts.wait
        if mark != w.NEVER and (until >= mark or until >= self.losses.hold_back):
            return False
        state: SlotState = self.slots[hold.slot]
        if state.shots and mark != w.NEVER and self.answer_is_open(state, hold, mark):
            return False
        if not hold.prepared:
            hold.prepared = True
            self.prepare(hold)
        return True

    def may_yet_precede(self, one: Hold, other: Hold) -> bool:
        """Whether a hold of another CPU, of which more may come, can turn out to lie before one."""
        end = min(one.end_first, one.last().unmap_first)  # if a loss hid its flush
        return end <= other.begin_last + self.clocks.error(one.cpu, other.cpu)

    def answer_is_open(self, state: SlotState, hold: Hold, mark: int) -> bool:
        """Whether a flush on another CPU may yet be of that one's next map, or the answer to an
        unmap of this hold. Nobody waits for more than a second; it is no sure answer then."""
        for shot in state.shots:
            last = shot.last
            if shot.cpu == hold.cpu:
                continue
            if last != w.NEVER and last + self.clocks.error(shot.cpu, hold.cpu) < hold.map_first:
                continue
            cpu = self.cpus[shot.cpu]
            for level in cpu.levels:
                place = level.places[state.number]
                if place.pre_first != shot.first:
                    continue
                if shot.first + w.FORCE_CLOSE_NS > mark:
                    return True
                shot.perhaps_own = shot.perhaps_own or level.in_handler
        return False

    def prepare(self, hold: Hold) -> None:
        """Where a loss may have hidden the last unmap's own flush, what is taken for that may be
        another's, and lie outside of the hold; if none was seen, the hold may end with that. A page
        that its CPU mapped anew was mapped, and its lock held, until then, if no loss hid an
        unmap."""
        last = hold.last()
        if self.mapped_anew(last):
            hold.end_first = max(hold.end_first, last.unmap_first)
        elif self.lost_flush(last):
            hold.end_first = last.unmap_first
        elif self.losses.all and self.unflushed(last):
            first = last.unmap_first
            hold.open_end = self.losses.hidden_between(OWN | TOLD, hold.cpu, first, hold.close)

    def mapped_anew(self, episode: Episode) -> bool:
        """Whether a page was surely mapped until its CPU's next map, as no loss hid an unmap."""
        if not episode.replaced:
            return False
        first, last = episode.map_first, episode.unmap_first
        return not self.losses.hidden_between(UNMAPS, episode.hold.cpu, first, last)

    def split(self, state: SlotState, at: int) -> None:
        """Where a loss may have hidden that a handler was left, one hold may be several."""
        hold = state.holds[at]
        if hold.count < 2 or not self.losses.all:
            return
        first, last = hold.map_first, hold.last().map_first
        if not self.losses.hidden_between(HANDLER, hold.cpu, first, last):
            return
        pieces = []
        for episode in hold.all():
            piece = Hold.of(hold.cpu, hold.ctx, hold.slot)
            piece.add(episode)
            episode.hold = piece
            piece.map_first, piece.begin_last = episode.map_first, episode.map_last
            piece.entry, piece.close = hold.entry, hold.close
            piece.since_pos = hold.since_pos
            piece.pos_first = piece.end_pos = episode.map_pos
            piece.end_first = last_stamp(episode)
            piece.closed = True
            piece.prepared = True
            self.prepare(piece)
            pieces.append(piece)
        for before, after in itertools.pairwise(pieces):
            before.end_pos = after.pos_first - 1
        piece.end_pos = hold.end_pos
        # Other CPUs' holds may lie between the first piece, which is judged now, and the others.
        behind = sorted((*pieces[1:], *state.holds[at + 1 :]), key=_place)
        state.holds[at:] = (pieces[0], *behind)

    def judge(self, state: SlotState, at: int, until: int, judged: list[Judged]) -> None:
        """Judge the episodes of the hold *at* a place in its slot's; those up to *until* may lie
        before it. Note what they leave behind on their own CPU."""
        hold, others = state.holds[at], self.beside
        if others:
            del others[:]
        for other in state.window:
            self.set_beside(state, other, hold, others)
        for later in range(at + 1, until):
            self.set_beside(state, state.holds[later], hold, others)
        left = hold.at(0).before
        if left is not None and left.hold.inconsistent and self.mapped_anew(left):
            hold.inconsistent = True  # It goes on with what that one held.
            hold.beside_last = max(hold.beside_last, left.hold.beside_last)
        self.all_shot(state, hold)
        hold.touched = self.losses.touch(RESTS_ON, hold.cpu, hold.entry, hold.close)
        for index in range(hold.count):
            episode = hold.at(index)
            lost = episode.unmap_lost or episode.left_open
            if lost or not (episode.judged or episode.at_start):
                hold.touched = True  # by a missed probe, even if nothing counted that
        handoff = state.last_cpu >= 0 and state.last_cpu != hold.cpu
        before, state.last_cpu = state.last_unmap, hold.cpu
        last = hold.last()
        state.last_unmap = last.unmap_first if last.unmapped else w.NEVER
        cell = self.cell_of(state, hold.cpu)
        if not cell.mapped:
            self.inherit(state, cell)
        for index in range(hold.count):
            episode = hold.at(index)
            if self.wanted(episode) and self.complete(hold, episode):
                one = self.judge_episode(state, hold, index, cell, others)
                one.handoff, one.before = handoff and episode.judged, before
                handoff = handoff and not episode.judged
                judged.append(one)
                if not episode.judged:
                    self.hidden_maps += 1
                elif one.cls >= w.INCIDENTAL:
                    self.not_safe.append(one)
            episode.before = None  # else each would keep all that came before it
            self.remember_own(state, hold, episode, cell)
        cell.last_pos, cell.last_begin = hold.end_pos, hold.begin_last
        cell.last_ctx = hold.ctx
        self.uses += hold.count
        hold.done = True

    def set_beside(self, state: SlotState, other: Hold, hold: Hold, others: list[Hold]) -> None:
        """Compare one hold with another that may lie before it; *others* takes those that may."""
        apart = self.apart(other, hold)
        if other.done and (other.cpu != hold.cpu or not apart):
            self.meet(other, hold)
        if not apart:
            other.inconsistent = hold.inconsistent = state.no_lock = True
            error = self.clocks.error(other.cpu, hold.cpu)
            hold.beside_last = max(hold.beside_last, cleared(other) + error)
            other.beside_last = max(other.beside_last, cleared(hold) + error)
        elif other.cpu != hold.cpu and self.may_precede(other, hold):
            self.all_shot(state, other)
            others.append(other)

    def outlasts_others(self, state: SlotState, hold: Hold) -> None:
        """A use that is still mapped when the record ends keeps its lock until then: what another
        CPU mapped since contradicts that."""
        last = hold.last()
        if last.unmapped or self.losses.hidden_between(UNMAPS, hold.cpu, last.map_first, w.NEVER):
            return
        for other in state.holds:
            error = self.clocks.error(hold.cpu, other.cpu)
            if other.cpu != hold.cpu and other.map_first > last.map_first + error:
                hold.inconsistent = other.inconsistent = state.no_lock = True
                hold.beside_last = max(hold.beside_last, cleared(other) + error)
                other.beside_last = w.NEVER

    def wanted(self, episode: Episode) -> bool:
        """Whether an episode is to be judged: of a map that lies before the start nothing is said,
        and one that is hidden matters only if it may be unsafe."""
        return episode.judged or not episode.at_start or self.map_hidden(episode)

    def meet(self, one: Hold, other: Hold) -> None:
        """Which uses of two holds overlap, and of which is that open?"""
        error = self.clocks.error(one.cpu, other.cpu)
        if one.cpu != other.cpu and over(one.last()) + error < other.map_first:
            return  # as almost always
        for a in one.all():
            for b in other.all():
                met = meet(a, b, error)
                if met == w.NO:
                    continue
                if met == w.SURE and self.known(a) and self.known(b):
                    proven = self.facts.proven.error(one.cpu, other.cpu)
                    self.overlaps.append((a, b, meet(a, b, proven) != w.SURE))
                else:
                    self.not_ordered += (not a.unordered) + (not b.unordered)
                    a.unordered = b.unordered = True

    def known(self, use: Episode) -> bool:
        """Whether no loss may have hidden that a use was over."""
        if use.left_open or use.frame == w.UNKNOWN_FRAME:
            return False
        last = max(use.unmap_first, use.map_first) if use.unmapped else use.last_first
        return not self.losses.hidden_between(MAPS, use.hold.cpu, use.map_first, last)

    def complete(self, hold: Hold, episode: Episode) -> bool:
        """Whether an episode can be judged: the end of the stream may cut one off before the
        access."""
        if episode.unmapped or episode.left_open or episode.read_seen:
            return True
        return self.losses.hidden_between(UNMAPS, hold.cpu, episode.map_first, w.NEVER)

    def judge_episode(
        self, state: SlotState, hold: Hold, index: int, cell: Cell, others: list[Hold]
    ) -> Judged:
        """Ask every question of one episode."""
        episode = hold.at(index)
        one = Judged.of(episode)
        t = self.asked
        t.fill(episode.frame)
        t.flushed = self.flushed(state, hold, episode, cell, others)
        t.any = cell.any_own or cell.any_other != w.NOWHERE
        t.crowded = len(others) > MOST_IN_DOUBT
        if t.crowded:
            others = others[:MOST_IN_DOUBT]
        tellers = sure_tellers = others
        if others:
            tellers, sure_tellers = [], []
            for other in others:
                if other.told != w.NO:
                    tellers.append(other)
                if other.told == w.SURE and not self.may_precede(hold, other):
                    sure_tellers.append(other)
        for i in range(cell.own_maybe.count):
            self.maybe(t, state, hold, episode, cell.own_maybe.at(i), True, sure_tellers)
        for i in range(cell.other_maybe.count):
            self.maybe(t, state, hold, episode, cell.other_maybe.at(i), False, sure_tellers)
        for i in range(cell.own_surely.count):
            self.surely(t, state, hold, episode, cell.own_surely.at(i), True, cell, tellers)
        for i in range(cell.other_surely.count):
            self.surely(t, state, hold, episode, cell.other_surely.at(i), False, cell, tellers)
        for other in others:
            if self.maybe_since(other, cell, hold):
                if other.told_index_maybe >= 0:
                    t.any = True
                for i in range(other.told_index + 1, other.count):
                    self.maybe(t, state, hold, episode, other.at(i), False, sure_tellers)
            if not self.may_precede(hold, other) and self.surely_since(other, cell, hold):
                for i in range(other.told_index_maybe + 1, other.count):
                    self.surely(t, state, hold, episode, other.at(i), False, cell, tellers)
        self.hidden(t, state, hold, episode, cell, sure_tellers)
        t.inconsistent = hold.inconsistent
        one.cls = recorded = class_of(t)
        if cell.start_open and not sure_tellers:
            t.unknown(w.START)
            one.cls = class_of(t)
        if one.cls == w.NONE and self.facts.forced_broadcast and t.threat_flushed:
            one.cls = w.INCIDENTAL
        if one.cls == w.NONE and self.facts.pti:
            one.cls, t.pti = w.UNCERTAIN, True
        if one.cls == w.UNCERTAIN:
            one.why = cause_of(t) if recorded == w.UNCERTAIN or t.pti else w.START
            one.never_safe = t.harmful_surely and t.flushed == w.NO and not t.inconsistent
        unsafe = one.cls in (w.NONE, w.INCIDENTAL) or one.never_safe
        if self.facts.assumed and unsafe and t.threat_surely is not None:
            one.assumes = not self.stands(state, hold, episode, cell, t.threat_surely, one.cls)
        one.threat = t.threat_surely
        one.latent = t.latent
        one.touched = hold.touched
        one.in_flight = self.interrupts(hold)
        if state.no_lock:
            return one  # Holds that have no order can't be put into another one.
        # One whose unmap was missed left as much behind, but its hold is touched by that.
        over = episode.unmapped or episode.left_open
        one.exposes = over and hold.told_index_maybe < index
        one.told_unseen = one.exposes and self.told_unseen(state, hold, index)
        one.bare = self.vulnerable(state, hold, index, cell)
        # Where nobody knows where holds begin, an earlier flush may be in this one.
        known = hold.bounded or not cell.maybe.known or cell.last_ctx != hold.ctx
        one.vulnerable = one.bare and known
        return one

    def told_unseen(self, state: SlotState, hold: Hold, index: int) -> bool:
        """Whether a loss may have hidden that other CPUs were shot down, one by one, when this
        episode of a hold was unmapped, or a later one."""
        if not self.losses.all or len(self.facts.cpus) < 2:
            return False
        for later in range(index, hold.count):
            episode = hold.at(later)
            if episode.unmapped and self.shot_unseen(state, hold, episode):
                return True
        return False

    def interrupts(self, hold: Hold) -> bool:
        """Whether what a hold interrupted may have been about to invalidate, unseen."""
        if hold.ctx == w.TASK or not self.losses.all:
            return False
        return self.losses.in_flight(OWN | TOLD, hold.cpu, hold.entry, hold.close) != w.NOWHERE

    def prune(self, state: SlotState, mark: int) -> None:
        """Forget broadcasts and shots that are older than all that is not judged."""
        if mark == w.NEVER:
            return
        oldest = mark
        for hold in state.holds:
            oldest = min(oldest, hold.entry)
        for hold in state.window:
            oldest = min(oldest, hold.entry)
        for cpu in self.cpus.values():
            for level in cpu.levels:
                lasts = level.active and level.in_handler
                if lasts and level.edge_t >= mark - w.FORCE_CLOSE_NS:
                    oldest = min(oldest, level.edge_t)
        oldest -= 2 * self.facts.wait
        state.shots[:] = [s for s in state.shots if s.last >= oldest]
        del state.shots[:-4096]
        keep = []
        for tell in state.tells:
            if tell.given_up and tell.first < oldest:
                state.old_last[tell.sender] = w.NEVER  # its end was missed: it may go on
            elif tell.last >= oldest:
                keep.append(tell)
            else:
                sender = tell.sender
                if tell.known:
                    newest = state.old_first.get(sender, w.NOWHERE)
                    state.old_first[sender] = max(newest, tell.first)
                newest = state.old_last.get(sender, w.NOWHERE)
                state.old_last[sender] = max(newest, tell.last)
        state.tells[:] = keep


def in_order(holds: list[Hold]) -> bool:
    """Whether these are in the order of their first map already, as they nearly always are."""
    for i in range(1, len(holds)):
        a, b = holds[i - 1], holds[i]
        if a.map_first > b.map_first or (a.map_first == b.map_first and _place(a) > _place(b)):
            return False
    return True


def _place(hold: Hold) -> tuple[int, int, int]:
    return hold.map_first, hold.cpu, hold.pos_first
