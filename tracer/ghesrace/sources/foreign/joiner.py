# SPDX-License-Identifier: Apache-2.0
"""Slots of foreign events that only another event tells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ghesrace.events import NO_SLOT, PAGE_MASK, Cause, Events, Kind, as_events, blank, empty
from ghesrace.plan import Plan

_MAX_HELD = 200_000  # events that wait for the address that a map returns


class Joiner:
    """Gives events the slot that only another event of the same CPU and context tells: a map whose
    address its return delivers, and a return or an unmap that names nothing.

    It holds back what follows a map without an address until its return is there. `oldest` (ns)
    is the first stamp that is held back, a time beyond all others if nothing is.
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
        """Take a batch (EVENT, shape (n,)); return what is complete, grouped by CPU, each CPU's
        events in their order. *final* says that no more comes: then nothing is held back."""
        ready = [empty()]
        for cpu in np.unique(events["cpu"]).tolist() if not final else self._all(events):
            mine = np.concatenate([self._held.pop(cpu, empty()), events[events["cpu"] == cpu]])
            self._by_page(mine)
            cut = len(mine)
            for ctx in np.unique(mine["ctx"]).tolist():
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
        return np.concatenate(ready)

    def _all(self, events: Events) -> list[int]:
        return sorted({*np.unique(events["cpu"]).tolist(), *self._held})

    def _by_page(self, events: Events) -> None:
        at = np.flatnonzero((events["slot"] == NO_SLOT) & (events["kind"] <= Kind.UNMAP_END))
        page = events["addr"][at] & np.uint64(PAGE_MASK)
        for address, slot in self._pages.items():
            events["slot"][at[page == np.uint64(address)]] = slot

    def _join(
        self, events: Events, rows: npt.NDArray[np.intp], key: tuple[int, int], final: bool
    ) -> int:
        """Join one context's map and unmap events *rows*; from where on to hold back."""
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
        # What names nothing belongs to the last map.
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


def _slotted(events: Events) -> Events:
    """The events, with a loss in the place of each map of which nothing told the slot."""
    unknown = (events["kind"] == Kind.MAP) & (events["slot"] == NO_SLOT)
    maps = events[unknown]
    losses = blank(Kind.LOSS, len(maps))
    losses["begin"] = losses["end"] = maps["ts"]
    losses["cause"], losses["count"] = Cause.MISSED, 1
    for name in ("seq", "cpu", "point", "ctx"):
        losses[name] = maps[name]
    events[unknown] = as_events(losses)
    mappers = (events["kind"] <= Kind.UNMAP_END) & (events["slot"] == NO_SLOT)
    kept: Events = events[~mappers]
    return kept


def needs_joining(plan: Plan) -> bool:
    """Whether some map or unmap of *plan* does not name its slot."""
    kinds = {Kind.MAP.name, Kind.UNMAP.name, Kind.MAP_END.name, Kind.UNMAP_END.name}
    return any(p.kind in kinds and p.slot is None and "index" not in p.fields for p in plan.probes)
