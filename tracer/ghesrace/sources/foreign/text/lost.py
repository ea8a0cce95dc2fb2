# SPDX-License-Identifier: Apache-2.0
"""This module says where a text tells of lost events, or has lines that can't be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ghesrace.events import ALL_CPUS, Cause
from ghesrace.sources.foreign.reader import Gap
from ghesrace.sources.ring.pages import UNCOUNTED

from .lines import Text, integers, pc

Ints = npt.NDArray[np.int64]

_NONE = np.zeros(0, np.int64)

_MOST = 2**31 - 1  # events that one line can say are lost
# The kernel, trace-cmd, and perf --show-lost-events each tell of lost events in their own words,
# which may be cut. What perf throttles is lost, too.
LOST = (
    r"CPU:(?P<cpu>\d{1,4}) \[(?:LOST\b(?: (?P<a>\d{1,18}) EVENTS)?|(?P<b>\d{1,18} )?EVENTS DROPPED)"
    # ftrace says so where a CPU's earlier events were overwritten.
    r"|##### CPU (?P<d>\d{1,4}) buffer started"
    r"|PERF_RECORD_(?:LOST\w*\D*(?P<c>\d{1,18})?|THROTTLE)"
)
# Where people leave lines out they say so, with marks around it or without. The kernel's "cut here"
# is none of these.
_MARKS = r"[\s\[\](){}<>*~=#_.:;,-]"
_LEFT_OUT = (
    rf"(?i)^{_MARKS}*(?:(?:and )?(?:\d[\d,]*|some|many|several|lots of) )?(?:more )?"
    r"(?:(?:lines?|events?|entries|output|trace|log|messages?) )?(?:(?:was|were|have been) )?"
    r"(?:(?:snip(?:s|ped)?|trunc|truncated|omitted|skipped|removed|deleted|elided|trimmed|stripped)"
    r"(?: here| out| for \w+| (?:\d[\d,]* |some |many )?(?:lines?|events?|entries))?|cut(?: out)?)"
    rf"{_MARKS}*$"
    r"|^[\s\[(]*(?:\d[\d,]*|some|many|several) more (?:lines|events|entries)[\s\])]*$"
    rf"|^(?:{_MARKS}*(?:8<|>8|\.\.\.|…))+{_MARKS}*$|^--More--|^--\n?$"
)
# perf says so on stderr, with no time: `perf script 2>&1`.
PERF_LOST = (
    r"(?i)\blost (?P<n>\d{1,18})(?: (?:event|sample|message)s?\b|!)"
    r"|\blost (?:\d{1,18} chunk|[\d.]{1,9}%)|[1-9]\d*%? lost events|\bchunks lost!"
    r"|\b(?P<e>[1-9]\d{0,17}) (?:event|sample)s? (?:were )?lost\b|\[LOST EVENTS\]"
    r"|\b(?P<m>\d{1,18}) (?:samples with id not present|unprocessable samples recorded)"
    r"|[1-9]\d* out of order events recorded|Found [1-9]\d* unknown events"
    # What printed or kept the text left lines out.
    r"|\*\* (?P<p>\d{1,18}) printk messages dropped"
    r"|(?:suppressed|missed) (?P<q>\d{1,18}) (?:kernel )?messages"
    r"|begin to drop messages|(?P<r>\d{1,18}) messages lost due to|^Binary file .* matches"
    r"|failed to process type|data size field is 0"
    r"|^\s*(?:(?:commit )?overrun|dropped events): (?P<o>[1-9]\d{0,17})"
    r"|\b(?P<d>\d{1,18}) out of \d{1,18} events were discarded"
    rf"|{_LEFT_OUT}"
)
# Such words before an event, whose line they were joined to: no task has so long a name.
SAID_BEFORE = (
    r"(?i)processed \d+ \w+ and lost |perf record: lost |warning: lost |"
    r"samples with id not present|unprocessable samples|events were discarded"
)


def told(lines: Text) -> tuple[Ints, Ints, Ints]:
    """Return, for each line that tells of lost events, its index, the CPU (-1 for all) and the
    number of events (UNCOUNTED if the line does not say how many).

    >>> from ghesrace.sources.foreign.text.lines import lines_of
    >>> told(lines_of(b"CPU:1 [LOST 23 EVENTS]\\n"))
    (array([0]), array([1]), array([23]))
    """
    if not len(lines):
        return _NONE, _NONE, _NONE
    likely = np.flatnonzero(np.asarray(pc.match_substring_regex(lines, LOST)))
    found = pc.extract_regex(lines.take(pa.array(likely)), pattern=LOST)
    cpu = np.maximum(integers(found.field("cpu"), -1), integers(found.field("d"), -1))
    count = sum(integers(found.field(name)) for name in "abc")
    count = np.minimum(np.where(count > 0, count, UNCOUNTED), _MOST).astype(np.int64)
    return likely.astype(np.int64), cpu, count


def told_by_perf(lines: Text) -> list[int]:
    """Return the number of events for each line in which perf tells of a loss without a time (0 if
    the line does not say how many). A chunk is any number of events, and so is a share of them.

    >>> from ghesrace.sources.foreign.text.lines import lines_of
    >>> told_by_perf(lines_of(b"[ perf record: LOST 7 events! ]\\nand lost 3 chunks!\\n"))
    [7, 0]
    """
    found = pc.extract_regex(lines, pattern=PERF_LOST)
    found = found.filter(found.is_valid())
    counts: list[int] = np.minimum(
        sum(integers(found.field(name)) for name in "nemdpqor"), _MOST
    ).tolist()
    return counts


def place(
    before: Ints,
    cpu: Ints,
    whole: npt.NDArray[np.bool_],
    at: Ints,
    which: Ints,
    counts: Ints,
    lost: dict[int, int],
    known: Iterable[int],
) -> None:
    """Put each loss into *before* (shape (n,)), before the next event of its CPU. *cpu* is that of
    each event, and *whole* says which of them count. *at* says behind how many events each loss is
    told, *which* its CPU (-1 for all those that are *known*), and *counts* its number of events. A
    loss without a next event stays in *lost* (CPU -> number), which has those from before.

    place(before, cpu, whole, at, which, counts, lost={}, known=[0, 1])
    """
    if not len(at) and not lost:
        return
    everyone = sorted({*np.unique(cpu).tolist(), *lost, *which[which >= 0].tolist(), *known})
    for number in everyone:
        mine = np.flatnonzero((cpu == number) & whole)
        early = lost.pop(number, 0)
        if early and len(mine):
            before[mine[0]] = early
        elif early:
            lost[number] = early
        hits = np.flatnonzero((which == number) | (which < 0))
        if not len(hits):
            continue
        hits = hits[np.argsort(at[hits], kind="stable")]
        count = np.where(which[hits] < 0, UNCOUNTED, counts[hits])
        target, first = np.unique(np.searchsorted(mine, at[hits]), return_index=True)
        total = np.add.reduceat(count, first)
        total[np.logical_or.reduceat(count == UNCOUNTED, first)] = UNCOUNTED
        if target[-1] == len(mine):
            add(lost, number, int(total[-1]))
            target, total = target[:-1], total[:-1]
        rows = mine[target]
        unknown = (before[rows] == UNCOUNTED) | (total == UNCOUNTED)
        before[rows] = np.where(unknown, UNCOUNTED, before[rows] + total)


@dataclass(frozen=True, slots=True)
class Odd:
    """These lines can't be read: `at` are their indices, `cpu` their CPUs (ALL_CPUS if unknown),
    `ts` their stamps (ns; -1 if impossible), and `count` how many events each is (0 if unknown)."""

    at: npt.NDArray[np.intp]
    cpu: Ints
    ts: Ints
    count: Ints

    @classmethod
    def none(cls) -> Odd:
        """Return no lines at all.

        >>> len(Odd.none().at)
        0
        """
        return cls(_NONE, _NONE, _NONE, _NONE)

    def plus(self, at: npt.NDArray[np.intp], cpu: Ints, ts: Ints, count: int) -> Odd:
        """Return these and more such lines, each of which is *count* events.

        odd.plus(np.array([7]), np.array([1]), np.array([-1]), count=1)
        """
        every = np.full(len(at), count, np.int64)
        mine, more = (self.at, self.cpu, self.ts, self.count), (at, cpu, ts, every)
        return Odd(*(np.concatenate(pair) for pair in zip(mine, more, strict=True)))

    def among(self, at: Ints) -> Odd:
        """Return these as of more lines, among which these lines have the numbers *at*.

        odd.among(np.array([3, 8]))
        """
        return Odd(at[self.at], self.cpu, self.ts, self.count)


def gaps(
    good: npt.NDArray[np.intp], cpu: Ints, ts: Ints, odd: Odd, newest: dict[int, int]
) -> list[Gap]:
    """Return a gap for each row of lines that can't be read, between two events of their CPU. It
    lasts from the one to the other, and has their own stamps in it, or 0 if no stamp is known.
    *good* are the lines of the events, on *cpu* at *ts* (ns). *newest* is the last stamp of each
    CPU before these lines.

    gaps(good, cpu, ts, odd, newest={0: 1_000})
    """
    found: list[Gap] = []
    if not len(odd.at):
        return found
    # Before a text's first event no stamp is known, if these lines have none.
    latest = max([0, *newest.values(), *ts[-1:].tolist(), *odd.ts.tolist()])
    for number in np.unique(odd.cpu).tolist():
        mine = np.flatnonzero(cpu == number)
        rows = np.flatnonzero(odd.cpu == number)
        spots = np.searchsorted(good[mine], odd.at[rows])
        for at in np.unique(spots).tolist():  # This loops over gaps, not over events.
            stamps = odd.ts[rows[spots == at]]
            stamps = stamps[stamps >= 0].tolist()
            before = int(ts[mine[at - 1]]) if at else newest.get(number)
            if before is None and not stamps:
                before = min([*newest.values(), *ts[:1].tolist()], default=0)
            after = int(ts[mine[at]]) if at < len(mine) else latest
            begin = min([*stamps, *([] if before is None else [before]), after])
            end = max([*stamps, begin, after])
            counts = odd.count[rows[spots == at]]
            count = int(counts.sum()) if counts.all() else 0
            found.append(Gap(begin, end, Cause.UNREAD, min(number, ALL_CPUS), count))
    return found


def add(lost: dict[int, int], cpu: int, count: int) -> None:
    """Add *count* events that *cpu* lost to *lost*, unless the CPU is not known (-1).

    >>> lost = {1: 2}
    >>> add(lost, 1, 3)
    >>> lost
    {1: 5}
    """
    if cpu >= 0:
        old = lost.get(cpu, 0)
        lost[cpu] = UNCOUNTED if UNCOUNTED in (old, count) else old + count
