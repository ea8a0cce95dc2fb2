# SPDX-License-Identifier: Apache-2.0
"""Bounds-checked look into Arrow IPC message headers, before any library sees the message.

pyarrow trusts the lengths in a message: a body length, a compressed buffer's claimed size
or a zstd stream can ask for any amount of memory. This reads just enough of the flatbuffer
(format/Message.fbs, format/Schema.fbs of Apache Arrow) to refuse such a message first.
Every access is bounds-checked by struct; there is no recursion and no loop but over buffers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ghesrace.errors import InputError

SCHEMA, RECORD_BATCH = 1, 3
_LZ4_FRAME, _ZSTD = 0, 1


class _Table:
    """A flatbuffer table at *position* of *data*."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position
        self._vtable = position - _at("<i", data, position)
        self._vsize = _at("<H", data, self._vtable)

    def slot(self, number: int) -> int:
        """Position of field *number*, 0 if it is not there."""
        where = 4 + 2 * number
        if where + 2 > self._vsize:
            return 0
        offset = _at("<H", self.data, self._vtable + where)
        return self.position + offset if offset else 0

    def scalar(self, number: int, form: str, default: int = 0) -> int:
        where = self.slot(number)
        return _at(form, self.data, where) if where else default

    def table(self, number: int) -> _Table | None:
        where = self.slot(number)
        return _Table(self.data, where + _at("<I", self.data, where)) if where else None

    def vector(self, number: int) -> tuple[int, int]:
        """(position of the first element, number of elements)."""
        where = self.slot(number)
        if not where:
            return 0, 0
        start = where + _at("<I", self.data, where)
        return start + 4, _at("<I", self.data, start)


def _at(form: str, data: bytes, position: int) -> int:
    if position < 0:
        raise struct.error("position before the message")
    value: int = struct.unpack_from(form, data, position)[0]
    return value


@dataclass(frozen=True, slots=True)
class Header:
    """Kind (SCHEMA, RECORD_BATCH, ...) of a message and the bytes of its body."""

    kind: int
    body: int


def header(metadata: bytes) -> Header:
    """Read a message's header. Raises InputError if it is none."""
    try:
        message = _Table(metadata, _at("<I", metadata, 0))
        return Header(message.scalar(1, "<B"), message.scalar(3, "<q"))
    except struct.error as error:
        raise InputError(f"damaged message header: {error}") from error


def check_batch(metadata: bytes, body: bytes, widths: list[int], max_rows: int) -> int:
    """Rows of a record batch of primitive, non-null columns of *widths* bytes per value.

    Raises InputError unless every buffer lies in *body* and decompresses (by its own
    claim) to just the rows' bytes, and the rows are at most *max_rows*.
    """
    try:
        batch = _Table(metadata, _at("<I", metadata, 0)).table(2)
        if batch is None:
            raise InputError("damaged batch: no header")
        rows = batch.scalar(0, "<q")
        if not 0 <= rows <= max_rows:
            raise InputError(f"damaged batch: {rows} rows")
        compression = batch.table(3)
        codec = compression.scalar(0, "<b", _LZ4_FRAME) if compression else None
        start, count = batch.vector(2)
        if count != 2 * len(widths):
            raise InputError(f"damaged batch: {count} buffers for {len(widths)} columns")
        for i in range(count):
            offset = _at("<q", metadata, start + 16 * i)
            length = _at("<q", metadata, start + 16 * i + 8)
            if offset < 0 or length < 0 or offset + length > len(body):
                raise InputError("damaged batch: a buffer lies outside its body")
            if i % 2 == 0:
                if length:
                    raise InputError("damaged batch: a column with nulls")
                continue
            need = rows * widths[i // 2]
            claimed = length
            if codec is not None and length:
                claimed = _at("<q", body, offset)  # -1: stored as it is
                claimed = length - 8 if claimed == -1 else claimed
                if claimed != need:
                    raise InputError("damaged batch: a buffer claims the wrong size")
                if codec not in (_LZ4_FRAME, _ZSTD):
                    raise InputError("damaged batch: unknown compression")
            if claimed < need:
                raise InputError("damaged batch: a buffer is too short")
        return rows
    except struct.error as error:
        raise InputError(f"damaged batch header: {error}") from error
