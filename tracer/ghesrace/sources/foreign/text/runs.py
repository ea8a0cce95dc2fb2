# SPDX-License-Identifier: Apache-2.0
"""This module finds where a text goes over to another run: another boot, or a log that was appended
to.

On one CPU stamps never go back within a run. Where they do, or where a second head is followed by a
CPU that was there before it, or where a kernel boots or dumps its buffer, another run begins. Its
stamps are put behind those of the run before, with a gap, so that no order between the two is taken
from stamps of two clocks. The files of `per_cpu/*/trace` one after the other are one run: each has
a CPU of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ghesrace.errors import InputError
from ghesrace.events import present

from .neighbours import Chains, values_before

GAP_NS = 10**12  # between two runs
MOST_RUNS = 100
_END = 1 << 62  # ns, beyond which no stamp is put off
BACK_NS = 10_000  # An NMI inside the reading of the clock may have a stamp before its neighbour's.

Ints = npt.NDArray[np.int64]


class Runs:
    """Runs take the events of a text, some at a time, and say how far to put off their stamps.

    `gaps` are those between runs, (begin, end) in ns of the stamps that were put off, and `starts`
    the stamps that the runs after the first begin with, as the text has them.

    >>> runs = Runs()
    >>> stamps = np.array([100_000, 200_000, 50_000])
    >>> offsets = runs.place(np.array([0, 0, 0]), stamps, heads=[])
    >>> (stamps + offsets).tolist()
    [100000, 200000, 1000000200000]
    >>> runs.gaps
    [(200000, 1000000200000)]
    """

    def __init__(self) -> None:
        self.gaps: list[tuple[int, int]] = []
        self.starts: list[int] = []
        self.offset = 0
        self._newest = -1  # of all runs, put off
        self._last: dict[int, int] = {}  # CPU -> its last stamp in this run
        self._closed: set[int] = set()  # CPUs of this run that were there before its last head
        self._before = -1  # the last event's stamp, of any CPU
        self._booted = False  # A kernel booted, or dumped, behind the last event.

    def place(
        self,
        cpu: Ints,
        ts: Ints,
        heads: list[int],
        chains: Chains | None = None,
        boots: Sequence[int] = (),
    ) -> Ints:
        """Return how much to add to the stamps *ts* (ns) of the events on *cpu*, in the order of
        the text (shape (n,)). *heads* are the indices of the events that a head stands before, n if
        it stands behind all. *chains* are those of *cpu*, if they are known, and *boots* are those
        of *heads* in which a kernel boots or dumps. Raises InputError if the text has too many runs
        to be one in order.

        runs.place(cpu, ts, heads=[8])
        """
        offsets = np.empty(len(ts), np.int64)
        start = 0
        chains = chains or Chains(cpu)
        if len(ts) and self._newest >= 0 and (self._booted or 0 in boots):
            self._open(int(ts[0]))
        self._booted = len(ts) in boots or (self._booted and not len(ts))
        while True:
            rest = Chains(cpu[start:]) if start else chains
            begin = self._next_run(cpu, ts, heads, start, rest)
            boot = min((b for b in boots if start < b < len(ts)), default=len(ts))
            if boot < (len(ts) if begin is None else begin):
                begin = boot
            stop = len(ts) if begin is None else begin
            known = set(self._last)
            mine = rest if begin is None else Chains(cpu[start:stop])
            self._take(ts[start:stop], offsets[start:stop], mine)
            if begin is None:
                break
            self._open(int(ts[begin]))
            known, start = set(), begin
        seen, at = set(known), start
        for head in sorted({head for head in heads if head >= start}):
            seen.update(present(cpu[at:head]).tolist())
            at = head
            self._closed |= seen
        if len(ts):
            self._before = int(ts[-1])
        return offsets

    def _next_run(
        self, cpu: Ints, ts: Ints, heads: list[int], start: int, chains: Chains
    ) -> int | None:
        """Return the index of the first event of the next run, or None if there is none. *chains*
        are those of the events from *start* on."""
        here, stamps = cpu[start:], ts[start:]
        before = values_before(here, stamps, chains.before, self._last, -1)
        bad = start + np.flatnonzero(stamps < before - BACK_NS)
        back = int(bad[0]) if len(bad) else len(ts)
        again = self._again(cpu, heads, start)
        if again is not None and again[0] <= back:
            return again[1]
        if back == len(ts):
            return None
        # The lines of other CPUs just before it may be of the next run already.
        head = max((h for h in heads if start < h <= back), default=None)
        if head is not None:
            return head
        earlier = np.concatenate(([self._before], ts[:-1])) if start == 0 else np.append(0, ts[:-1])
        drops = np.flatnonzero(ts[start : back + 1] < earlier[start : back + 1]) + start
        drops = drops[drops > start] if start else drops
        return int(drops[-1]) if len(drops) else back

    def _again(self, cpu: Ints, heads: list[int], start: int) -> tuple[int, int] | None:
        """Return the index of the first event on a CPU that was there before the last head, and of
        that head, or None."""
        closed, seen, at = set(self._closed), set(self._last), start
        inside = sorted(h for h in heads if start <= h < len(cpu))
        for number, (begin, end) in enumerate(
            zip([start, *inside], [*inside, len(cpu)], strict=True)
        ):
            if number:
                closed, at = closed | seen, begin
            here = set(present(cpu[begin:end]).tolist())
            if here & closed:
                hits = np.flatnonzero(np.isin(cpu[begin:end], list(closed)))
                return begin + int(hits[0]), at
            seen |= here
        return None

    def _take(self, ts: Ints, offsets: Ints, chains: Chains) -> None:
        offsets[:] = self.offset
        if not len(ts):
            return
        self._newest = max(self._newest, int(ts.max()) + self.offset)
        if self._newest >= _END:
            raise InputError(
                "its runs, one behind the other, last longer than any clock",
                "give one run: its lines must be in the order in which the tool printed them",
            )
        for number, row in chains.last.items():
            self._last[number] = int(ts[row])

    def _open(self, first: int) -> None:
        if len(self.gaps) >= MOST_RUNS:
            raise InputError(
                f"its stamps go back more than {MOST_RUNS} times",
                "lines must be in the order in which the tool printed them",
            )
        begin = self._newest + GAP_NS
        self.gaps.append((self._newest, begin))
        self.starts.append(first)
        self.offset = begin - first
        self._last.clear()
        self._closed.clear()
