# SPDX-License-Identifier: Apache-2.0
"""This module checks the headers of Arrow IPC messages before any library sees the message.

pyarrow trusts the lengths in a message: a body length, a compressed buffer's claimed size
or a zstd stream can ask for any amount of memory. This module reads just enough of the flatbuffer
(format/Message.fbs and format/Schema.fbs of Apache Arrow) to refuse such a message first.
The struct module checks the bounds of every access. There is no recursion, and the only loop is
over the buffers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ghesrace.errors import InputError

SCHEMA, RECORD_BATCH = 1, 3
_LZ4_FRAME, _ZSTD = 0, 1


class _Table:
    """This reads the flatbuffer table at *position* of *data*. Every method raises struct.error if
    what it reads lies outside *data*."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position
        self._vtable = position - _at("<i", data, position)
        self._vsize = _at("<H", data, self._vtable)

    def slot(self, number: int) -> int:
        """Return the position of field *number*, or 0 if the table does not have it."""
        where = 4 + 2 * number
        if where + 2 > self._vsize:
            return 0
        offset = _at("<H", self.data, self._vtable + where)
        return self.position + offset if offset else 0

    def scalar(self, number: int, form: str, default: int = 0) -> int:
        """Return the number in field *number*, whose type is *form* as struct has it."""
        where = self.slot(number)
        return _at(form, self.data, where) if where else default

    def table(self, number: int) -> _Table | None:
        """Return the table that field *number* refers to, or None if there is none."""
        where = self.slot(number)
        return _Table(self.data, where + _at("<I", self.data, where)) if where else None

    def vector(self, number: int) -> tuple[int, int]:
        """Return the position of the first element, and the number of elements, of the vector that
        field *number* refers to."""
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
    """A header tells the `kind` of a message (SCHEMA, RECORD_BATCH, ...), and how many bytes its
    `body` has."""

    kind: int
    body: int


def header(metadata: bytes) -> Header:
    """Read the header of a message. Raises InputError if *metadata* is none.

    >>> import pyarrow as pa
    >>> message = pa.schema([("ts", pa.uint64())]).serialize().to_pybytes()
    >>> header(message[8:])  # behind the continuation marker and the length
    Header(kind=1, body=0)
    """
    try:
        message = _Table(metadata, _at("<I", metadata, 0))
        return Header(message.scalar(1, "<B"), message.scalar(3, "<q"))
    except struct.error as error:
        raise InputError(f"damaged message header: {error}") from error


def check_batch(metadata: bytes, body: bytes, widths: list[int], max_rows: int) -> int:
    """Return how many rows a record batch has, whose columns are primitive, without nulls, and
    *widths* bytes wide per value.

    Raises InputError unless every buffer lies in *body* and decompresses (by its own claim) to
    exactly the bytes of its rows, and unless the rows are at most *max_rows*.
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
                claimed = _at("<q", body, offset)  # -1 if it is stored as it is
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
