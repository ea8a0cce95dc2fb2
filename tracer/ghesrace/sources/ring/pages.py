# SPDX-License-Identifier: Apache-2.0
"""ftrace's raw ring-buffer pages (per_cpu/cpuN/trace_pipe_raw): their layout, their records.

Record lengths depend on the data, so a page can only be walked: records.py does it, compiled. A
record that leaves its page raises InputError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ghesrace.errors import InputError

from .records import OVERFULL, column, walk

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

UNCOUNTED = -1


@dataclass(frozen=True, slots=True)
class PageLayout:
    """Where a page keeps what, in bytes. `size` is what one read of trace_pipe_raw returns."""

    commit_offset: int = 8
    data_offset: int = 16
    size: int = 4096


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event: byte offset in the record's payload, bytes, C signedness."""

    offset: int
    size: int
    signed: bool


@dataclass(frozen=True, slots=True)
class EventFormat:
    """events/SYSTEM/EVENT/format: the event's id (common_type), its fields, its least size."""

    name: str
    id: int
    fields: dict[str, Field]

    @property
    def size(self) -> int:
        """Bytes that a payload must have to hold all fields."""
        return max((f.offset + f.size for f in self.fields.values()), default=0)


@dataclass(frozen=True, slots=True)
class Records:
    """Data records of one CPU's pages, in buffer order.

    `raw`: the pages' bytes, flat. Per record: `page` (index), `offset` and `size` of its
    payload in `raw` (bytes), `ts` (ns of the instance's clock). Per page: `missed`, the
    number of events that were overwritten before it (0 none, UNCOUNTED if not told),
    `page_ts` (ns) and `first`, the index of its first record (or of the next page's).
    """

    raw: U8
    page: I64
    offset: I64
    size: I64
    ts: U64
    missed: I64
    page_ts: U64
    first: I64

    def __len__(self) -> int:
        return len(self.ts)

    def column(self, field: Field, rows: npt.NDArray[np.intp]) -> U64:
        """Values of *field* in the records *rows*, sign-extended to 64 bits.

        Raises InputError if a payload is too short for it.
        """
        require_number(field)
        values = np.empty(len(rows), np.uint64)
        place = field.offset, field.size, field.signed
        wanted = rows.astype(np.int64, copy=False)
        raw = self.raw.view("<u4")
        if not column(raw.data, self.offset.data, self.size.data, wanted.data, *place, values.data):
            raise InputError(
                "a ring-buffer record is shorter than its event's format says",
                "the trace data is damaged: record again",
            )
        return values


def require_number(field: Field) -> None:
    """Raises InputError if *field* is no number of 1, 2, 4 or 8 bytes."""
    if field.size not in (1, 2, 4, 8):
        raise InputError(
            f"an event field of {field.size} bytes is not a number", "report this kernel"
        )


_FIELD = re.compile(
    r"field:(?P<decl>[^;]*);\s*offset:(?P<offset>\d{1,9});\s*size:(?P<size>\d{1,9});\s*signed:(?P<signed>\d)"
)


def _fields(text: str) -> dict[str, Field]:
    fields = {}
    for m in _FIELD.finditer(text):
        name = re.sub(r"\[.*", "", m["decl"]).split()[-1:]
        if name:
            fields[name[0]] = Field(int(m["offset"]), int(m["size"]), m["signed"] != "0")
    return fields


def parse_page_layout(text: str) -> PageLayout:
    """Read events/header_page. Raises InputError if it is not one."""
    fields = _fields(text)
    try:
        commit, data = fields["commit"], fields["data"]
    except KeyError as error:
        raise InputError(
            f"events/header_page has no field {error}", "is this a tracefs of Linux?"
        ) from None
    if fields.get("timestamp") != Field(0, 8, False) or commit.size != 8:
        raise InputError(
            "ring-buffer pages of this kernel have no 64-bit header",
            "only 64-bit kernels are supported",
        )
    return PageLayout(commit.offset, data.offset, data.offset + data.size)


def parse_format(text: str) -> EventFormat:
    """Read an event's format file. Raises InputError if it is not one."""
    name = re.search(r"^name: (\S+)", text, re.M)
    ident = re.search(r"^ID: (\d{1,9})", text, re.M)
    fields = _fields(text)
    if name is None or ident is None or "common_type" not in fields:
        raise InputError("not the format of a trace event", "is this a tracefs of Linux?")
    return EventFormat(name[1], int(ident[1]), fields)


def decode(data: bytes | bytearray, layout: PageLayout | None = None) -> Records:
    """Decode whole pages (`len(data)` a multiple of `layout.size`) of one CPU, in read order.

    Raises InputError on bytes that are no ring-buffer pages.
    """
    layout = layout or PageLayout()
    if len(data) % layout.size:
        raise InputError(
            f"{len(data)} bytes are not whole ring-buffer pages of {layout.size}",
            "the trace data is damaged: record again",
        )
    commit, begin = layout.commit_offset, layout.data_offset
    if layout.size % 4 or begin % 4 or max(commit + 8, begin) > layout.size:
        raise InputError("ring-buffer pages of an impossible layout", "the file is damaged")
    raw = np.frombuffer(data, np.uint8)
    most, pages = len(data) // 8, len(data) // layout.size  # a record has two words at least
    page, offset, size, missed, first = (
        np.empty(n, np.int64) for n in (most, most, most, pages, pages)
    )
    ts, page_ts = np.empty(most, np.uint64), np.empty(pages, np.uint64)
    found = walk(
        *(raw.view("<u4").data, layout.size, commit, begin),
        *(page.data, offset.data, size.data, ts.data),
        *(missed.data, page_ts.data, first.data),
    )
    if found < 0:
        number, why = divmod(-found - 1, 4)
        what = f"a record leaves ring-buffer page {number}"
        if -1 - why == OVERFULL:
            what = "a ring-buffer page claims more bytes than it has"
        raise InputError(what, "the trace data is damaged: record again")
    page, offset, size, ts = page[:found], offset[:found], size[:found], ts[:found]
    return Records(raw, page, offset, size, ts, missed, page_ts, first)
