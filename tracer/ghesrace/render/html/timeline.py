# SPDX-License-Identifier: Apache-2.0
"""This keeps how many episodes of each class there were, slot by slot, over time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ghesrace.checker.model import Class, Judged
from ghesrace.events import NEVER, Events, Ints, Kind

_MOST = 120  # pieces of time
_SHORTEST = 1_000  # ns


@dataclass(slots=True)
class Timeline:
    """A timeline divides time since the first event in at most 120 pieces of `width` ns: of more,
    each two neighbours become one. `begin` and `end` are the first and last stamps of events (ns),
    or None if there are none.

    `classes` has, by the slot's index, the episodes of each piece (first axis) and class
    (checker.model.Class). An episode is in the piece of its map.

        timeline.note(batch)
        timeline.add(engine.feed(batch))
    """

    begin: int | None = None
    end: int | None = None
    width: int = _SHORTEST
    classes: dict[int, Ints] = field(default_factory=dict)
    _origin: int | None = None

    def note(self, batch: Events) -> None:
        """Take the stamps of a *batch* (EVENT, shape (n,))."""
        stamps = batch["ts"][batch["kind"] < Kind.LOSS]
        if not len(stamps):
            return
        first, last = int(stamps.min()), int(stamps.max())
        self.begin = first if self.begin is None else min(self.begin, first)
        self.end = last if self.end is None else max(self.end, last)

    def add(self, judged: Iterable[Judged]) -> None:
        """Take the episodes *judged* that the engine decided."""
        for one in judged:
            times = one.episodes["t_map"].astype(np.int64)
            known = times != NEVER
            self._add(one.slot, times[known], one.cls[known])

    def pieces(self, slot: int) -> list[tuple[int, list[int]]]:
        """Return the begin (ns) of each piece in which the *slot* has episodes, and their number by
        class."""
        counts = self.classes.get(slot)
        if counts is None or self._origin is None:
            return []
        return [
            (self._origin + int(number) * self.width, counts[number].tolist())
            for number in np.flatnonzero(counts.sum(axis=1))
        ]

    def _add(self, slot: int, times: Ints, classes: Ints) -> None:
        if not len(times):
            return
        if self._origin is None:
            self._origin = int(times.min()) if self.begin is None else self.begin
        since = np.maximum(times - self._origin, 0)
        while int(since.max()) // self.width >= _MOST:
            self.width *= 2
            for number, counts in self.classes.items():
                half = counts.reshape(_MOST // 2, 2, len(Class)).sum(axis=1)
                self.classes[number] = np.concatenate([half, np.zeros_like(half)])
        mine = self.classes.setdefault(slot, np.zeros((_MOST, len(Class)), np.int64))
        np.add.at(mine, (since // self.width, classes), 1)
