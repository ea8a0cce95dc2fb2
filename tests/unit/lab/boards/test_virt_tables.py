# SPDX-License-Identifier: Apache-2.0
"""The exchange of QEMU's tables for ours, in a file that stands for RAM."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ghesrace.errors import TransientError
from lab.boards import virt_tables
from lab.boards.virt import SOURCES, Virt
from lab.firmware import hest
from lab.firmware.firmware import GuestMemory
from lab.firmware.hest import Notify

BASE = Virt.ram_base
SIZE = 1 << 20
XSDT, QEMU_HEST, QEMU_DBG2, NVS = BASE + 0x8000, BASE + 0x9000, BASE + 0xA000, BASE + 0x30000
SSDT = b"SSDT" + bytes(60)


def table(name: bytes, body: bytes) -> bytes:
    raw = bytearray(name + struct.pack("<I", 36 + len(body)) + bytes(28) + body)
    raw[9] = -sum(raw) & 0xFF
    return bytes(raw)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GuestMemory]:
    """RAM as UEFI leaves it: a root table, QEMU's HEST and DBG2, the block in the NVS area."""
    monkeypatch.setattr(virt_tables, "_LOOK_BACK", SIZE)
    ram = tmp_path / "ram"
    ram.write_bytes(bytes(SIZE))
    made = GuestMemory(ram, BASE)
    made.write(BASE + 0x100, b"XSDT")  # not a table: the kernel's own code names it too
    made.write(XSDT, table(b"XSDT", struct.pack("<2Q", QEMU_HEST, QEMU_DBG2)))
    made.write(QEMU_HEST, table(b"HEST", struct.pack("<I", 1) + bytes(24) + struct.pack("<Q", NVS)))
    made.write(QEMU_DBG2, table(b"DBG2", b""))
    yield made
    made.close()


def test_the_kernel_finds_our_tables(memory: GuestMemory) -> None:
    """A root table that points elsewhere, or adds up wrongly, leaves QEMU's one SEA source."""
    placed = virt_tables.install(memory, SSDT, SOURCES)
    root = memory.read(XSDT, 36 + 16)
    assert sum(root) & 0xFF == 0
    ours, ssdt = struct.unpack("<2Q", root[36:])
    wanted = hest.table(placed)
    assert memory.read(ours, len(wanted)) == wanted
    assert memory.read(ssdt, len(SSDT)) == SSDT
    for place in placed:
        assert struct.unpack("<Q", memory.read(place.register, 8)) == (place.block,)


def test_everything_of_ours_is_in_reserved_memory(memory: GuestMemory) -> None:
    """Outside of UEFI's area the kernel would use the page as RAM, and apei refuse the block."""
    placed = virt_tables.install(memory, SSDT, SOURCES)
    frames = [frame for place in placed for frame in place.frames]
    assert len(set(frames)) == len(frames)
    assert min(frames) > NVS
    assert max(frames) + hest.PAGE_SIZE <= NVS + 0x10000
    names = {place.source.notify for place in placed}
    assert names == {Notify.SEA, Notify.POLLED, Notify.EXTERNAL, Notify.GPIO, Notify.GSIV}


def test_memory_without_a_root_table(memory: GuestMemory) -> None:
    """Without ras=on there is no HEST to take the place of: a reason, not a KeyError."""
    memory.write(QEMU_HEST, b"NONE")
    with pytest.raises(TransientError, match="ras=on"):
        virt_tables.install(memory, SSDT, SOURCES)


def test_a_block_that_is_not_where_the_area_begins(memory: GuestMemory) -> None:
    """Ours would lie upon QEMU's block, or outside the area."""
    memory.write(QEMU_HEST + 64, struct.pack("<Q", NVS + 0x8000))
    with pytest.raises(TransientError, match="not where"):
        virt_tables.install(memory, SSDT, SOURCES)
