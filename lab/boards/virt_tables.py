# SPDX-License-Identifier: Apache-2.0
"""Replace ACPI tables of QEMU's by the lab's, in the memory of a stopped arm64 guest.

`-machine virt,ras=on` has a HEST with one SEA source. UEFI rounds the source's block up to 64 KiB
of ACPI NVS, and this is the only memory that the kernel will not touch. The lab's tables go there,
and the root table's entries are made to point to them. On x86 QEMU takes tables with -acpitable;
on arm64 it does not (hw/arm/virt-acpi-build.c).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ghesrace.errors import TransientError
from lab.firmware import hest
from lab.firmware.firmware import GuestMemory
from lab.firmware.hest import PAGE_SIZE, EmulatedSource, Placed

_HEADER = 36
_NVS = 0x1_0000
# In QEMU's HEST the header and the count come before the first source, whose status address is
# 24 bytes into it.
_BLOCK_POINTER = _HEADER + 4 + 24
_LENGTH, _CHECKSUM = 4, 9
# UEFI puts the tables below the end of the memory, and never further down than this (bytes).
_LOOK_BACK = 256 << 20


@dataclass(frozen=True, slots=True)
class _Root:
    """This is the XSDT; `entries` has the address of each table's entry in it, by signature."""

    address: int
    length: int
    entries: dict[bytes, int]


def install(
    memory: GuestMemory, ssdt: bytes, sources: tuple[EmulatedSource, ...]
) -> tuple[Placed, ...]:
    """Let the kernel find a HEST with *sources*, and *ssdt* (AML); return where the sources are.

    The guest must be stopped, after UEFI made its tables and before the kernel reads them.
    Raises TransientError if the tables are not there.
    """
    root = _root(memory)
    given = _u64(memory, _table(memory, root, b"HEST") + _BLOCK_POINTER)
    nvs = given & -_NVS
    if given - nvs + hest.BLOCK_LENGTH > PAGE_SIZE:
        raise TransientError(f"QEMU's error block is at {given:#x}, not where UEFI's area begins")
    tables = nvs + PAGE_SIZE
    placed = hest.place(sources, tables + PAGE_SIZE, nvs + _NVS)
    ours = hest.table(placed)
    memory.write(tables, ours)
    memory.write(tables + PAGE_SIZE // 2, ssdt)
    memory.write(placed[0].register, hest.registers(placed))
    _turn(memory, root, b"HEST", tables)
    _turn(memory, root, b"DBG2", tables + PAGE_SIZE // 2)  # Nobody misses the debug port.
    _sum_up(memory, root)
    return placed


def _root(memory: GuestMemory) -> _Root:
    start = memory.end - _LOOK_BACK
    at: int | None = start
    while at is not None:
        at = memory.find(b"XSDT", at, memory.end)
        if at is None:
            break
        length = int.from_bytes(memory.read(at + _LENGTH, 4), "little")
        if _HEADER < length < PAGE_SIZE and sum(memory.read(at, length)) & 0xFF == 0:
            entries = {}
            for entry in range(at + _HEADER, at + length, 8):
                table = _u64(memory, entry)
                if start <= table < memory.end:
                    entries[memory.read(table, 4)] = entry
            if b"HEST" in entries:
                return _Root(at, length, entries)
        at += 4
    raise TransientError("UEFI made no root table with a HEST: is QEMU's virt run with ras=on?")


def _table(memory: GuestMemory, root: _Root, name: bytes) -> int:
    return _u64(memory, root.entries[name])


def _turn(memory: GuestMemory, root: _Root, name: bytes, address: int) -> None:
    if name not in root.entries:
        raise TransientError(f"QEMU's tables have no {name.decode()} to take the place of")
    memory.write(root.entries[name], struct.pack("<Q", address))


def _sum_up(memory: GuestMemory, root: _Root) -> None:
    memory.write(root.address + _CHECKSUM, b"\0")
    memory.write(
        root.address + _CHECKSUM, bytes([-sum(memory.read(root.address, root.length)) & 0xFF])
    )


def _u64(memory: GuestMemory, address: int) -> int:
    return int.from_bytes(memory.read(address, 8), "little")
