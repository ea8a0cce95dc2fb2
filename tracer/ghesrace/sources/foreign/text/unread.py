# SPDX-License-Identifier: Apache-2.0
"""This module finds the lines that have a CPU, and a stamp or a begin of one, and can't be read."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ghesrace.events import ALL_CPUS, Cause

from . import lost as lost_lines
from .careful import Careful
from .debris import debris, tails
from .forms import CPULESS, HARMLESS, STAMPED, TIMELESS
from .joined import CUT, pieces_of
from .lines import Text, integers, pc

_EMPTY = pa.scalar(b"", pa.large_binary())


class Unread:
    """The lines of a text that can't be read, as far as *careful* knows its form. `count` is how
    many there are, and `examples` what some of them look like. What lines tell of losses that have
    no time is added to *whole*.

        odd = unread.take(lines, bad, twice, offset=0)
    """

    def __init__(self, careful: Careful, whole: list[tuple[Cause, int]]) -> None:
        self.count = 0
        self._whole = whole
        self._careful = careful
        self._examples: Counter[str] = Counter()
        self._tails = np.zeros(0, np.intp)  # of the lines that were taken last

    @property
    def examples(self) -> list[str]:
        """These are some of the lines."""
        return list(self._examples)

    def take(
        self, lines: Text, bad: npt.NDArray[np.intp], twice: npt.NDArray[np.intp], offset: int
    ) -> lost_lines.Odd:
        """Return which of the lines *bad*, that no form fits, and of the lines *twice*, which are
        several in one, have a CPU and may be a probe's. Their stamps (ns) are put off by *offset*
        as those of their run; one is -1 if it is impossible, or if the line ends before it."""
        self._tails = np.zeros(0, np.intp)
        if not len(lines):
            return lost_lines.Odd.none()
        self._tails = bad[tails(lines.take(pa.array(bad)))]
        odd = self._stamped(lines, bad, offset)
        said = np.flatnonzero(np.asarray(pc.match_substring_regex(lines, lost_lines.SAID_BEFORE)))
        said = said[~np.isin(said, bad)]
        if len(said):
            told = lost_lines.told_by_perf(lines.take(pa.array(said)))
            self._whole += [(Cause.OVERRUN, count) for count in told]
        if len(twice):
            pieces, of = pieces_of(lines, twice)
            more = self._stamped(pieces, np.arange(len(pieces)), offset)
            # Behind the end of a line that was lost there may have been more lines.
            odd = odd.plus(of[more.at], more.cpu, more.ts, 0)
        self.count += len(odd.at)
        return odd

    def _stamped(self, lines: Text, bad: npt.NDArray[np.intp], offset: int) -> lost_lines.Odd:
        text = lines.take(pa.array(bad))
        told = pc.or_(
            pc.match_substring_regex(text, lost_lines.LOST),
            pc.match_substring_regex(text, HARMLESS),
        )
        text, bad = text.filter(pc.invert(told)), bad[~np.asarray(told, np.bool_)]
        self._whole += [(Cause.OVERRUN, count) for count in lost_lines.told_by_perf(text)]
        found = pc.extract_regex(text, pattern=STAMPED)
        stamped = np.asarray(found.is_valid())
        there = stamped.nonzero()[0]
        left = np.flatnonzero(~stamped)
        found = found.take(pa.array(there))
        for number in there[:3].tolist():
            self._name(text[int(number)].as_py())
        first = np.asarray(pc.not_equal(found.field("cpu"), _EMPTY))
        cpu = np.where(first, integers(found.field("cpu")), integers(found.field("cpu2")))
        stamps = []
        for suffix in ("", "2"):
            fields = [found.field(name + suffix) for name in ("s", "f")]
            part = pa.StructArray.from_arrays(fields, names=["s", "f"])
            stamps.append(self._stamps(part, bool(suffix) and self._careful.in_micro, offset))
        odd = lost_lines.Odd(bad[there], cpu, np.where(first, *stamps), np.ones(len(there), "i8"))
        for pattern in (CUT, TIMELESS, CPULESS):
            found = pc.extract_regex(text.take(pa.array(left)), pattern=pattern)
            fits = np.asarray(found.is_valid(), np.bool_)
            rows, left = left[fits], left[~fits]
            if not len(rows):
                continue
            for number in rows[:3].tolist():
                self._name(text[number].as_py())
            found = found.drop_null()
            at = np.full(len(rows), -1)
            if pattern is CPULESS:
                odd = odd.plus(
                    bad[rows], np.full(len(rows), ALL_CPUS), self._stamps(found, False, offset), 1
                )
            else:
                odd = odd.plus(bad[rows], integers(found.field("cpu")), at, 1)
        rows = left[debris(text.take(pa.array(left)), self._careful.wanted)]
        for number in rows[:3].tolist():
            self._name(text[number].as_py())
        return odd.plus(bad[rows], np.full(len(rows), ALL_CPUS), np.full(len(rows), -1), 0)

    def wrapped(
        self, at: npt.NDArray[np.int64], events: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Return which of the *events*, given by their lines, go on in the next line. *at* are the
        numbers of the lines that were taken last."""
        rows = np.searchsorted(events, at[self._tails]) - 1
        before = events[rows] if len(events) else rows
        found = np.zeros(len(events), np.bool_)
        found[rows[(rows >= 0) & (before == at[self._tails] - 1)]] = True
        return found

    def _stamps(self, part: Text, micro: bool, offset: int) -> npt.NDArray[np.int64]:
        """Return the stamps (ns) in the fields of *part*, put off by *offset*, -1 if impossible."""
        ts, valid = self._careful.stamps(part, micro)
        good = np.zeros(len(ts), np.bool_)
        good[valid] = True
        return np.where(good, ts + offset, -1)

    def note(self, lines: Text, rows: npt.NDArray[np.intp]) -> None:
        """Take the events among *lines* at *rows* for such lines, too."""
        self.count += len(rows)
        for row in rows[:3].tolist():
            self._name(lines[row].as_py())

    def _name(self, line: bytes) -> None:
        """Remember what a line that can't be read looks like."""
        if len(self._examples) < 3:
            self._examples[line.decode("latin-1").strip()[:100]] += 1
