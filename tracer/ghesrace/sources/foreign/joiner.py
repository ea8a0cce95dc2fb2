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
)
from ghesrace.plan import Plan

from . import telling

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
        # Of each CPU, the slot of the last map in each context.
        self._last: dict[int, npt.NDArray[np.int64]] = {}
        self._scratch = np.empty(2 * telling.CONTEXTS, np.int64)
        self._by_return = any(
            p.kind == Kind.MAP.name and p.slot is None and not {"index", "addr"} & p.fields.keys()
            for p in plan.probes
        )
        self.oldest = 2**62

    def feed(self, events: Events, final: bool) -> Events:
        """Take a batch (EVENT, shape (n,)), which may be changed, and return what is complete,
        grouped by CPU, with the events of each CPU in their order. *final* says that no more comes,
        so that nothing is held back."""
        ready = [empty()]
        parts = _by_cpu(events)
        for cpu in sorted({*parts, *self._held} if final else parts):
            held = [self._held.pop(cpu)] if cpu in self._held else []
            pieces = [*held, *parts.get(cpu, [])]
            mine = pieces[0] if len(pieces) == 1 else joined(pieces)
            # A column of records is slow to walk: each is walked once.
            kind, slot = np.ascontiguousarray(mine["kind"]), mine["slot"].astype(np.int64)
            ctx, mappers = np.ascontiguousarray(mine["ctx"]), kind <= Kind.UNMAP_END
            self._by_page(mine, slot, np.flatnonzero(mappers & (slot == NO_SLOT)))
            last = self._last.setdefault(cpu, np.full(telling.CONTEXTS, NO_SLOT, np.int64))
            waits = self._by_return and not final
            columns = (kind.data, ctx.data, slot.data)
            cut = telling.tell(*columns, last.data, self._scratch.data, waits)
            mine["slot"] = slot
            if cut < len(mine) - _MAX_HELD:
                cut = len(mine)
            if cut < len(mine):
                self._held[cpu] = mine[cut:]
            ready.append(_slotted(mine[:cut], (mappers & (slot == NO_SLOT))[:cut]))
        held_back = [int(h["ts"].min()) for h in self._held.values()]
        self.oldest = min(held_back, default=2**62)
        return joined(ready)

    def _by_page(
        self, events: Events, slot: npt.NDArray[np.int64], at: npt.NDArray[np.intp]
    ) -> None:
        """Give the events at the indices *at* the *slot* that has their address."""
        page = events["addr"][at] & np.uint64(PAGE_MASK)
        for address, number in self._pages.items():
            slot[at[page == np.uint64(address)]] = number


def blinded(events: Events, points: list[int]) -> Events:
    """Return the events (EVENT, shape (n,)) with a LOSS (cause UNREAD) in the place of each
    event of the probe *points*, of which the trace does not say what they were about. It lasts from
    the event of its CPU before it.

    >>> events = empty(2)
    >>> events["ts"], events["kind"], events["point"] = (5, 8), Kind.INV_PAGE, (0, 1)
    >>> blinded(events, [1])["kind"].tolist() == [Kind.INV_PAGE, Kind.LOSS]
    True
    """
    if not points:
        return events
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


def _slotted(events: Events, lacks: npt.NDArray[np.bool_]) -> Events:
    """Return the events; *lacks* says which of them have no slot, as nothing told it. There is a
    loss in the place of each such map, and such returns and unmaps are left out."""
    if not lacks.any():
        return events
    unknown = lacks & (events["kind"] == Kind.MAP)
    maps = events[unknown]
    losses = blank(Kind.LOSS, len(maps))
    losses["begin"] = losses["end"] = maps["ts"]
    losses["cause"], losses["count"] = Cause.MISSED, 1
    for name in ("seq", "cpu", "point", "ctx"):
        losses[name] = maps[name]
    events[unknown] = as_events(losses)
    return pick(events, np.flatnonzero(unknown | ~lacks))


def needs_joining(plan: Plan) -> bool:
    """Return whether some map or unmap of *plan* does not name its slot.

    >>> needs_joining(Plan("x86_64", "6.12", (), ()))
    False
    """
    kinds = {Kind.MAP.name, Kind.UNMAP.name, Kind.MAP_END.name, Kind.UNMAP_END.name}
    return any(p.kind in kinds and p.slot is None and "index" not in p.fields for p in plan.probes)
