# SPDX-License-Identifier: Apache-2.0
"""The lab's HEST says which error sources there are and where their blocks lie.

This module makes the table's bytes. The layout is that of ACPI 6.5 table 18.4, and of
acpi_hest_generic in Linux' include/acpi/actbl1.h. The blocks lie in one small region that the
guest's command line reserves (memmap=), so that the kernel does not take it for RAM. It begins
with a page of registers, each of which holds the address of one block. The blocks follow, and no
two sources share a page.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

PAGE_SIZE = 4096
BLOCK_LENGTH = 1024  # bytes; room for one error record
CROSSING = 64  # bytes of a crossing block that lie before the page end

# The region lies below the end of the smallest guest allowed, far above the kernel's low memory.
BASE = 0x1000_0000
REGION = 0x1_0000

# This is a PCI INTx line of `-machine pc`; the GHES interrupt shares it with the e1000.
SHARED_GSI = 11


class Notify(IntEnum):
    """The firmware tells the kernel of a record in one of these ways (acpi_hest_notify_types)."""

    POLLED = 0
    EXTERNAL = 1
    NMI = 4
    GPIO = 7
    SEA = 8
    GSIV = 10


@dataclass(frozen=True, slots=True)
class EmulatedSource:
    """A generic hardware error source has a name for the lab and a notification for the kernel.

    If it *crosses*, its block begins CROSSING bytes before a page end, so that reading one report
    maps two frames, one after the other, at one address. A polled source has a period, *poll_ms*; a
    source with an interrupt has a *vector*, which is its GSI.

    >>> EmulatedSource("nmi-cross", Notify.NMI, crosses=True).vector
    0
    """

    name: str
    notify: Notify
    crosses: bool = False
    poll_ms: int = 0
    vector: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """A placed source has guest-physical addresses for its register and its block (bytes)."""

    source: EmulatedSource
    source_id: int
    register: int
    block: int

    @property
    def frames(self) -> tuple[int, ...]:
        """Return the physical addresses of the pages that the block touches."""
        first = self.block & ~(PAGE_SIZE - 1)
        last = (self.block + BLOCK_LENGTH - 1) & ~(PAGE_SIZE - 1)
        return tuple(range(first, last + 1, PAGE_SIZE))


SOURCES = (
    EmulatedSource("nmi", Notify.NMI),
    EmulatedSource("nmi-cross", Notify.NMI, crosses=True),
    EmulatedSource("polled", Notify.POLLED, poll_ms=1000),
    EmulatedSource("irq", Notify.EXTERNAL, vector=SHARED_GSI),
    EmulatedSource("irq-cross", Notify.EXTERNAL, crosses=True, vector=SHARED_GSI),
)

OEM = b"GHESRC"
_TABLE_HEADER = struct.Struct("<4sIBB6s8sI4sI")
_GENERIC_SOURCE = struct.Struct("<HHHBBIII" + "BBBBQ" + "BBHIIIIII" + "I")
_GENERIC_ERROR = 9  # ACPI_HEST_TYPE_GENERIC_ERROR


def place(
    sources: Iterable[EmulatedSource] = SOURCES, base: int = BASE, end: int = BASE + REGION
) -> tuple[Placed, ...]:
    """Give every source a register and a block of its own in the region [base, end) (bytes).

    Raises ValueError if they do not fit.

    >>> [hex(frame) for frame in place()[1].frames]  # nmi-cross
    ['0x10002000', '0x10003000']
    """
    placed = []
    page = base + PAGE_SIZE
    for number, source in enumerate(sources):
        block = page + PAGE_SIZE - CROSSING if source.crosses else page
        placed.append(Placed(source, number, base + 8 * number, block))
        page = placed[-1].frames[-1] + PAGE_SIZE
    if page > end:
        raise ValueError(f"the blocks end at {page:#x}, the region at {end:#x}")
    return tuple(placed)


def _generic_source(placed: Placed) -> bytes:
    source = placed.source
    return _GENERIC_SOURCE.pack(
        _GENERIC_ERROR,
        placed.source_id,
        0xFFFF,  # no related source
        0,
        1,  # enabled
        1,  # records to preallocate
        1,  # sections per record
        BLOCK_LENGTH,
        # The generic address is in system memory, 64 bits wide, and accessed as one quad word.
        0,
        64,
        0,
        4,
        placed.register,
        # The notification structure follows.
        source.notify,
        28,
        0,
        source.poll_ms,
        source.vector,
        0,
        0,
        0,
        0,
        BLOCK_LENGTH,
    )


def table(placed: Iterable[Placed]) -> bytes:
    """Return the HEST that describes *placed*, checksum included.

    >>> made = table(place())
    >>> made[:4], sum(made) % 256
    (b'HEST', 0)
    """
    sources = [_generic_source(p) for p in placed]
    body = struct.pack("<I", len(sources)) + b"".join(sources)
    length = _TABLE_HEADER.size + len(body)
    header = _TABLE_HEADER.pack(b"HEST", length, 1, 0, OEM, b"GHESLAB ", 1, b"GLAB", 1)
    raw = bytearray(header + body)
    raw[9] = -sum(raw) & 0xFF
    return bytes(raw)


def registers(placed: Iterable[Placed]) -> bytes:
    """Return the content of the register page: the address of each block, in eight bytes each."""
    return b"".join(struct.pack("<Q", p.block) for p in placed)
