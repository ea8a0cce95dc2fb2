# SPDX-License-Identifier: Apache-2.0
"""This module finds the slots of those foreign events whose slot only another event tells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ghesrace.events import (
    NO_SLOT,
    PAGE_MASK,
    Cause,
    Events,
    Kind,
    as_events,
    blank,
    empty,
    joined,
    pick,
    present,
)
from ghesrace.plan import Plan

_MAX_HELD = 200_000  # events of a CPU that wait for the address that a map returns


class Joiner:
    """A joiner gives events the slot that only another event of the same CPU and context tells.
    Such events are a map whose address is known at its return, and a return or an unmap that names
    no slot.

    The joiner holds back what follows a map without an address until the map's return is there.
    `oldest` (ns) is the earliest stamp that is held back, or 2**62 if nothing is.

    >>> from ghesrace.plan import FieldOf, Probe, Slot
    >>> probes = (Probe("m", "MAP", "f", "kprobe", {"phys": FieldOf("pa")}),)
    >>> joiner = Joiner(Plan("x86_64", "6.12", (Slot("a", None, 0x5000, "page"),), probes))
    >>> events = empty(2)
    >>> events["kind"], events["ts"], events["slot"] = (Kind.MAP, Kind.MAP_END), (1, 2), NO_SLOT
    >>> events["addr"] = (0, 0x5000)  # the return tells the address, and so the slot
    >>> joiner.feed(events, final=True)["slot"].tolist()
    [0, 0]
    """

    def __init__(self, plan: Plan) -> None:
        self._pages = {s.address: n for n, s in enumerate(plan.slots) if s.address is not None}
        self._held: dict[int, Events] = {}
        self._last: dict[tuple[int, int], int] = {}  # (cpu, context) -> slot of its last map
        self._by_return = any(
            p.kind == Kind.MAP.name and p.slot is None and not {"index", "addr"} & p.fields.keys()
            for p in plan.probes
        )
        self.oldest = 2**62

    def feed(self, events: Events, final: bool) -> Events:
        """Take a batch (EVENT, shape (n,)) and return what is complete, grouped by CPU, with the
        events of each CPU in their order. *final* says that no more comes, so that nothing is held
        back."""
        ready = [empty()]
        parts = _by_cpu(events)
        for cpu in sorted({*parts, *self._held} if final else parts):
            mine = joined([self._held.pop(cpu, empty()), *parts.get(cpu, [])])
            self._by_page(mine)
            cut = len(mine)
            for ctx in present(mine["ctx"]).tolist():
                rows = np.flatnonzero(
                    (mine["ctx"] == ctx) & (mine["kind"] <= Kind.UNMAP_END) & (mine["kind"] > 0)
                )
                cut = min(cut, self._join(mine, rows, (cpu, ctx), final))
            if cut < len(mine) - _MAX_HELD:
                cut = len(mine)
            if cut < len(mine):
                self._held[cpu] = mine[cut:]
            ready.append(_slotted(mine[:cut]))
        held = [int(h["ts"].min()) for h in self._held.values()]
        self.oldest = min(held, default=2**62)
        return joined(ready)

    def _by_page(self, events: Events) -> None:
        at = np.flatnonzero((events["slot"] == NO_SLOT) & (events["kind"] <= Kind.UNMAP_END))
        page = events["addr"][at] & np.uint64(PAGE_MASK)
        for address, slot in self._pages.items():
            events["slot"][at[page == np.uint64(address)]] = slot

    def _join(
        self, events: Events, rows: npt.NDArray[np.intp], key: tuple[int, int], final: bool
    ) -> int:
        """Join the map and unmap events of one context, which are *rows* of *events*. Return the
        index of the first event to be held back, or the number of events if there is none."""
        if not len(rows):
            return len(events)
        kind, slot = events["kind"][rows], events["slot"][rows].astype(np.int64)
        maps = kind == Kind.MAP
        at = np.arange(len(rows))
        # A map takes its slot from what follows it, before the next map.
        following = np.minimum.accumulate(np.where(~maps & (slot >= 0), at, len(rows))[::-1])[::-1]
        next_map = np.append(np.minimum.accumulate(np.where(maps, at, len(rows))[::-1])[::-1], 0)
        open_maps = np.flatnonzero(maps & (slot == NO_SLOT))
        told = following[open_maps]
        before = np.append(next_map[1:], len(rows))[open_maps] if len(open_maps) else told
        good = (told < len(rows)) & (told < before)
        slot[open_maps[good]] = slot[told[good]]
        # An event that names no slot belongs to the last map.
        source = np.maximum.accumulate(np.where(maps, at, -1))
        blank = np.flatnonzero(~maps & (slot == NO_SLOT))
        known = np.where(source[blank] >= 0, slot[source[blank]], self._last.get(key, NO_SLOT))
        slot[blank] = known
        events["slot"][rows] = slot
        waiting = open_maps[~good & (told >= len(rows))]
        if len(waiting) and not final and self._by_return and not maps[waiting[-1] + 1 :].any():
            return int(rows[waiting[-1]])
        last = np.flatnonzero(maps)
        if len(last):
            self._last[key] = int(slot[last[-1]])
        return len(events)


def blinded(events: Events, points: list[int]) -> Events:
    """Return the events (EVENT, shape (n,)) with a LOSS (cause UNREAD) in the place of each
    event of the probe *points*, of which the trace does not say what they were about. It lasts from
    the event of its CPU before it.

    >>> events = empty(2)
    >>> events["ts"], events["kind"], events["point"] = (5, 8), Kind.INV_PAGE, (0, 1)
    >>> blinded(events, [1])["kind"].tolist() == [Kind.INV_PAGE, Kind.LOSS]
    True
    """
    rows = np.flatnonzero(np.isin(events["point"], points) & (events["kind"] < Kind.LOSS))
    if not len(rows):
        return events
    losses = blank(Kind.LOSS, len(rows))
    before = np.maximum(rows - 1, 0)
    same = events["cpu"][before] == events["cpu"][rows]
    begin = np.where(same, events["ts"][before], events["ts"][rows])
    losses["begin"] = np.minimum(begin, events["ts"][rows])
    losses["end"] = events["ts"][rows]
    losses["cause"], losses["count"] = Cause.UNREAD, 1
    for name in ("seq", "cpu", "point", "ctx"):
        losses[name] = events[name][rows]
    made = events.copy()
    made[rows] = as_events(losses)
    return made


def _by_cpu(events: Events) -> dict[int, list[Events]]:
    """Return the events of each CPU; most often they stand together."""
    if not len(events):
        return {}
    found: dict[int, list[Events]] = {}
    cuts = (np.flatnonzero(events["cpu"][1:] != events["cpu"][:-1]) + 1).tolist()
    for begin, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        found.setdefault(int(events["cpu"][begin]), []).append(pick(events, slice(begin, end)))
    return found


def _slotted(events: Events) -> Events:
    """Return the events, with a loss in the place of each map whose slot nothing told, and without
    the returns and unmaps whose slot nothing told."""
    mappers = (events["kind"] <= Kind.UNMAP_END) & (events["slot"] == NO_SLOT)
    if not mappers.any():
        return events
    unknown = mappers & (events["kind"] == Kind.MAP)
    maps = events[unknown]
    losses = blank(Kind.LOSS, len(maps))
    losses["begin"] = losses["end"] = maps["ts"]
    losses["cause"], losses["count"] = Cause.MISSED, 1
    for name in ("seq", "cpu", "point", "ctx"):
        losses[name] = maps[name]
    events[unknown] = as_events(losses)
    mappers = (events["kind"] <= Kind.UNMAP_END) & (events["slot"] == NO_SLOT)
    return pick(events, np.flatnonzero(~mappers))


def needs_joining(plan: Plan) -> bool:
    """Return whether some map or unmap of *plan* does not name its slot.

    >>> needs_joining(Plan("x86_64", "6.12", (), ()))
    False
    """
    kinds = {Kind.MAP.name, Kind.UNMAP.name, Kind.MAP_END.name, Kind.UNMAP_END.name}
    return any(p.kind in kinds and p.slot is None and "index" not in p.fields for p in plan.probes)
