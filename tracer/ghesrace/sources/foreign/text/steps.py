# SPDX-License-Identifier: Apache-2.0
"""This module finds the lines of a text that stand elsewhere than they were recorded, or twice.

Within a run the stamps of one CPU never go back, but by one event: an interrupt or an NMI that
lands inside a probe's reading of the clock has the later stamp and stands first. Any other step
back is of a line that was moved, and so nobody knows what stood where. Nor does one CPU map or
unmap one page twice at one time: the second line is a copy of the first, and may stand for another.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ghesrace.events import Cause
from ghesrace.sources.foreign.reader import Gap

from .flags import HARDIRQ, NMI, SOFTIRQ
from .neighbours import Chains, values_before

Ints = npt.NDArray[np.int64]

_BITS = np.arange(256)
_LEVEL = np.select([_BITS & NMI > 0, _BITS & HARDIRQ > 0, _BITS & SOFTIRQ > 0], [3, 2, 1], 0)


class Steps:
    """Steps take the events of a text, some at a time, and say where they were moved; `count` is
    how often.

    >>> steps = Steps()
    >>> stamps, tasks = np.array([100, 300, 200]), np.zeros(3, np.int64)
    >>> [(gap.begin, gap.end) for gap in steps.take(np.zeros(3, np.int64), stamps, tasks)]
    [(200, 300)]
    """

    def __init__(self) -> None:
        self.count = 0
        self._last: dict[int, tuple[int, int, int]] = {}  # CPU -> newest, last stamp, its level

    def take(self, cpu: Ints, ts: Ints, flags: Ints, chains: Chains | None = None) -> list[Gap]:
        """Return a gap of an unknown number of events for each step back of the events on *cpu* at
        *ts* (ns, put off as their runs are) with *flags* (TRACE_FLAG_*), in the order of the text
        (shape (n,)). *chains* are those of *cpu*, if they are known.

        steps.take(cpu, ts, flags)
        """
        level = _LEVEL[flags & 0xFF]
        gaps: list[Gap] = []
        chains = chains or Chains(cpu)
        last = chains.last
        newest_of = {number: newest for number, (newest, _, _) in self._last.items()}
        if (ts >= values_before(cpu, ts, chains.before, newest_of, -1)).all():
            for number, row in last.items():
                self._last[number] = (int(ts[row]), int(ts[row]), int(level[row]))
            return gaps
        for number in last:
            mine = np.flatnonzero(cpu == number)
            stamps, levels = ts[mine], level[mine]
            newest, latest, inner = self._last.get(number, (-1, -1, 0))
            before = np.concatenate(([latest], stamps[:-1]))
            highest = np.maximum.accumulate(np.concatenate(([newest], stamps)))
            inside = (np.append(inner, levels[:-1]) > levels) & (before == highest[:-1])
            for row in np.flatnonzero((stamps < highest[:-1]) & ~inside).tolist():  # per step
                gaps.append(Gap(int(stamps[row]), int(highest[row]), Cause.UNREAD, number, 0))
            self._last[number] = (int(highest[-1]), int(stamps[-1]), int(levels[-1]))
        self.count += len(gaps)
        return gaps


class Repeats:
    """Repeats find the events that are the same as the one of their CPU before them.

    >>> repeats, one = Repeats(), np.ones(2, np.int64)
    >>> repeats.take(one, one, one, np.ones((2, 1), np.uint64)).tolist()
    [False, True]
    """

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, ...]] = {}  # CPU -> stamp, id, and values

    def take(
        self,
        cpu: Ints,
        ts: Ints,
        ident: Ints,
        values: npt.NDArray[np.uint64],
        chains: Chains | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Return which of the events on *cpu* at *ts* (ns), of the types *ident* and with *values*
        (shape (n, fields)), have the same of all these as the event of their CPU before them.
        *chains* are those of *cpu*, if they are known.

        repeats.take(cpu, ts, ident, values)
        """
        chains = chains or Chains(cpu)
        before = chains.before
        same: npt.NDArray[np.bool_] = (ts == ts[before]) & (ident == ident[before]) & (before >= 0)
        rows = np.flatnonzero(same)
        same[rows] = (values[rows] == values[before[rows]]).all(axis=1)
        first = np.flatnonzero(before < 0).tolist()
        for row in first:
            mine = self._last.get(int(cpu[row]))
            same[row] = mine == (int(ts[row]), int(ident[row]), *_told(values[row]))
        for number, row in chains.last.items():
            self._last[number] = (int(ts[row]), int(ident[row]), *_told(values[row]))
        return same


def _told(values: npt.NDArray[np.uint64]) -> list[int]:
    """Return one event's *values* without the zeros at their end, which another piece of the text
    may have more or fewer of.

    >>> _told(np.array([0, 7, 0], np.uint64))
    [0, 7]
    """
    told: list[int] = values[: 1 + np.flatnonzero(values).max(initial=-1)].tolist()
    return told
