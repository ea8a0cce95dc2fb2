# SPDX-License-Identifier: Apache-2.0
"""The lab's HEST: which error sources there are, where their blocks lie, the table's bytes.

Layout: ACPI 6.5 table 18.4 and acpi_hest_generic in Linux' include/acpi/actbl1.h. The blocks
lie in one small region that the guest's command line reserves (memmap=), so that the kernel
does not take it for RAM: first a page of registers (each holds the address of one block),
then the pages of each block, no two sources sharing one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

PAGE_SIZE = 4096
BLOCK_LENGTH = 1024  # bytes; room for one error record
CROSSING = 64  # bytes of a crossing block that lie before the page end

# Below every guest size that we allow, far above the kernel's own low memory.
BASE = 0x1000_0000
REGION = 0x1_0000

# A PCI INTx line of `-machine pc`: the GHES interrupt shares it with the e1000.
SHARED_GSI = 11


class Notify(IntEnum):
    """acpi_hest_notify_types: how the firmware tells the kernel about a record."""

    POLLED = 0
    EXTERNAL = 1
    NMI = 4
    GPIO = 7
    SEA = 8
    GSIV = 10


@dataclass(frozen=True, slots=True)
class EmulatedSource:
    """One generic hardware error source: a name for us, a notification for the kernel.

    `crosses`: its block begins CROSSING bytes before a page end, so that reading one report
    maps two frames, one after the other, at one address.
    """

    name: str
    notify: Notify
    crosses: bool = False
    poll_ms: int = 0
    vector: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """A source with its place in guest-physical memory (bytes)."""

    source: EmulatedSource
    source_id: int
    register: int
    block: int

    @property
    def frames(self) -> tuple[int, ...]:
        """Physical addresses of the pages that the block touches."""
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
        # generic address: system memory, 64 bits wide, accessed as one quad word
        0,
        64,
        0,
        4,
        placed.register,
        # notification structure
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
    """Return the HEST that describes *placed*, checksum included."""
    sources = [_generic_source(p) for p in placed]
    body = struct.pack("<I", len(sources)) + b"".join(sources)
    length = _TABLE_HEADER.size + len(body)
    header = _TABLE_HEADER.pack(b"HEST", length, 1, 0, OEM, b"GHESLAB ", 1, b"GLAB", 1)
    raw = bytearray(header + body)
    raw[9] = -sum(raw) & 0xFF
    return bytes(raw)


def registers(placed: Iterable[Placed]) -> bytes:
    """Return the register page's content: the address of each block, eight bytes each."""
    return b"".join(struct.pack("<Q", p.block) for p in placed)
