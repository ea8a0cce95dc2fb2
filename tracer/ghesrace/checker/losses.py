# SPDX-License-Identifier: Apache-2.0
"""What a loss can have hidden, and what it touches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ghesrace.events import ALL_CPUS, NO_POINT, Bools, Cause, Events, Ints, Kind, present
from ghesrace.plan import Plan

MAP_KINDS = (Kind.MAP, Kind.UNMAP)
INVALIDATIONS = tuple(k for k in Kind if k.name.startswith(("INV_", "BCAST_")))


def hides(plan: Plan, losses: Events, kinds: Iterable[Kind]) -> Bools:
    """Which losses could have hidden an event of one of the *kinds*.

    An unmatched NMI names the reference's probe point, but hides whatever its handler did.
    """
    names = {kind.name for kind in kinds}
    harmless = [
        i for i, p in enumerate(plan.probes) if p.kind not in names and p.clear_kind not in names
    ]
    point = losses["point"]
    whole_handler = losses["aux"] == Cause.NMI_UNMATCHED
    return np.asarray((point == NO_POINT) | whole_handler | ~np.isin(point, harmless))


@dataclass(slots=True)
class Windows:
    """Windows (ns) in which something may be hidden, asked many at a time."""

    begin: Ints
    end: Ints

    @classmethod
    def of(cls, losses: Events, keep: Bools, error: int, older_end: int = -1) -> Windows:
        """Those of *losses* that *keep* names, wider by *error*; all before *older_end* too."""
        begin = np.append(losses["addr"][keep].astype(np.int64) - error, 0)
        end = np.append(losses["ts"][keep].astype(np.int64) + error, older_end)
        rank = np.argsort(begin, kind="stable")
        return cls(begin[rank], np.maximum.accumulate(end[rank]))

    def touch(self, begin: Ints, end: Ints) -> Bools:
        """Which of the windows [begin, end] intersect a loss."""
        last = np.searchsorted(self.begin, end, side="right") - 1
        return np.asarray((last >= 0) & (self.end[np.maximum(last, 0)] >= begin))


def touched(plan: Plan, losses: Events, cpus: Ints, begin: Ints, end: Ints) -> Bools:
    """Which of the windows [begin, end] a loss on their own CPU, or on one unknown, touches."""
    result = np.zeros(len(begin), np.bool_)
    for cpu in present(cpus):
        mine = cpus == cpu
        here = (losses["cpu"] == cpu) | (losses["cpu"] == ALL_CPUS)
        windows = Windows.of(losses, here, plan.clock_error_ns)
        result[mine] = windows.touch(begin[mine], end[mine])
    return result
