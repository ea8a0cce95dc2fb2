# SPDX-License-Identifier: Apache-2.0
"""This reads the running kernel's code by address, from /proc/kcore, the kernel's memory as an ELF
core file. Who has CAP_SYS_RAWIO may read it, unless the kernel is locked down for confidentiality
(open_kcore in fs/proc/kcore.c). Where it can't be read, code_by_bpf.py may do.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from ghesrace.errors import InputError

_EHDR, _PHDR = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_PT_LOAD = 1
_MOST_SEGMENTS = 4096
BLOCK = 128  # bytes that are read at a time


class Code(Protocol):
    """A kernel's code, by address."""

    def read(self, address: int, size: int) -> bytes:
        """Return up to *size* bytes at *address*: fewer, or none, where no more can be read."""
        ...


class Blocks:
    """This is code that was read before: some blocks of it, by address.

    >>> Blocks({0xffffffff81000000: b"\\xc3\\xcc"}).read(0xffffffff81000001, 8)
    b'\\xcc'
    """

    def __init__(self, blocks: Mapping[int, bytes]) -> None:
        self._blocks: list[tuple[int, bytes]] = []
        for address, block in sorted(blocks.items()):
            if self._blocks and sum((self._blocks[-1][0], len(self._blocks[-1][1]))) == address:
                begin, before = self._blocks.pop()
                self._blocks.append((begin, before + block))
            else:
                self._blocks.append((address, block))

    def read(self, address: int, size: int) -> bytes:
        """Return up to *size* bytes at *address*."""
        for begin, block in self._blocks:
            if begin <= address < begin + len(block):
                return block[address - begin :][:size]
        return b""


class Blockwise:
    """This reads BLOCK bytes at a time, and each block once; a subclass says how one is read."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}

    def read(self, address: int, size: int) -> bytes:
        """Return up to *size* bytes at *address*."""
        found = b""
        while len(found) < size:
            at = address + len(found)
            begin = at - at % BLOCK
            if begin not in self._known:
                self._known[begin] = self._block(begin)
            part = self._known[begin][at - begin :]
            found += part
            if begin + len(self._known[begin]) <= at or not part:
                break
        return found[:size]

    def _block(self, begin: int) -> bytes:
        """Return up to BLOCK bytes at *begin*; none where they can't be read."""
        raise NotImplementedError


class Kcore(Blockwise):
    """The code of the kernel whose core file is at *path*.

    The file is open only while something is read, so that whoever gives up privileges later keeps
    nothing of it. Raises OSError if it can't be read, InputError if it is no core file of a 64-bit
    little-endian machine.

        Kcore(Path("/proc/kcore")).read(symbol.address, 64)
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        with path.open("rb") as file:
            self._segments = _segments(file.read(_EHDR.size), file)

    def _block(self, begin: int) -> bytes:
        for address, offset, length in self._segments:
            if address <= begin < address + length:
                try:
                    with self._path.open("rb") as file:
                        file.seek(offset + begin - address)
                        block = file.read(min(BLOCK, address + length - begin)) or b""
                except OSError:
                    return b""
                # The kernel hands out zeros for pages that it can't read.
                return block if any(block) else b""
        return b""

    def blocks(self) -> dict[int, bytes]:
        """Return all that a small core file holds, by address (the tests' is one)."""
        return {a: self.read(a, length) for a, _, length in self._segments}


def _segments(head: bytes, file: BinaryIO) -> list[tuple[int, int, int]]:
    """Return (address, offset, bytes) of each segment."""
    if len(head) < _EHDR.size or head[:6] != b"\x7fELF\x02\x01":
        raise InputError("it is no ELF core file of 64 bits")
    fields = _EHDR.unpack(head)
    offset, entry, number = fields[5], fields[9], fields[10]
    if entry != _PHDR.size or number > _MOST_SEGMENTS or offset > 1 << 20:
        raise InputError("its program headers are not a core file's")
    file.seek(offset)
    table = file.read(entry * number)
    if len(table) < entry * number:
        raise InputError("it ends within its program headers")
    found = []
    for kind, _, at, address, _, size, _, _ in _PHDR.iter_unpack(table):
        if kind == _PT_LOAD:
            found.append((address, at, size))
    return found
