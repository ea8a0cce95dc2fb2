# SPDX-License-Identifier: Apache-2.0
"""This module counts the entries of a `trace`, whose head says how many there should be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .lines import Text, integers, pc

# The second is that of the trace option latency-format.
_HEAD = (
    r"^# (?:entries-in-buffer/entries-written: |latency: \d+ us, #)(?P<n>\d{1,18})/(?P<w>\d{1,18})"
)


class Entries:
    """Entries of each head of a text are counted, until the next head or the end. `told` is true
    while each entry stands under a head that says how many there are, and none is too many.

    >>> from .lines import lines_of
    >>> entries = Entries()
    >>> lines = lines_of(b"# entries-in-buffer/entries-written: 3/3\\n")
    >>> entries.take(lines, np.array([0]), 2, np.array([1]))
    2
    >>> entries.finish()
    ['the head says 3 entries, and 1 are there']
    >>> entries.told
    True
    """

    def __init__(self) -> None:
        self.told = True
        self._overwritten = False
        self._expected: int | None = None
        self._seen = 0
        self._missing: list[str] = []

    def take(
        self,
        lines: Text,
        at: npt.NDArray[np.intp],
        count: int,
        rows: npt.NDArray[np.intp],
    ) -> int:
        """Count the entries among *count* lines, whose numbers are *rows*. The heads are among
        *lines*, which have the numbers *at*. Return the line from which on a head said that older
        entries were overwritten, which is *count* if none did."""
        if not len(lines):
            self._add(len(rows))
            return 0 if self._overwritten else count
        found = pc.extract_regex(lines, pattern=_HEAD)
        heads = at[np.asarray(found.is_valid())]
        found = found.drop_null()
        said = integers(found.field("n")).tolist()
        over = heads[integers(found.field("w")) > said]
        since = 0 if self._overwritten else int(over[0]) if len(over) else count
        self._overwritten |= bool(len(over))
        begin = 0
        for head, number in zip(heads.tolist(), said, strict=True):
            self._add(int(((rows >= begin) & (rows < head)).sum()))
            self._end()
            self._expected, self._seen, begin = number, 0, head
        self._add(int((rows >= begin).sum()))
        return since

    def _add(self, number: int) -> None:
        self._seen += number
        self.told &= not number or self._expected is not None

    def finish(self) -> list[str]:
        """Return, for each head with too few entries, what it says and what is there."""
        self._end()
        self._expected = None
        return self._missing

    def _end(self) -> None:
        if self._expected is not None and self._seen > self._expected:
            self.told = False
        if self._expected is not None and self._seen < self._expected:
            text = f"the head says {self._expected:,} entries, and {self._seen:,} are there"
            self._missing.append(text)
