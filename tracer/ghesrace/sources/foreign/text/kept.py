# SPDX-License-Identifier: Apache-2.0
"""This module keeps what the first pass made of a text, so that the second need not take the lines
apart again. It takes some memory at most; what is beyond it goes into a temporary file."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ghesrace.errors import TransientError
from ghesrace.sources.foreign.reader import Block
from ghesrace.sources.spool import Spool, room_of

_IN_MEMORY = 8 << 20  # bytes of pages
_MOST = 1 << 30  # bytes in the file, which may be in memory too: /tmp often is
_MOST_ROOM = 0.9  # of what is free: the others on the host need some, too


@dataclass(frozen=True, slots=True)
class _Stored:
    """This block's pages are in the file, from `offset` on: of each CPU so many bytes."""

    block: Block  # without its pages
    offset: int
    sizes: dict[int, int]


class Kept:
    """This keeps blocks in their order. `whole` is false once there was no room for one. Reading
    them back raises TransientError if the disk fails.

    >>> kept = Kept(in_memory=2)
    >>> for number in range(2):
    ...     kept.add(Block({0: bytearray(b"ab"), 3: bytearray(b"c")}, number))
    >>> kept.whole, [(bytes(block.chunks[3]), block.mark) for block in kept]
    (True, [(b'c', 0), (b'c', 1)])
    """

    def __init__(self, in_memory: int = _IN_MEMORY) -> None:
        self.whole = True
        self._left = in_memory
        self._blocks: list[Block] = []
        self._stored: list[_Stored] = []
        self._spool: Spool | None = None
        self._size, self._room = 0, 0

    def add(self, block: Block) -> None:
        """Keep *block*, if all those before it could be kept."""
        if not self.whole:
            return
        size = sum(map(len, block.chunks.values()))
        if not self._stored and size <= self._left:
            self._blocks.append(block)
            self._left -= size
            return
        try:
            self._store(block, size)
        except OSError:  # There is no room, or no folder for it: the text is read twice.
            self.whole = False
            self._blocks.clear()
            self._stored.clear()

    def _store(self, block: Block, size: int) -> None:
        if self._spool is None:
            self._spool = Spool()
            weakref.finalize(self, self._spool.close)
            self._room = min(_MOST, int(_MOST_ROOM * room_of(self._spool.file)))
        if self._size + size > self._room:
            raise OSError("no room")
        sizes = {cpu: len(pages) for cpu, pages in block.chunks.items()}
        self._stored.append(_Stored(replace(block, chunks={}), self._size, sizes))
        for pages in block.chunks.values():
            with memoryview(pages) as view:
                done = 0
                while done < len(view):
                    done += os.write(self._spool.file.fileno(), view[done:])
        self._size += size

    def __iter__(self) -> Iterator[Block]:
        yield from self._blocks
        for stored in self._stored:
            try:
                chunks = self._chunks(stored)
            except OSError as error:
                raise TransientError(
                    f"can't read a temporary file: {error.strerror or error}", "try again"
                ) from error
            yield replace(stored.block, chunks=chunks)

    def _chunks(self, stored: _Stored) -> dict[int, bytearray]:
        """Read the pages of a block again. Raises OSError."""
        assert self._spool is not None
        chunks = {cpu: bytearray(size) for cpu, size in stored.sizes.items()}
        offset = stored.offset
        for pages in chunks.values():
            with memoryview(pages) as view:
                done = 0
                while done < len(view):
                    got = os.preadv(self._spool.file.fileno(), [view[done:]], offset + done)
                    if not got:
                        raise OSError("a temporary file was cut")
                    done += got
            offset += len(pages)
        return chunks
