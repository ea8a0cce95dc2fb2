# SPDX-License-Identifier: Apache-2.0
"""This says what a loss can have hidden, and what it touches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ghesrace.events import ALL_CPUS, NO_POINT, Bools, Cause, Events, Ints, Kind, present
from ghesrace.plan import Plan

MAP_KINDS = (Kind.MAP, Kind.UNMAP)
INVALIDATIONS = tuple(k for k in Kind if k.name.startswith(("INV_", "BCAST_")))


def hides(plan: Plan, losses: Events, kinds: Iterable[Kind]) -> Bools:
    """Return a mask (shape (n,)) of those *losses* (LOSS, shape (n,)) which could have hidden an
    event of one of the *kinds*.

    An unmatched NMI names the reference's probe point, but hides whatever its handler did.

    >>> from ghesrace.events import loss, select
    >>> lost = select(loss(100, 200, Cause.OVERRUN), Kind.LOSS)  # events of any probe
    >>> hides(Plan("x86_64", "6.12", (), ()), lost, MAP_KINDS).tolist()
    [True]
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
    """In these windows (ns) something may be hidden. They are asked about many times at once.

    `begin` is sorted, and each of `end` is the latest end of all windows up to there.
    """

    begin: Ints
    end: Ints

    @classmethod
    def of(cls, losses: Events, keep: Bools, error: int, older_end: int = -1) -> Windows:
        """Return the windows of those *losses* (LOSS) that the mask *keep* names, each wider by
        *error* ns at both ends, and the window of all time before *older_end* (ns).

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
        """Return a mask (shape (n,)) of those spans [begin, end] (ns, shape (n,) each) which
        intersect one of these windows."""
        last = np.searchsorted(self.begin, end, side="right") - 1
        return np.asarray((last >= 0) & (self.end[np.maximum(last, 0)] >= begin))


def touched(plan: Plan, losses: Events, cpus: Ints, begin: Ints, end: Ints) -> Bools:
    """Return a mask of those spans [begin, end] (ns), each on its CPU of *cpus*, which one of
    *losses* (LOSS) of that CPU, or of an unknown one, touches. All but *losses* have shape (n,).

    >>> from ghesrace.events import loss, select
    >>> lost = select(loss(5_000, 6_000, Cause.OVERRUN, cpu=1), Kind.LOSS)
    >>> begin, end = np.array([5_500, 5_500]), np.array([5_600, 5_600])
    >>> touched(Plan("x86_64", "6.12", (), ()), lost, np.array([0, 1]), begin, end).tolist()
    [False, True]
    """
    result = np.zeros(len(begin), np.bool_)
    for cpu in present(cpus):
        mine = cpus == cpu
        here = (losses["cpu"] == cpu) | (losses["cpu"] == ALL_CPUS)
        windows = Windows.of(losses, here, plan.clock_error_ns)
        result[mine] = windows.touch(begin[mine], end[mine])
    return result
