# SPDX-License-Identifier: Apache-2.0
"""This module turns the columns of parsed events into ring-buffer pages, so that text goes the way
of everything else.

ring.pages.decode() can read the pages. All events have one layout in them: an absolute stamp, then
a record with the common fields and FIELDS_PER_EVENT numbers of 8 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ghesrace.sources.ring.pages import EventFormat, Field, PageLayout

FIELDS_PER_EVENT = 10
MAX_TS = 1 << 61  # ns: no clock is later, not even those that count from 1970
_HEAD_WORDS = 4  # 4-byte words of a page's head: stamp, committed bytes
_PAYLOAD_WORDS = 2 + 2 * FIELDS_PER_EVENT
_WORDS = 3 + _PAYLOAD_WORDS
_PER_PAGE = 64
_MISSED, _STORED = 1 << 31, 1 << 30
# A page has room for the number of missed events behind its records.
LAYOUT = PageLayout(8, 16, 4 * (_HEAD_WORDS + _PER_PAGE * _WORDS) + 8)
_COMMON = {
    "common_type": Field(0, 2, False),
    "common_flags": Field(2, 1, False),
    "common_pid": Field(4, 4, True),
}

Ints = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


def text_format(name: str, ident: int, fields: list[str]) -> EventFormat:
    """Return the format of the event *name*, whose *fields* are numbers in this order. Those beyond
    the first FIELDS_PER_EVENT are left out.

    >>> text_format("map", 1, ["phys", "index"]).fields["index"]
    Field(offset=16, size=8, signed=False)
    """
    own = {field: Field(8 + 8 * n, 8, False) for n, field in enumerate(fields[:FIELDS_PER_EVENT])}
    return EventFormat(name, ident, _COMMON | own)


@dataclass(slots=True)
class Columns:
    """These are the columns of n events, in the order of the file. `ts` is in ns. `lost` is how
    many events were lost on that CPU just before this one (UNCOUNTED if the trace does not say how
    many), and `values` has the shape (n, FIELDS_PER_EVENT)."""

    cpu: Ints
    ts: Ints
    pid: Ints
    flags: Ints
    ident: Ints
    lost: Ints
    values: U64


def pages(columns: Columns) -> dict[int, bytearray]:
    """Return the events as whole pages of LAYOUT, by CPU."""
    found = {}
    for cpu in np.unique(columns.cpu).tolist():
        found[cpu] = _pages(columns, np.flatnonzero(columns.cpu == cpu))
    return found


def _pages(columns: Columns, rows: npt.NDArray[np.intp]) -> bytearray:
    ts, lost = columns.ts[rows].astype(np.uint64), columns.lost[rows]
    at = np.arange(len(rows))
    cut = lost != 0
    cut[0] = True
    segment = np.maximum.accumulate(np.where(cut, at, 0))
    opens = (at - segment) % _PER_PAGE == 0
    page = np.cumsum(opens) - 1
    first = np.flatnonzero(opens)
    record = at - first[page]
    words = np.zeros((int(page[-1]) + 1, LAYOUT.size // 4), np.uint32)
    base = _HEAD_WORDS + record * _WORDS
    # In enum ring_buffer_type, 31 is an absolute stamp; the type of a data record is its number of
    # words.
    words[page, base] = (ts & np.uint64((1 << 27) - 1)) << np.uint64(5) | np.uint64(31)
    # An absolute stamp holds 59 bits. The rest is the page's.
    words[page, base + 1] = (ts >> np.uint64(27)) & np.uint64((1 << 32) - 1)
    words[page, base + 2] = _PAYLOAD_WORDS
    words[page, base + 3] = columns.ident[rows] | columns.flags[rows] << 16
    words[page, base + 4] = columns.pid[rows]
    values = np.ascontiguousarray(columns.values[rows]).view("<u4")
    words[page[:, None], base[:, None] + 5 + np.arange(2 * FIELDS_PER_EVENT)] = values
    used = np.bincount(page) * (4 * _WORDS)
    commit = used.astype(np.uint64)
    gone = lost[first]
    commit[gone != 0] |= np.uint64(_MISSED)
    commit[gone > 0] |= np.uint64(_STORED)
    heads = words[:, :_HEAD_WORDS].copy().view("<u8")
    heads[:, 0] = np.minimum.reduceat(ts, first)
    heads[:, 1] = commit
    words[:, :_HEAD_WORDS] = heads.view("<u4")
    for number in np.flatnonzero(gone > 0).tolist():  # This loops over losses, not over events.
        end = _HEAD_WORDS + int(used[number]) // 4
        words[number, end] = int(gone[number]) & 0xFFFFFFFF
        words[number, end + 1] = int(gone[number]) >> 32
    return bytearray(words.tobytes())
