# SPDX-License-Identifier: Apache-2.0
"""This module cuts text into lines, and reads the numbers in them, many lines at a time."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

# Text is an Arrow array of lines or of parts of lines. It is Any because Arrow's stubs know too few
# of the compute functions.
Text = Any
pc: Any = pyarrow.compute
# The bytes of some lines. A view is of memory that is used again.
Data = bytes | bytearray | memoryview

# Arrow looks for a module that is not there each time that it is given a value of Python's.
_EMPTY, _ZERO = pa.scalar("", pa.large_string()), pa.scalar("0", pa.large_string())
_DECIMAL = r"0x[0-9a-fA-F]{1,16}|-?\d{1,20}"
# Decimals of so many digits may be beyond what Arrow's casts take.
_LONG = pa.scalar(19, pa.int64())
_BARE = r"0x[0-9a-fA-F]{1,16}|-\d{1,20}|[0-9a-f]{1,16}"


def lines_of(data: bytes | bytearray) -> Text:
    """Return the lines of *data*, each with its newline; nothing is copied.

    >>> lines_of(b"a\\nbc").to_pylist()
    [b'a\\n', b'bc']
    """
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    offsets = np.concatenate(([0], ends)).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data)]
    lines: Text = pa.Array.from_buffers(pa.large_binary(), len(ends), buffers)
    return lines


def unix_lines(data: bytes | bytearray) -> bytes | bytearray:
    """Return the whole lines *data* without the carriage returns before their ends.

    >>> unix_lines(b"a\\r\\nb\\n")
    b'a\\nb\\n'
    """
    return data.replace(b"\r\n", b"\n") if b"\r" in data else data


def behind(data: Data, skip: int) -> tuple[Data, int]:
    """Return the whole lines *data* behind the first *skip* ones, and how many more are to be
    skipped.

    >>> behind(b"a\\nb\\n", 1), behind(b"a\\nb\\n", 3)
    ((b'b\\n', 0), (b'', 1))
    """
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    if skip < len(ends):
        return data[int(ends[skip - 1]) if skip else 0 :], 0
    return b"", skip - len(ends)


def first_of(data: Data, count: int) -> Data:
    """Return the first *count* of the whole lines *data*.

    >>> first_of(b"a\\nb\\n", 1), first_of(b"a\\nb\\n", 3)
    (b'a\\n', b'a\\nb\\n')
    """
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    return data if count >= len(ends) else data[: int(ends[count - 1]) if count else 0]


def integers(text: Text, empty: int = 0) -> npt.NDArray[np.int64]:
    """Return the decimal numbers of at most 18 digits in *text*, and *empty* where there is none.

    >>> integers(pa.array([b" 12", b""], pa.large_binary()), -1).tolist()
    [12, -1]
    """
    trimmed = pc.ascii_trim_whitespace(text.cast(pa.large_string()))
    there = pc.not_equal(trimmed, _EMPTY)
    other = pa.scalar(str(empty), pa.large_string()) if empty else _ZERO
    numbers = pc.if_else(there, trimmed, other).cast(pa.int64())
    return np.asarray(numbers.fill_null(empty)).astype(np.int64)


def numbers(
    text: Text, name: str, bare: bool = False
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """Return the value of the argument *name* in each text as 64 bits, and whether there is one.
    *bare* says that numbers without 0x are hexadecimal, unless they are negative.

    >>> numbers(lines_of(b"(f) pfn=100\\n(f) pfn=(fault)\\n"), "pfn")
    (array([100,   0], dtype=uint64), array([ True, False]))
    >>> numbers(lines_of(b"(f) pfn=100\\n"), "pfn", bare=True)[0].tolist()
    [256]
    """
    value = rf"(?P<v>{_BARE if bare else _DECIMAL})(?:[\s,)}}\]]|$)"
    pattern = rf"(?:^|[\s,({{]){re.escape(name)}[=:]\s?{value}"
    found = pc.extract_regex(text, pattern=pattern).field("v").cast(pa.large_string())
    found = pc.fill_null(found, "")
    there: npt.NDArray[np.bool_] = np.asarray(pc.not_equal(found, _EMPTY)).copy()
    negative = pc.starts_with(found, "-")
    prefixed = pc.starts_with(found, "0x")
    if bare:
        plain = pc.and_(pc.invert(pc.or_(negative, prefixed)), pc.not_equal(found, _EMPTY))
        hexadecimal = pc.replace_substring_regex(found, pattern="^", replacement="0x")
        found = pc.if_else(plain, hexadecimal, found)
        prefixed = pc.or_(prefixed, plain)
    long = pc.and_(pc.greater_equal(pc.binary_length(found), _LONG), pc.invert(prefixed))
    rows = np.flatnonzero(np.asarray(long))
    short = pc.if_else(long, _ZERO, found)
    positive = pc.if_else(pc.or_(negative, pc.equal(short, _EMPTY)), _ZERO, short).cast(pa.uint64())
    signed = pc.if_else(pc.and_(negative, pc.invert(long)), short, _ZERO).cast(pa.int64())
    below = np.asarray(signed).astype(np.int64).view(np.uint64)
    made: npt.NDArray[np.uint64] = np.bitwise_or(np.asarray(positive), below).astype(np.uint64)
    if len(rows):
        encoded = found.take(pa.array(rows)).dictionary_encode()
        table = [int(text) for text in encoded.dictionary.to_pylist()]
        fits = np.array([-(2**63) <= number < 2**64 for number in table])
        wide = np.array([n % 2**64 if f else 0 for n, f in zip(table, fits, strict=True)], "u8")
        which = np.asarray(encoded.indices)
        made[rows], there[rows] = wide[which], fits[which]
    return made, there
