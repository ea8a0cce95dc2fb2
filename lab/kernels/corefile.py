# SPDX-License-Identifier: Apache-2.0
"""Keep the code that planning reads, and write it as the core file that /proc/kcore is."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from ghesrace.host.code import BLOCK, Code

_EHDR, _PHDR = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_IDENT, _CORE, _LOAD = b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), 4, 1


class Recording:
    """This passes on what *code* has and keeps each block that was asked for, by address.

    >>> from ghesrace.host.code import Blocks
    >>> recording = Recording(Blocks({0x1000: bytes([0xc3]) * BLOCK}))
    >>> recording.read(0x1004, 2), list(recording.blocks)
    (b'\\xc3\\xc3', [4096])
    """

    def __init__(self, code: Code) -> None:
        self._code = code
        self.blocks: dict[int, bytes] = {}

    def read(self, address: int, size: int) -> bytes:
        """Return up to *size* bytes at *address*."""
        first, last = address // BLOCK * BLOCK, (address + size - 1) // BLOCK * BLOCK
        for begin in range(first, last + 1, BLOCK):
            block = self._code.read(begin, BLOCK)
            if any(block):
                self.blocks[begin] = block
        return self._code.read(address, size)


def core(blocks: Mapping[int, bytes]) -> bytes:
    """Return a core file of *blocks*, by address.

    >>> core({})[:4]
    b'\\x7fELF'
    """
    head = _EHDR.pack(
        _IDENT, _CORE, 0, 1, 0, _EHDR.size, 0, 0, _EHDR.size, _PHDR.size, len(blocks), 0, 0, 0
    )
    table, data = b"", b""
    begin = _EHDR.size + _PHDR.size * len(blocks)
    for address, block in sorted(blocks.items()):
        size = len(block)
        table += _PHDR.pack(_LOAD, 5, begin + len(data), address, 0, size, size, 1)
        data += block
    return head + table + data
