# SPDX-License-Identifier: Apache-2.0
"""What the core must know of a plan, as tables of plain numbers."""

from __future__ import annotations

from array import array

from ghesrace.checker.core import words as w
from ghesrace.checker.core.clocks import Clocks
from ghesrace.events import ALL_CPUS, Kind
from ghesrace.plan import Plan

_BITS = {
    "page-after-set": w.PAGE_AFTER_SET,
    "page-after-clear": w.PAGE_AFTER_CLEAR,
    "broadcast-after-clear": w.BROADCAST_AFTER_CLEAR,
    "flush-inside": w.FLUSH_INSIDE,
    "may-allocate": w.MAY_ALLOCATE,
    "may-free": w.MAY_FREE,
    "unmaps-status": w.UNMAPS_STATUS,
}


class Facts:
    """A plan's tables, by probe point; the last row stands for an event that names none."""

    def __init__(self, plan: Plan) -> None:
        probes = plan.probes
        self.clocks = Clocks(plan)
        self.error = self.clocks.largest  # for all CPUs at once
        self.proven = Clocks(plan, proven=True)
        # Whether less is assumed than was proven, and until when to wait for what that leaves open.
        self.assumed = self.proven.general > self.clocks.general and len(plan.cpus) != 1
        self.wait = self.error
        if self.assumed and self.proven.largest < w.FORCE_CLOSE_NS:
            self.wait = self.proven.largest
        self.pti = plan.pti
        self.forced_broadcast = plan.forced_broadcast
        self.cpus = list(plan.cpus)
        self.rows = len(probes)  # of all probe points; the one behind them stands for none
        self.implies = array("q", [0] * (self.rows + 1))
        self.nested = array("q", [0] * (self.rows + 1))
        self.hides = [0] * (len(probes) + 1)  # kinds that a loss of this probe hides, as bits
        self.traced = 0
        for i, probe in enumerate(probes):
            for word in probe.implies:
                self.implies[i] |= _BITS.get(word, 0)
            self.nested[i] = probe.point.startswith("notify-proc")
            kinds = {probe.kind, probe.clear_kind or probe.kind}
            self.hides[i] = sum(1 << int(Kind[kind]) for kind in kinds)
            self.traced |= self.hides[i]
        self.hides[len(probes)] = self.traced
        unmaps = [i for i in range(len(probes)) if self.hides[i] >> w.K_UNMAP & 1]
        self.hidden_unmap = self.implies[unmaps[0]] if unmaps else 0
        for i in unmaps:
            self.hidden_unmap &= self.implies[i]
        # What the code of each does for sure, so that an unmap that nobody saw did it, too.
        self.proven_unmap = self.hidden_unmap & _proven(plan, unmaps)
        maps = [i for i in range(len(probes)) if self.hides[i] >> w.K_MAP & 1]
        self.hidden_map = self.implies[maps[0]] if maps else 0
        for i in maps:
            self.hidden_map &= self.implies[i]
        # A flush that the code of every map and unmap holds took place, even if it was not seen.
        inside = self.hidden_map & self.proven_unmap & _proven(plan, maps)
        self.flush_proven = bool(inside & w.FLUSH_INSIDE)
        handled = [
            any(probe.kind == Kind.NOTIFY.name and probe.slot in (None, slot) for probe in probes)
            for slot in range(len(plan.slots))
        ]
        self.handlers = array("q", handled)
        names = sorted({probe.symbol for probe in probes})
        self.symbols = [names.index(probe.symbol) for probe in probes] + [-1]
        groups = [(slot.family, slot.module) for slot in plan.slots]
        self.groups = [groups.index(group) for group in groups]
        self.bcast_end_traced = bool(self.traced >> w.K_BCAST_END & 1)

    def row(self, point: int) -> int:
        """The row of a probe point in these tables."""
        return point if point < self.rows else self.rows

    def implied(self, point: int) -> int:
        """What the symbol of a probe point is known to do besides, as bits."""
        return self.implies[self.row(point)]

    def is_nested(self, point: int) -> bool:
        """Whether a handler is one that another handler calls."""
        return self.nested[self.row(point)] != 0

    def has_handler(self, slot: int) -> bool:
        """Whether the handlers that map a slot are traced."""
        return self.handlers[slot] != 0


def _proven(plan: Plan, points: list[int]) -> int:
    """What the code of each of these probe points holds, as bits."""
    found = sum(_BITS.values())
    for i in points:
        for word, bit in _BITS.items():
            if not plan.proves(plan.probes[i], word):
                found &= ~bit
    return found


__all__ = ["ALL_CPUS", "Facts"]
