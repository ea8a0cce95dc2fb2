# SPDX-License-Identifier: Apache-2.0
"""This merges batches, in which only each CPU's own order counts, into one order in time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ghesrace.events import Events, Kind, empty, joined, pick, present, promised

_MOST_HELD = 1_000_000  # records that wait for a MARK, 56 bytes each and as much again to sort


class InTime:
    """This hands out the records of all CPUs in the order of their stamps, without the MARKs.

    A CPU's events keep the order of its buffer, whatever their stamps say, and stand where the
    latest stamp of that CPU so far puts them; of equal ones the CPU with the lower number comes
    first. That is the order of `trace-cmd report`. A LOSS stands where it ends, before the events
    of that time. What a MARK has not passed yet is held back, at most *most* records: of more, the
    oldest are handed out early, and `early` is true.

    >>> from ghesrace.events import mark
    >>> batch = empty(3)
    >>> batch["kind"], batch["cpu"], batch["ts"] = Kind.MAP, (0, 0, 1), (10, 30, 20)
    >>> InTime().feed(joined([batch, mark(31)]))["ts"].tolist()
    [10, 20, 30]
    """

    def __init__(self, most: int = _MOST_HELD) -> None:
        self.early = False
        self._most = most
        self._held = empty()
        self._at = np.zeros(0, np.uint64)  # where each held record belongs, ns
        self._latest: dict[int, np.uint64] = {}  # CPU -> its latest stamp so far

    def feed(self, batch: Events) -> Events:
        """Take one batch (EVENT, shape (n,)), and return what is ready (EVENT, shape (m,))."""
        new = pick(batch, batch["kind"] != Kind.MARK)
        self._held = joined([self._held, new])
        self._at = np.concatenate([self._at, self._places(new)])
        ready = self._at < np.uint64(promised(batch))
        waiting = len(ready) - int(ready.sum())
        if waiting > self._most:
            self.early = True
            # Places grow along each CPU's buffer, so nothing overtakes another event of its CPU.
            ready |= self._at <= np.partition(self._at, self._most // 2)[self._most // 2]
        return self._take(ready)

    def rest(self) -> Events:
        """Return what is still held back, after the last batch."""
        return self._take(np.ones(len(self._held), np.bool_))

    def _places(self, new: Events) -> npt.NDArray[np.uint64]:
        places = new["ts"].astype(np.uint64)
        events = new["kind"] < Kind.LOSS
        for cpu in present(new["cpu"][events]).tolist():
            mine = np.flatnonzero(events & (new["cpu"] == cpu))
            own = np.maximum.accumulate(places[mine])
            own = np.maximum(own, self._latest.get(cpu, np.uint64(0)))
            places[mine], self._latest[cpu] = own, own[-1]
        return places

    def _take(self, ready: npt.NDArray[np.bool_]) -> Events:
        found, at = pick(self._held, ready), self._at[ready]
        self._held, self._at = pick(self._held, ~ready), self._at[~ready]
        # The sort is stable, and what arrived first of one CPU comes first.
        order = np.lexsort((found["cpu"], found["kind"] != Kind.LOSS, at))
        return pick(found, order)
