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
    """Which of *losses* (LOSS, shape (n,)) could have hidden an event of one of the *kinds*: a mask
    of shape (n,).

    An unmatched NMI names the reference's probe point, but hides whatever its handler did.
    """
    names = {kind.name for kind in kinds}
    harmless = [
        i for i, p in enumerate(plan.probes) if p.kind not in names and p.clear_kind not in names
    ]
    point = losses["point"]
    whole_handler = losses["cause"] == Cause.NMI_UNMATCHED
    return np.asarray((point == NO_POINT) | whole_handler | ~np.isin(point, harmless))


@dataclass(slots=True)
class Windows:
    """Windows (ns) in which something may be hidden. They are asked about many times at once.

    `begin` is sorted, and each of `end` is the latest end of all windows up to there.
    """

    begin: Ints
    end: Ints

    @classmethod
    def of(cls, losses: Events, keep: Bools, error: int, older_end: int = -1) -> Windows:
        """The windows of those *losses* (LOSS) that the mask *keep* names, each wider by *error* ns
        at both ends; and all the time before *older_end* (ns).

        >>> from ghesrace.events import Cause, Kind, loss, select
        >>> lost = select(loss(100, 200, Cause.MISSED), Kind.LOSS)
        >>> windows = Windows.of(lost, np.array([True]), error=10)
        >>> windows.touch(np.array([205, 300]), np.array([400, 400])).tolist()
        [True, False]
        """
        begin = np.append(losses["begin"][keep].astype(np.int64) - error, 0)
        end = np.append(losses["end"][keep].astype(np.int64) + error, older_end)
        rank = np.argsort(begin, kind="stable")
        return cls(begin[rank], np.maximum.accumulate(end[rank]))

    def touch(self, begin: Ints, end: Ints) -> Bools:
        """Which of the windows [begin, end] (ns, shape (n,) each) intersect one of these."""
        last = np.searchsorted(self.begin, end, side="right") - 1
        return np.asarray((last >= 0) & (self.end[np.maximum(last, 0)] >= begin))


def touched(plan: Plan, losses: Events, cpus: Ints, begin: Ints, end: Ints) -> Bools:
    """Which of the windows [begin, end] (ns), each on its CPU of *cpus*, one of *losses* (LOSS)
    touches, if that is on the same CPU or on one unknown. All have shape (n,)."""
    result = np.zeros(len(begin), np.bool_)
    for cpu in present(cpus):
        mine = cpus == cpu
        here = (losses["cpu"] == cpu) | (losses["cpu"] == ALL_CPUS)
        windows = Windows.of(losses, here, plan.clock_error_ns)
        result[mine] = windows.touch(begin[mine], end[mine])
    return result
