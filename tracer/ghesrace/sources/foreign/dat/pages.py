# SPDX-License-Identifier: Apache-2.0
"""This module hands out the ring-buffer pages of a trace.dat in the order of time over all CPUs, in
blocks of bounded size.
"""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ghesrace.errors import InputError
from ghesrace.sources.foreign.reader import Block

from .header import BufferPart, CpuData, Cursor, expand

BLOCK_BYTES = 2 << 20  # bytes of pages decoded at once, which make some 50 MB of arrays at worst
_MAX_CHUNK = 8 << 20
_CACHE_BYTES = 64 << 20
# Nearly empty pages compress well, but a file that claims a higher ratio is made to fill our memory
# or to take our time.
_MAX_RATIO = 1000
_DAMAGED = "the file is damaged or cut: record again"


@dataclass(frozen=True, slots=True)
class _Chunk:
    begin: int  # in the CPU's uncompressed data
    offset: int  # in the file
    packed: int
    size: int


class PageFile:
    """A page file hands out the pages of one *buffer* of the file whose bytes are *data*.
    `truncated` says what was cut off, if anything was.

    Raises InputError if the file's own table of its pages is impossible.

        pages = PageFile(data, head.buffers[0], head.compression, path)
        for block in pages.blocks():
            print({cpu: len(chunk) for cpu, chunk in block.chunks.items()})
    """

    def __init__(
        self, data: mmap.mmap | bytes, buffer: BufferPart, compression: str, path: Path
    ) -> None:
        self.truncated: list[str] = []
        self.path = path
        self._data = data
        self._size = buffer.page_size
        self._compression = compression if buffer.compressed else "none"
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cached = 0
        self._budget = len(data)
        self._chunks: dict[int, list[_Chunk]] = {}
        self._place: dict[int, int] = {}
        self.cpus = [entry.cpu for entry in buffer.cpus]
        self._pages = {entry.cpu: self._index(entry) for entry in buffer.cpus}

    @property
    def count(self) -> int:
        """This is how many pages all CPUs have together."""
        return sum(map(len, self._pages.values()))

    def blocks(self) -> Iterator[Block]:
        """Yield all pages, the oldest first. The pages of a CPU stay in order whatever their stamps
        say."""
        stamps = {cpu: np.maximum.accumulate(ts) for cpu, ts in self._pages.items() if len(ts)}
        if not stamps:
            return
        cpus = np.concatenate([np.full(len(ts), cpu) for cpu, ts in stamps.items()])
        ts = np.concatenate(list(stamps.values()))
        order = np.argsort(ts, kind="stable")
        cpus, ts = cpus[order], ts[order]
        step = max(1, BLOCK_BYTES // self._size)
        done = dict.fromkeys(stamps, 0)
        for first in range(0, len(cpus), step):
            chunks: dict[int, bytearray] = {}
            members, counts = np.unique(cpus[first : first + step], return_counts=True)
            for cpu, count in zip(members.tolist(), counts.tolist(), strict=True):
                chunks[cpu] = self._read(cpu, done[cpu] * self._size, count * self._size)
                done[cpu] += count
            last = first + step >= len(cpus)
            yield Block(chunks, None if last else int(ts[first + step]))

    def _index(self, entry: CpuData) -> npt.NDArray[np.uint64]:
        """Return the stamps (ns) of a CPU's pages, which are their first 8 bytes."""
        size = min(entry.size, max(len(self._data) - entry.offset, 0)) if entry.size else 0
        if size < entry.size:
            self.truncated.append(f"the data of CPU {entry.cpu} ends early")
        self._budget -= size
        if self._budget < 0:
            raise InputError(f"{self.path}: the data of its CPUs overlap", _DAMAGED)
        if self._compression == "none":
            self._place[entry.cpu] = entry.offset
            if size % self._size:
                self.truncated.append(f"the data of CPU {entry.cpu} ends inside a page")
            heads = [np.zeros(0, np.uint64)]
            end = entry.offset + size - size % self._size
            for at in range(entry.offset, end, BLOCK_BYTES):
                raw = np.frombuffer(self._data, np.uint8, min(BLOCK_BYTES, end - at), at)
                heads.append(raw.reshape(-1, self._size)[:, :8].copy().view("<u8")[:, 0])
                self._forget(at, at + len(raw))
            return np.concatenate(heads)
        chunks = self._chunks[entry.cpu] = self._chunk_table(entry, size)
        heads = [np.zeros(0, np.uint64)]
        for chunk in chunks:
            page = np.frombuffer(self._unpacked(chunk), np.uint8).reshape(-1, self._size)
            heads.append(page[:, :8].copy().view("<u8")[:, 0])
        return np.concatenate(heads)

    def _chunk_table(self, entry: CpuData, size: int) -> list[_Chunk]:
        if size < 4:
            return []
        cursor = Cursor(self._data, self.path, entry.offset)
        # The size is that of the chunks, without their number before them (trace-cmd 3.1).
        end = min(entry.offset + 4 + size, len(self._data))
        chunks: list[_Chunk] = []
        begin = 0
        for _ in range(cursor.number(4)):
            if cursor.at + 8 > end:
                self.truncated.append(f"the data of CPU {entry.cpu} ends early")
                break
            packed, full = cursor.number(4), cursor.number(4)
            if full % self._size or full > _MAX_CHUNK or not packed:
                raise InputError(f"{self.path}: impossible compressed pages", _DAMAGED)
            if cursor.at + packed > end:
                self.truncated.append(f"the data of CPU {entry.cpu} ends early")
                break
            chunks.append(_Chunk(begin, cursor.at, packed, full))
            cursor.at += packed
            begin += full
            if begin > (1 << 20) + _MAX_RATIO * (cursor.at - entry.offset):
                raise InputError(f"{self.path}: compressed pages expand without end", _DAMAGED)
        return chunks

    def _read(self, cpu: int, begin: int, size: int) -> bytearray:
        """Return the bytes [begin, begin + size) of a CPU's uncompressed pages."""
        if self._compression == "none":
            at = self._place[cpu] + begin
            data = bytearray(self._data[at : at + size])
            self._forget(at, at + size)
            return data
        found = bytearray()
        chunks = self._chunks[cpu]
        starts = [chunk.begin for chunk in chunks]
        number = int(np.searchsorted(starts, begin, side="right")) - 1
        while len(found) < size:
            chunk = chunks[number]
            skip = begin + len(found) - chunk.begin
            found += self._unpacked(chunk)[skip : skip + size - len(found)]
            number += 1
        return found

    def _forget(self, begin: int, end: int) -> None:
        """Give back the memory that the file's bytes [begin, end) take once they were looked at;
        they stay where they are. A long file would be in memory as a whole otherwise."""
        first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        if isinstance(self._data, mmap.mmap) and first < end:
            self._data.madvise(mmap.MADV_DONTNEED, first, end - first)

    def _unpacked(self, chunk: _Chunk) -> bytes:
        data = self._cache.get(chunk.offset)
        if data is not None:
            self._cache.move_to_end(chunk.offset)
            return data
        packed = bytes(self._data[chunk.offset : chunk.offset + chunk.packed])
        data = expand(packed, chunk.size, self._compression, self.path, _MAX_CHUNK)
        self._cache[chunk.offset] = data
        self._cached += len(data)
        while self._cached > _CACHE_BYTES:
            self._cached -= len(self._cache.popitem(last=False)[1])
        return data
