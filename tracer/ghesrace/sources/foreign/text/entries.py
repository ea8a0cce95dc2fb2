# SPDX-License-Identifier: Apache-2.0
"""This module counts the entries of a `trace`, whose head says how many there should be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .forms import TRACER
from .lines import Text, integers, pc

# The second is that of the trace option latency-format. Before it may be what lost its end.
_HEAD = (
    r"# (?:entries-in-buffer/entries-written: |latency: \d+ us, #)(?P<n>\d{1,18})/(?P<w>\d{1,18})"
)


@dataclass(slots=True)
class _Section:
    """What stands under one head: `count` entries, of the CPUs from `first` to `last`."""

    count: int = 0
    first: int = 1 << 16
    last: int = -1


class Entries:
    """Entries of each head of a text are counted, until the next head or the end. `told` is true
    while each entry stands under a head that says how many there are, and none is too many.

    In `per_cpu/*/trace` each head has the numbers of all CPUs together: what stands under such
    heads counts together, if it is of another CPU each time.

    >>> from .lines import lines_of
    >>> entries = Entries()
    >>> lines = lines_of(b"# entries-in-buffer/entries-written: 3/3\\n")
    >>> entries.take(lines, np.array([0]), 2, np.array([1]), np.array([0]))
    2
    >>> entries.finish()
    ['the head says 3 entries, and 1 are there']
    >>> entries.told
    True
    """

    def __init__(self) -> None:
        self.told = True
        self._overwritten = False
        self._open = False  # A head has begun, and neither a number nor an entry was there since.
        self._expected: tuple[int, int] | None = None
        self._seen: list[_Section] = []  # under each of the heads that say the same
        self._missing: list[str] = []

    def take(
        self,
        lines: Text,
        at: npt.NDArray[np.intp],
        count: int,
        rows: npt.NDArray[np.intp],
        cpus: npt.NDArray[np.int64],
    ) -> int:
        """Count the entries among *count* lines, whose numbers are *rows*, on *cpus*. The heads are
        among *lines*, which have the numbers *at*. Return the line from which on a head said that
        older entries were overwritten, which is *count* if none did."""
        if not len(lines):
            self._add(cpus)
            return 0 if self._overwritten else count
        begins = at[np.asarray(pc.match_substring_regex(lines, TRACER), np.bool_)]
        found = pc.extract_regex(lines, pattern=_HEAD)
        heads = at[np.asarray(found.is_valid())]
        found = found.drop_null()
        said = integers(found.field("n")).tolist()
        written = integers(found.field("w")).tolist()
        over = heads[np.array(written) > np.array(said)]
        since = 0 if self._overwritten else int(over[0]) if len(over) else count
        self._overwritten |= bool(len(over))
        begin = 0
        for head, *numbers in zip(heads.tolist(), said, written, strict=True):
            self._add(cpus[(rows >= begin) & (rows < head)])
            if self._expected != (numbers[0], numbers[1]):
                self._end()
                self._expected = numbers[0], numbers[1]
            self._seen.append(_Section())
            begin = head
        self._add(cpus[rows >= begin])
        if len(begins):
            last = begins[-1]
            self._open = not (rows > last).any() and not (heads > last).any()
        return since

    def _add(self, cpus: npt.NDArray[np.int64]) -> None:
        if not len(cpus):
            return
        self._open = False
        self.told &= self._expected is not None
        if self._seen:
            section = self._seen[-1]
            section.count += len(cpus)
            section.first = min(section.first, int(cpus.min()))
            section.last = max(section.last, int(cpus.max()))

    def finish(self) -> list[str]:
        """Return, for each head with too few entries, what it says and what is there."""
        self._end()
        if self._open:
            self._missing.append("the text ends in the head of a trace")
        return self._missing

    def _end(self) -> None:
        if self._expected is None:
            return
        expected, seen = self._expected[0], self._seen
        self._expected, self._seen = None, []
        counts = [section.count for section in seen]
        cpus = [section.first for section in seen if section.count]
        one_each = all(section.first >= section.last for section in seen)
        apart = one_each and len(set(cpus)) == len(cpus)
        if apart and sum(counts) <= expected:
            counts = [sum(counts)]
        self.told &= max(counts) <= expected
        for number in counts:
            if number < expected:
                text = f"the head says {expected:,} entries, and {number:,} are there"
                self._missing.append(text)
