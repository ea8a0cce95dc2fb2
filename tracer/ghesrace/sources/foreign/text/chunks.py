# SPDX-License-Identifier: Apache-2.0
"""This module reads a text some MiB at a time, always into the same memory."""

from __future__ import annotations

from io import FileIO

from ghesrace.errors import InputError

from .debris import SIGNS, undressed
from .lines import Data, unix_lines

MAX_LINE = 1 << 20


class Chunks:
    """Chunks of the text *file* are whole lines, for which up to *most* bytes are read at a time.
    A line that is not yet whole waits for the next chunk; `rest` says that one does.

        chunks = Chunks(file, most=2 << 20)
        while (lines := chunks.take(2 << 20)) is not None:
            print(len(lines))
    """

    def __init__(self, file: FileIO, most: int) -> None:
        self._file = file
        self._data = bytearray(most + MAX_LINE)
        self._begin = self._end = 0  # of the line that waits

    @property
    def rest(self) -> bool:
        """Whether the bytes that were read last end in the middle of a line."""
        return self._begin < self._end

    @property
    def last(self) -> bytes:
        """These are the bytes of that line."""
        return bytes(self._data[self._begin : self._end])

    def take(self, size: int) -> Data | None:
        """Read up to *size* more bytes, and return the lines that are whole now, without dress;
        None at the end of the file. They are good until the next call. Raises InputError if a line
        has no end.
        """
        data = self._data
        kept = self._end - self._begin
        data[:kept] = data[self._begin : self._end]
        with memoryview(data) as view:
            got = self._file.readinto(view[kept : kept + size]) or 0
        self._begin, self._end = 0, kept + got
        if not got:
            return None
        self._begin = data.rfind(b"\n", kept, self._end) + 1
        if self._end - self._begin > MAX_LINE:
            raise InputError("it has a line of more than 1 MiB", "is it a trace?")
        lines = memoryview(data)[: self._begin]
        # Almost no text has any of these letters, and to look for one is cheap.
        if any(data.find(sign, 0, self._begin) >= 0 for sign in SIGNS):
            return undressed(unix_lines(bytes(lines)))
        return lines
