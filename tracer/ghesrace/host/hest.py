# SPDX-License-Identifier: Apache-2.0
"""This reads the ACPI Hardware Error Source Table (HEST), in which firmware announces its error
sources.

ACPI 6.5 defines the table in section 18.3.2 and the notification structure in 18.3.2.9; Linux has
both in include/acpi/actbl1.h.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ghesrace.errors import InputError

NOTIFY = {
    0: "polled",
    1: "external interrupt",
    2: "local interrupt",
    3: "SCI",
    4: "NMI",
    5: "CMCI",
    6: "MCE",
    7: "GPIO",
    8: "SEA",
    9: "SEI",
    10: "GSIV",
    11: "SDEI",
}
NMI, SEA, SDEI = 4, 8, 11

_SDT = struct.Struct("<4sIBB6s8sI4sI")
_GENERIC, _GENERIC_V2 = 9, 10
_LENGTH = {2: 20, 6: 48, 7: 44, 8: 56, _GENERIC: 64, _GENERIC_V2: 92}
# Machine check sources end in 28-byte banks. By type, this is the offset of the banks' count and
# the length of the source without them, both in bytes.
_BANKED = {0: (32, 40), 1: (44, 48), 11: (44, 48)}


@dataclass(frozen=True, slots=True)
class ErrorSource:
    """This is one generic hardware error source (GHES).

    `register` is the physical address of the 8-byte register that holds the physical address of the
    error status block. `block` is that block's physical address, or None if it could not be read,
    and `length` its length in bytes. `notify` is the raw notification type (NOTIFY), `vector` its
    GSI or SDEI event, and `poll_ms` the polling interval in ms.
    """

    id: int
    version: int
    notify: int
    vector: int
    poll_ms: int
    register: int
    length: int
    enabled: bool
    block: int | None = None

    @property
    def notification(self) -> str:
        """This is the notification type in words, such as "NMI"."""
        return NOTIFY.get(self.notify, f"type {self.notify}")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form, with addresses as integers."""
        return {**asdict(self), "notification": self.notification}


def parse(table: bytes) -> tuple[ErrorSource, ...]:
    """Return the generic error sources of the HEST *table*. Raises InputError if it is not one.

    >>> parse(b"HEST" + (40).to_bytes(4, "little") + bytes(32))  # a table without sources
    ()
    """
    if len(table) < _SDT.size + 4:
        raise InputError(f"a HEST of {len(table)} bytes has no header")
    signature, length = _SDT.unpack_from(table)[:2]
    if signature != b"HEST" or length > len(table):
        raise InputError(
            f"not a HEST: signature {signature!r}, length {length} in {len(table)} bytes"
        )
    (count,) = struct.unpack_from("<I", table, _SDT.size)
    sources = []
    at = _SDT.size + 4
    for number in range(count):
        if at + 8 > length:
            raise InputError(f"HEST source {number} of {count} begins outside the table")
        kind = struct.unpack_from("<H", table, at)[0]
        size = _size(table, at, kind, length)
        if at + size > length:
            raise InputError(f"HEST source {number} (type {kind}) is cut off")
        if kind in (_GENERIC, _GENERIC_V2):
            sources.append(_generic(table, at, kind))
        at += size
    return tuple(sources)


def read(root: Path = Path("/")) -> tuple[ErrorSource, ...]:
    """Parse the running kernel's HEST, found under *root*, and look up each error status block.

    Raises OSError if there is no table or it cannot be read, and InputError if it is malformed.

        for source in read():
            print(source.id, source.notification, source.block)
    """
    sources = parse((root / "sys/firmware/acpi/tables/HEST").read_bytes())
    return tuple(replace(source, block=_block(root, source)) for source in sources)


def _size(table: bytes, at: int, kind: int, length: int) -> int:
    if kind in _LENGTH:
        return _LENGTH[kind]
    if kind in _BANKED:
        count_at, fixed = _BANKED[kind]
        if at + fixed <= length:
            return fixed + 28 * table[at + count_at]
        return fixed
    raise InputError(f"HEST source type {kind} is unknown, so the next one cannot be found")


def _generic(table: bytes, at: int, kind: int) -> ErrorSource:
    ident = struct.unpack_from("<H", table, at + 2)[0]
    (register,) = struct.unpack_from("<Q", table, at + 24)
    notify, _, _, poll, vector = struct.unpack_from("<BBHII", table, at + 32)
    (block_length,) = struct.unpack_from("<I", table, at + 60)
    return ErrorSource(
        id=ident,
        version=2 if kind == _GENERIC_V2 else 1,
        notify=notify,
        vector=vector,
        poll_ms=poll,
        register=register if table[at + 20] == 0 else 0,
        length=block_length,
        enabled=bool(table[at + 7]),
    )


def _block(root: Path, source: ErrorSource) -> int | None:
    """Return what the register holds, read through /dev/mem, or None where CONFIG_STRICT_DEVMEM or
    lockdown forbids it."""
    if not source.register or source.register % 8:
        return None
    try:
        fd = os.open(root / "dev/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        page, offset = source.register & -mmap.PAGESIZE, source.register % mmap.PAGESIZE
        with mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ, offset=page) as memory:
            block: int = struct.unpack_from("<Q", memory, offset)[0]
        return block or None
    except (OSError, ValueError, OverflowError):
        return None
    finally:
        os.close(fd)
