# SPDX-License-Identifier: Apache-2.0
"""Bulk decoding of ftrace's raw ring-buffer pages (per_cpu/cpuN/trace_pipe_raw) with NumPy.

The layout is `struct buffer_data_page` and `struct ring_buffer_event` of
kernel/trace/ring_buffer.c: a page header (time stamp, committed bytes, missed-events bits) and
records of 4-byte words whose header holds type_len (5 bits) and time_delta (27 bits).
Record lengths depend on the data, so a page can only be walked; all pages are walked at
once, one array step per record *index*. Bytes are never trusted: a record that
leaves its page raises InputError, and a walk takes at most one step per word of a page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ghesrace.errors import InputError

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# enum ring_buffer_type, include/linux/ring_buffer.h
_PADDING, _TIME_EXTEND, _TIME_STAMP = 29, 30, 31
# RB_MISSED_EVENTS and RB_MISSED_STORED, kernel/trace/ring_buffer.c
_MISSED_EVENTS, _MISSED_STORED, _COMMIT_MASK = 1 << 31, 1 << 30, (1 << 30) - 1
# The record holds 59 bits of an absolute stamp; the rest is the page's (rb_fix_abs_ts()).
_ABS_BITS = 59

# Words that a record takes, by type_len; 0: its payload says.
_WORDS = np.arange(1, 33, dtype=np.int64)
_WORDS[[0, _PADDING]] = 0
_WORDS[_TIME_EXTEND:] = 2
_LEAVES = 1 << 40

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
        if field.size not in (1, 2, 4, 8):
            raise InputError(
                f"an event field of {field.size} bytes is not a number", "report this kernel"
            )
        if len(rows) == 0:
            return np.zeros(0, np.uint64)
        if int(self.size[rows].min()) < field.offset + field.size:
            raise InputError(
                "a ring-buffer record is shorter than its event's format says",
                "the trace data is damaged: record again",
            )
        begin = self.offset[rows] + field.offset
        data = self.raw[begin[:, None] + np.arange(field.size)]
        values = data.view(f"<{'i' if field.signed else 'u'}{field.size}")[:, 0]
        wide: U64 = values.astype(np.int64 if field.signed else np.uint64).view(np.uint64)
        return wide


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
    raw = np.frombuffer(data, np.uint8)
    pages = raw.reshape(-1, layout.size)
    page_ts = pages[:, :8].copy().view("<u8")[:, 0]
    commit = pages[:, layout.commit_offset : layout.commit_offset + 8].copy().view("<u8")[:, 0]
    used = (commit & np.uint64(_COMMIT_MASK)).astype(np.int64)
    if len(pages) and int(used.max()) > layout.size - layout.data_offset:
        raise InputError(
            "a ring-buffer page claims more bytes than it has",
            "the trace data is damaged: record again",
        )
    missed = _missed(pages, commit, used, layout)

    words = raw.view("<u4")
    position = _walk(words, used, layout)
    page = position // (layout.size // 4)
    type_len = (words[position] & 31).astype(np.int64)
    ts = _stamps(words, position, page, type_len, page_ts.astype(np.uint64))

    rows = np.flatnonzero(type_len < _PADDING)
    position, page, type_len, ts = position[rows], page[rows], type_len[rows], ts[rows]
    small = type_len > 0
    offset = 4 * position + np.where(small, 4, 8)
    size = np.where(small, 4 * type_len, words[np.minimum(position + 1, max(len(words) - 1, 0))])
    first = np.searchsorted(page, np.arange(len(pages)))
    return Records(raw, page, offset, size, ts, missed, page_ts, first.astype(np.int64))


def _missed(pages: U8, commit: U64, used: I64, layout: PageLayout) -> I64:
    """Events overwritten before each page; ring_buffer_read_page() stores the count, an
    unsigned long, right after the committed bytes if there is room."""
    missed = np.zeros(len(pages), np.int64)
    missed[(commit & np.uint64(_MISSED_EVENTS)) != 0] = UNCOUNTED
    for i in np.flatnonzero((missed != 0) & ((commit & np.uint64(_MISSED_STORED)) != 0)):
        at = layout.data_offset + int(used[i])
        stored = pages[i, at : at + 8].tobytes()
        count = int.from_bytes(stored, "little") if len(stored) == 8 else 0
        missed[i] = count if 0 < count < 1 << 62 else UNCOUNTED
    return missed


def _walk(words: U32, used: I64, layout: PageLayout) -> I64:
    """Word positions of all records (not null padding), page by page in buffer order."""
    per_page = layout.size // 4
    is_record = np.zeros(len(words) + 1, bool)
    last = max(len(words) - 1, 0)
    current = np.arange(len(used)) * per_page + layout.data_offset // 4
    end = current + (used + 3) // 4
    current, end = current[used > 0], end[used > 0]
    while len(current):
        head = words[current]
        type_len = head & 31
        step = _WORDS[type_len]
        odd = np.flatnonzero(step == 0)
        if len(odd):
            # The payload starts with its own length in bytes (rb_event_data_length()).
            length = words[np.minimum(current[odd] + 1, last)].astype(np.int64)
            step[odd] = 1 + (length + 3) // 4
            step[odd[(length < 4) & (type_len[odd] == 0)]] = _LEAVES
            # A time_delta of 0 marks padding up to the end of the page (rb_null_event()).
            null = odd[head[odd] == _PADDING]
            step[null] = end[null] - current[null]
            is_record[current] = True
            is_record[current[null]] = False
        else:
            is_record[current] = True
        current = current + step
        inside = current < end
        if not inside.all():
            beyond = np.flatnonzero(current > end)
            if len(beyond):
                raise InputError(
                    f"a record leaves ring-buffer page {int(end[beyond[0]]) // per_page}",
                    "the trace data is damaged: record again",
                )
            current, end = current[inside], end[inside]
    return np.flatnonzero(is_record)


def _stamps(words: U32, position: I64, page: I64, type_len: I64, page_ts: U64) -> U64:
    """Absolute stamps (ns) of the records at *position*: modular sums of deltas, restarted
    at every page and absolute stamp."""
    if len(position) == 0:
        return np.zeros(0, np.uint64)
    long = type_len >= _TIME_EXTEND
    delta = (words[position] >> 5).astype(np.uint64)
    delta[long] += words[position[long] + 1].astype(np.uint64) << np.uint64(27)
    absolute = type_len == _TIME_STAMP
    base = page_ts[page]
    if bool(absolute.any()):
        base = base.copy()
        low = np.uint64((1 << _ABS_BITS) - 1)
        stamp = (delta & low) | (base & ~low)
        stamp += np.where(stamp < base, np.uint64(1 << _ABS_BITS), np.uint64(0))
        base[absolute] = stamp[absolute]
        delta[absolute] = 0
    opens = absolute.copy()
    opens[0] = True
    opens[1:] |= page[1:] != page[:-1]
    segment = np.maximum.accumulate(np.where(opens, np.arange(len(position)), 0))
    total = np.cumsum(delta)
    before = (total - delta)[segment]
    return base[segment] + total - before
