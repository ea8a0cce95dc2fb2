# SPDX-License-Identifier: Apache-2.0
"""One slot's episodes and lock holds, out of the events of a step.

An *episode* is one map...unmap of one slot by one CPU in one context. Here it is decided what
belongs to it (its lock hold, its own flushes, its access) and in which interval each effect
lies; whether it was safe is judged in `judge.py`. All is arithmetic over positions in program
order; see DESIGN "May hold" for which invalidations are the kernel's own and which are luck.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ghesrace.checker.model import (
    BROADCASTS,
    EPISODE,
    FORCE_CLOSE_NS,
    LOCAL_INVALIDATIONS,
    LUCK,
    Mark,
    Table,
)
from ghesrace.events import (
    ALL_CPUS,
    NEVER,
    NO_SLOT,
    PAGE_SIZE,
    Bools,
    Events,
    Flag,
    Ints,
    Kind,
    of_kind,
    pick,
    present,
)
from ghesrace.plan import Plan

from .order import LEVELS, ProgramOrder, Streams
from .search import first_between, inside_any, last_between

_ACCESSES = (Kind.READ, Kind.WRITE)
_HOLD_EDGES = (Kind.NOTIFY, Kind.NOTIFY_END, Kind.NMI_REF)
_CLOSERS = (*_HOLD_EDGES, Kind.COPY, Kind.COPY_END, Kind.MAP)


class SlotEvents:
    """The events of a step, asked slot by slot. `addresses` are the slots' as known so far."""

    def __init__(self, plan: Plan, s: Streams, addresses: list[int | None]) -> None:
        self.plan, self.addresses = plan, addresses
        self.p = ProgramOrder(s)
        self.ev = self.p.ev
        # A hold is cut where a handler is entered or left, but not at one that it calls.
        top = ~np.isin(self.ev["point"], _nested_handlers(plan))
        self.hold = self.p.last_edge(of_kind(self.p.kind, _HOLD_EDGES) & top)
        self.ends_traced = _traces(plan, Kind.COPY_END, Kind.UNMAP_END, Kind.NOTIFY_END)
        self.closers = np.flatnonzero(self.p.run | self._closing())
        self.slot_of = self._access_slots()

    def _closing(self) -> Bools:
        """What ends an unmap: the end of the copy around it; without one the unmap's own; or,
        where no end is traced, anything else."""
        if not self.ends_traced:
            return ~of_kind(self.p.kind, (*LOCAL_INVALIDATIONS, *BROADCASTS))
        closing, kind = of_kind(self.p.kind, _CLOSERS), self.p.kind
        ends = np.flatnonzero(kind == Kind.UNMAP_END)
        edges = np.flatnonzero(of_kind(self.p.kind, (Kind.COPY, Kind.COPY_END)))
        edge = last_between(edges, self.p.key_start[ends] - 1, ends)
        in_copy = (edge >= 0) & (kind[edge] == Kind.COPY) & _traces(self.plan, Kind.COPY_END)
        closing[ends[~in_copy]] = True
        return closing

    def _access_slots(self) -> npt.NDArray[np.int16]:
        """The slot of each event; an access names an address, or follows the map it is of."""
        slot = self.ev["slot"].astype(np.int16)
        access = of_kind(self.p.kind, _ACCESSES) & (slot == NO_SLOT)
        page = self.ev["addr"] & ~np.uint64(PAGE_SIZE - 1)
        for i, address in enumerate(self.addresses):
            if address is not None:
                slot[access & (page == np.uint64(address))] = i
        maps = np.flatnonzero(self.p.kind == Kind.MAP)
        lost = np.flatnonzero(access & (slot == NO_SLOT))
        if None in self.addresses and len(maps) and len(lost):
            m = maps[np.maximum(np.searchsorted(maps, lost) - 1, 0)]
            owner = self.ev["slot"][m]
            fits = (m < lost) & (self.p.key_end[m] == self.p.key_end[lost]) & (owner >= 0)
            unknown = np.array([a is None for a in self.addresses])
            fits[fits] &= unknown[owner[fits]]
            slot[lost[fits]] = owner[fits]
        return slot

    def addresses_with_accesses(self) -> list[int | None]:
        """The slots' addresses, those included that only an access of the page shows."""
        access = of_kind(self.p.kind, _ACCESSES)
        result = list(self.addresses)
        for i in (i for i, address in enumerate(self.addresses) if address is None):
            at = np.flatnonzero(access & (self.slot_of == i))
            result[i] = int(self.ev["addr"][at[0]]) & ~(PAGE_SIZE - 1) if len(at) else None
        return result

    def covers(self, slot: int) -> Bools:
        """Which invalidations, local or broadcast, cover the slot's page."""
        ev, kind = self.ev, self.p.kind
        everything = (kind == Kind.INV_ALL) | (kind == Kind.BCAST_ALL)
        address = self.addresses[slot]
        page = ev["addr"] & ~np.uint64(PAGE_SIZE - 1)
        named = (ev["slot"] == slot) & (kind == Kind.INV_PAGE)
        if address is None:
            return np.asarray(everything | named)
        v = np.uint64(address)
        # v - page wraps to a huge number where the range begins above v.
        ranged = (kind == Kind.INV_RANGE) | (kind == Kind.BCAST_RANGE)
        inside = ranged & (v - page < ev["size"] + (ev["addr"] - page))
        return np.asarray(everything | named | inside | ((kind == Kind.INV_PAGE) & (page == v)))

    def episodes(self, slot: int) -> tuple[Table, Table]:
        """The slot's EPISODEs in slot order, and the LUCK beside them."""
        ev, p, kind, mine = self.ev, self.p, self.p.kind, self.slot_of == slot
        maps = np.flatnonzero(mine & (kind == Kind.MAP))
        limit = np.minimum(np.append(maps[1:], len(ev)), p.key_end[maps])
        ep, marks = np.zeros(len(maps), EPISODE), np.zeros(len(maps), np.int64)
        ep["slot"], ep["cpu"], ep["ctx"] = slot, ev["cpu"][maps], ev["ctx"][maps]
        ep["pid"], ep["frame"] = ev["pid"][maps], ev["phys"][maps] & ~np.uint64(PAGE_SIZE - 1)
        ep["seq_map"], ep["t_map"] = p.seq[maps], p.t[maps]

        unmaps = first_between(np.flatnonzero(mine & (kind == Kind.UNMAP)), maps, limit)
        unmaps = self._not_after_next_map(maps, unmaps)
        unmapped = unmaps >= 0
        until = np.where(unmapped, unmaps, limit)
        marks[unmapped] |= Mark.UNMAPPED
        ep["t_unmap"] = np.where(unmapped, p.t[unmaps], NEVER)
        ep["t_clear"] = np.where(unmapped, p.after_t[unmaps], NEVER)
        ep["seq_clear"] = np.where(unmapped, p.after_seq[unmaps], NEVER)
        close, ep["seq_close"], ep["t_close"] = self._close(unmaps, until)

        access = first_between(np.flatnonzero(mine & of_kind(kind, _ACCESSES)), maps, until)
        marks |= self._access(ep, maps, access, until)

        covering = self.covers(slot)
        local = np.flatnonzero(covering & of_kind(kind, LOCAL_INVALIDATIONS))
        targeted = np.flatnonzero(covering & (kind == Kind.INV_PAGE))
        broadcasts = np.flatnonzero(covering & of_kind(kind, BROADCASTS))
        # A flush between map and access is the map's; with the access unseen it must be known
        # to lie inside the mapping function.
        inner = np.where(access >= 0, access, self._map_ends(slot, maps, until))
        flushed = first_between(local, maps, inner) >= 0
        marks[flushed | self._implies(maps, "page-after-set")] |= Mark.MAP_FLUSH
        tail = local if self.ends_traced else targeted
        unmap_flush = np.where(unmapped, first_between(tail, unmaps, close), -1)
        marks[(unmap_flush >= 0) | self._implies(unmaps, "page-after-clear")] |= Mark.UNMAP_FLUSH
        next_t = self._next_map(maps)
        told = self._in_time(
            np.where(unmapped, first_between(broadcasts, unmaps, close), -1), next_t
        )
        marks[told | self._implies(unmaps, "broadcast-after-clear")] |= Mark.BROADCAST
        told_here = inside_any(broadcasts, unmaps[told], close[told])
        flushes = covering.copy()
        flushes[unmap_flush[unmap_flush >= 0]] = False
        flushes[told_here] = False
        this_page = (kind == Kind.INV_PAGE) | (kind == Kind.BCAST_RANGE)
        pre = self._just_before(maps, np.flatnonzero(flushes), np.flatnonzero(flushes & this_page))
        marks[pre >= 0] |= Mark.PRE_FLUSH
        ep["t_pre"] = np.where(pre >= 0, p.t[pre], NEVER)
        whole_report = self.plan.slots[slot].lock == "report"
        # The lock is taken somewhere between the handler's entry and its first map.
        first_map = maps[np.searchsorted(maps, self.hold[maps])] if len(maps) else maps
        ep["seq_hold"] = p.seq[first_map if whole_report else maps]
        ep["seq_entry"], ep["t_hold"] = p.seq[self._entry(slot, maps)], p.t[self.hold[maps]]

        own = np.zeros(len(ev), np.bool_)
        own[pre[pre >= 0]] = True
        own[broadcasts] = False  # to others a broadcast is luck
        own[inside_any(local, maps, inner)] = True
        own[inside_any(tail, unmaps[unmapped], close[unmapped])] = True
        own[told_here] = True
        luck = self._luck(slot, np.flatnonzero(covering & ~own))
        marks[self._shot_down(ep, luck, next_t)] |= Mark.BROADCAST
        ep["marks"] = marks
        return pick(ep, np.lexsort((ep["seq_map"], ep["cpu"], ep["t_map"]))), luck

    def _entry(self, slot: int, maps: Ints) -> Ints:
        """Where the notification that each map is part of began.

        Where no probe sees the slot's handlers (inlined, or of a name that nobody knows), a
        context run can be many of them: then each copy, or map, is taken for one of its own.
        """
        handlers = [p for p in self.plan.probes if p.kind == Kind.NOTIFY.name]
        if any(handler.slot in (None, slot) for handler in handlers):
            return self.hold[maps]
        copies = np.flatnonzero(self.p.kind == Kind.COPY)
        copy = last_between(copies, self.hold[maps] - 1, maps)
        return np.where(copy >= 0, copy, maps)

    def _next_map(self, maps: Ints) -> Ints:
        """When the slot is mapped again after each map, on any CPU."""
        rank = np.argsort(self.p.t[maps], kind="stable")
        next_t = np.full(len(maps), NEVER, np.int64)
        next_t[rank[:-1]] = self.p.t[maps[rank[1:]]]
        return next_t

    def _not_after_next_map(self, maps: Ints, unmaps: Ints) -> Ints:
        """An unmap that follows another CPU's map of the slot does not clear this frame."""
        late = self.p.t[unmaps] - self.plan.clock_error_ns > self._next_map(maps)
        return np.where((unmaps >= 0) & late, -1, unmaps)

    def _in_time(self, broadcasts: Ints, next_t: Ints) -> Bools:
        """Which broadcasts (-1: none) are over before the slot is mapped again.

        One after the lock was dropped is not: the next CPU may map and read meanwhile.
        """
        ends = np.flatnonzero(self.p.kind == Kind.BCAST_END)
        done = first_between(ends, broadcasts, self.p.key_end[broadcasts])
        over = self.p.t[np.where(done >= 0, done, broadcasts)]
        return np.asarray((broadcasts >= 0) & (over - self.plan.clock_error_ns <= next_t))

    def _access(self, ep: Table, maps: Ints, access: Ints, until: Ints) -> Ints:
        """Fill in when the access happened, at the earliest and latest; return its marks."""
        p, seen = self.p, access >= 0
        marks = np.where(seen, int(Mark.ACCESS_SEEN), 0)
        marks[seen & (self.p.kind[access] == Kind.WRITE)] |= Mark.WRITE
        copies = np.flatnonzero(self.p.kind == Kind.COPY)
        copy = last_between(copies, self.hold[maps] - 1, maps)
        writes = (copy >= 0) & (self.ev["flags"][copy] & Flag.WRITE != 0)
        marks[~seen & writes] |= Mark.WRITE
        begin, end = np.where(seen, access, maps), np.where(seen, access, until)
        # Behind its own CPU and context come another's events: they bound nothing.
        end = np.where(end < p.key_end[maps], end, len(p.seq))
        ep["seq_read"], ep["t_read"] = p.seq[begin], p.t[begin]
        # A traced access takes effect before its context's next event, as any other.
        bound_seq = np.minimum(np.append(p.seq, NEVER)[end], p.lower_seq[maps])
        bound_t = np.minimum(np.append(p.t, NEVER)[end], p.lower_t[maps])
        ep["seq_read_end"] = np.where(seen, p.after_seq[begin], bound_seq)
        ep["t_read_end"] = np.where(seen, p.after_t[begin], bound_t)
        return marks

    def _map_ends(self, slot: int, maps: Ints, until: Ints) -> Ints:
        """Where a map without a traced access is known to be over.

        Its return; or, where the plan says that the function flushes inside ("flush-inside"),
        just behind the event that follows it.
        """
        ends = np.flatnonzero((self.ev["slot"] == slot) & (self.p.kind == Kind.MAP_END))
        found = first_between(ends, maps, until)
        inside = self._implies(maps, "flush-inside")
        return np.where(found >= 0, found, np.where(inside, np.minimum(maps + 2, until), maps))

    def _just_before(self, maps: Ints, local: Ints, targeted: Ints) -> Ints:
        """The last own flush before each map that no unmap explains: inside the copy, or of
        this page. A broadcast flushes the sender too (herdtools7 catalogue/aarch64-VMSA,
        MP+dmb.st+dsb.ld-tlbi-dsb-isb).

        Nobody but GHES code flushes a GHES page. Whether it came late enough to protect the
        episode is judged in judge.py.
        """
        entered = np.flatnonzero(of_kind(self.p.kind, (Kind.COPY, Kind.NOTIFY)))
        entry = last_between(entered, self.hold[maps] - 1, maps)
        pre = np.where(entry >= 0, last_between(local, entry, maps), -1)
        return np.maximum(pre, last_between(targeted, self.hold[maps] - 1, maps))

    def _close(self, unmaps: Ints, until: Ints) -> tuple[Ints, Ints, Ints]:
        """Where the unmap is over: program position, buffer position, time.

        Over means that the context went on to something else than invalidating, or that the
        CPU returned to a lower context.
        """
        p = self.p
        start = np.where(unmaps >= 0, unmaps, until - 1)
        end = p.key_end[start]
        at = first_between(self.closers, start, end)
        seen = at >= 0
        seq, t = np.where(seen, p.seq[at], NEVER), np.where(seen, p.t[at], NEVER)
        left = p.lower_seq[start] < seq
        seq = np.where(left, p.lower_seq[start], seq)
        t = np.where(left, p.lower_t[start], t)
        return np.where(seen, at, end), seq, t

    def _implies(self, at: Ints, what: str) -> Bools:
        points = [i for i, probe in enumerate(self.plan.probes) if what in probe.implies]
        return np.asarray(np.isin(self.ev["point"][at], points) & (at >= 0))

    def _luck(self, slot: int, at: Ints) -> Table:
        p = self.p
        luck = np.zeros(len(at), LUCK)
        luck["slot"], luck["ctx"], luck["kind"] = slot, self.ev["ctx"][at], self.p.kind[at]
        luck["seq"], luck["t"], luck["seq_end"] = p.seq[at], p.t[at], p.after_seq[at]
        luck["sender"] = self.ev["cpu"][at]
        broadcast = of_kind(self.p.kind[at], BROADCASTS)
        luck["cpu"] = np.where(broadcast, ALL_CPUS, self.ev["cpu"][at])
        # A broadcast is complete when the sender says so, not at its own local part of it.
        ends = np.flatnonzero(self.p.kind == Kind.BCAST_END)
        done = first_between(ends, at, p.key_end[at])
        t_done = np.where(done >= 0, p.t[done], NEVER)
        luck["t_end"] = np.where(broadcast, t_done, p.after_t[at])
        return luck

    def _shot_down(self, ep: Table, luck: Table, next_t: Ints) -> Bools:
        """Episodes during whose unmap every other CPU invalidated exactly this page, before
        the slot was mapped again (*next_t*).

        That is a broadcast made of local invalidations (Arm's "shootdown" litmus shape,
        MP.RT.EL1+dsb-shootdown-dsb+dsb-isb): nobody else flushes a GHES page.
        """
        targeted = luck[luck["kind"] == Kind.INV_PAGE]
        result = np.asarray((ep["t_unmap"] != NEVER) & (len(self.plan.cpus) > 1))
        for cpu in self.plan.cpus if len(targeted) else ():
            times = np.append(np.sort(targeted["t"][targeted["cpu"] == cpu]), NEVER)
            i = np.searchsorted(times[:-1], ep["t_unmap"], side="right")
            result &= (times[i] < np.minimum(ep["t_close"], next_t)) | (ep["cpu"] == cpu)
        return result & (len(targeted) > 0)

    def unfinished(self, waiting: Table) -> Events:
        """The tail to keep for the next step: each CPU's events from its first lock hold that
        is not known to be over, or that holds an episode of *waiting*."""
        p = self.p
        keep = np.zeros(len(self.ev), np.bool_)
        for cpu in present(self.ev["cpu"]):
            mine = self.ev["cpu"] == cpu
            begins = [NEVER, *p.seq[mine & np.isin(p.t, waiting["t_hold"][waiting["cpu"] == cpu])]]
            for level in LEVELS:
                here = np.flatnonzero(mine & (self.ev["ctx"] == level))
                if len(here) and p.lower_seq[here[-1]] == NEVER:
                    begins.append(p.seq[self.hold[here[-1]]])
            recent = p.t > p.t[mine].max() - FORCE_CLOSE_NS
            keep |= mine & recent & (p.seq >= min(begins))
        return pick(self.ev, keep)


def _nested_handlers(plan: Plan) -> list[int]:
    """Probe points that a notification handler calls inside its own lock hold."""
    return [i for i, probe in enumerate(plan.probes) if probe.point.startswith("notify-proc")]


def _traces(plan: Plan, *kinds: Kind) -> bool:
    return any(probe.kind == kind.name for probe in plan.probes for kind in kinds)
