# SPDX-License-Identifier: Apache-2.0
"""Which spans meet, on one CPU or beside each other on two."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ghesrace.checker.model import SPAN, Spans, Table
from ghesrace.events import NEVER, Bools, Ints, joined, pick

from .spans import MOST_OPEN

MOST_PAIRS = 1 << 20


@dataclass(slots=True)
class Meetings:
    """Finds the spans that meet: each pair once, when both are over."""

    error: int  # ns that the order of two CPUs' stamps can be wrong
    truncated: bool = False  # more met than can be told
    _kept: Table = field(default_factory=lambda: np.zeros(0, SPAN))

    def step(self, spans: Spans, mine: Bools, open_: Bools) -> tuple[Table, Ints, Ints]:
        """Spans, and pairs of them (earlier begin first) that may meet, one of them new.

        *mine* and *open_* choose among spans.over and spans.open.
        """
        new, waiting = pick(spans.over, mine), pick(spans.open, open_)
        rows = joined([self._kept, new])
        is_new = np.arange(len(rows)) >= len(self._kept)
        rank = np.lexsort((rows["seq"], rows["cpu"], rows["t"]))
        rows, is_new = pick(rows, rank), is_new[rank]
        i, j = self._candidates(rows, is_new)
        earliest = int(waiting["t"].min(initial=NEVER))
        # Something that is open, or begins at the watermark or later, may still meet these.
        keep = rows["t_end"] + 2 * self.error >= min(earliest, spans.watermark)
        self._kept = pick(rows, keep)
        if len(self._kept) > MOST_OPEN:
            self.truncated = True
            self._kept = self._kept[-MOST_OPEN:]
        return rows, i, j

    def _candidates(self, rows: Table, is_new: Bools) -> tuple[Ints, Ints]:
        """Pairs i < j with j's begin not after i's end, as far as the clocks tell."""
        last = np.searchsorted(rows["t"], rows["t_end"] + 2 * self.error, side="right")
        at = np.arange(len(rows))
        many = np.maximum(last - at - 1, 0)
        if int(many.sum()) > MOST_PAIRS:
            self.truncated = True
            most = np.searchsorted(np.cumsum(many), MOST_PAIRS)
            many[most:] = 0
        i = np.repeat(at, many)
        j = i + 1 + np.arange(len(i)) - np.repeat(np.cumsum(many) - many, many)
        wanted = is_new[i] | is_new[j]
        return i[wanted], j[wanted]


def nested(outer: Table, inner: Table) -> Bools:
    """Which *inner* spans begin inside the *outer* of the same CPU, in a higher context."""
    same = (outer["cpu"] == inner["cpu"]) & (outer["ctx"] < inner["ctx"])
    same &= inner["t"] <= outer["t_end"]
    return np.asarray(same & (outer["seq"] < inner["seq"]) & (inner["seq"] < outer["seq_end"]))


def beside(a: Table, b: Table, error: int) -> tuple[Bools, Bools]:
    """Which spans of different CPUs surely, and which only perhaps, overlap in time."""
    apart = a["cpu"] != b["cpu"]
    begin = np.maximum(a["t"], b["t"])
    sure = apart & (begin + error < np.minimum(a["t_sure"], b["t_sure"]))
    maybe = apart & ~sure & (begin - error <= np.minimum(a["t_end"], b["t_end"]))
    return np.asarray(sure), np.asarray(maybe)
