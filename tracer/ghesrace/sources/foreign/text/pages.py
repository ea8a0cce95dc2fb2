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

from . import packing

FIELDS_PER_EVENT = 10
MAX_TS = 1 << 61  # ns: no clock is later, not even those that count from 1970
_EVENTS = 64  # of a page, if they have all fields
_EVENT_WORDS = packing.FIXED + 2 * FIELDS_PER_EVENT
# A page has room for the number of missed events behind its records.
LAYOUT = PageLayout(8, 16, 4 * (packing.HEAD + _EVENTS * _EVENT_WORDS) + 8)
_COMMON = {
    "common_type": Field(0, 2, False),
    "common_flags": Field(2, 1, False),
    "common_pid": Field(4, 4, True),
}

Ints = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


def text_format(
    name: str, ident: int, fields: list[str], most: int = FIELDS_PER_EVENT
) -> EventFormat:
    """Return the format of the event *name*, whose *fields* are numbers in this order. Those beyond
    the first *most* are left out, and those beyond FIELDS_PER_EVENT are in no page.

    >>> text_format("map", 1, ["phys", "index"]).fields["index"]
    Field(offset=16, size=8, signed=False)
    """
    own = {field: Field(8 + 8 * n, 8, False) for n, field in enumerate(fields[:most])}
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


def pages(columns: Columns, width: int = FIELDS_PER_EVENT) -> dict[int, bytearray]:
    """Return the events as whole pages of LAYOUT, by CPU, with *width* values of each."""
    page_words = LAYOUT.size // 4
    per_page = (page_words - packing.HEAD - 2) // (packing.FIXED + 2 * width)
    cpu, lost = (np.ascontiguousarray(column) for column in (columns.cpu, columns.lost))
    place, used = np.empty(len(cpu), np.int64), np.zeros(int(cpu.max()) + 1, np.int64)
    packing.find_places(cpu.data, lost.data, place.data, used.data, per_page)
    counts = -(-used // per_page)
    ends = np.cumsum(counts)
    begins = ends - counts
    words = np.zeros(int(ends[-1]) * page_words, np.uint32)
    others = (columns.ts, columns.pid, columns.flags, columns.ident)
    ts, pid, flags, ident = (np.ascontiguousarray(column) for column in others)
    packing.write(
        cpu.data,
        ts.data,
        pid.data,
        flags.data,
        ident.data,
        lost.data,
        np.ascontiguousarray(columns.values).reshape(-1).data,
        place.data,
        begins.data,
        page_words,
        per_page,
        width,
        words.data,
    )
    if lost.any():
        packing.write_losses(
            cpu.data, lost.data, place.data, begins.data, page_words, per_page, words.data
        )
    raw = words.data.cast("B")
    return {
        number: bytearray(raw[int(begins[number]) * LAYOUT.size : int(ends[number]) * LAYOUT.size])
        for number in np.flatnonzero(used).tolist()
    }
