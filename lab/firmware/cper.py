# SPDX-License-Identifier: Apache-2.0
"""Make the bytes of a Generic Error Status Block with one memory error.

The formats are those of UEFI 2.10 N.2 and ACPI 6.5 18.3.2.7; the names are those of Linux'
include/acpi/actbl1.h and include/linux/cper.h. Everything is little endian.
"""

from __future__ import annotations

import struct
import uuid
from enum import IntEnum

STATUS_OFFSET = 0  # block_status, u32: the kernel zeroes it to acknowledge
HEADER = struct.Struct("<IIIII")
ENTRY = struct.Struct("<16sIHBBI16s20sQ")
MEMORY_ERROR = struct.Struct("<QQQQ8H3QBBHHH")

# Bit 1 says that a corrected error is valid, bits 4 to 13 that there is one data entry.
CORRECTED_ONE_ENTRY = 0x12
MEMORY_SECTION = uuid.UUID("a5bc1114-6f64-4ede-b863-3e83ed7c83b1")

_VALID_TARGET, _VALID_TYPE = 1 << 13, 1 << 14
_SINGLE_BIT_ECC = 2
_REVISION = 0x300  # acpi_hest_generic_data_v300, the one with a time stamp


class Severity(IntEnum):
    """These are the severities of CPER; FATAL makes the kernel panic (__ghes_panic)."""

    RECOVERABLE = 0
    FATAL = 1
    CORRECTED = 2
    NONE = 3


def memory_error(target: int) -> bytes:
    """Return the 80 bytes of a memory error section that names *target* (u64), and no address.

    If it had an address, x86 would also log a machine check (apei_mce_report_mem_error()) and print
    it at KERN_EMERG, which sends 400 bytes through an emulated UART, thousands of times a minute.

    >>> len(memory_error(7))
    80
    """
    where = [0] * 8  # node, card, module, bank, device, row, column, bit position
    requestor = responder = 0
    return MEMORY_ERROR.pack(
        _VALID_TARGET | _VALID_TYPE,
        0,
        0,
        0,
        *where,
        requestor,
        responder,
        target,
        _SINGLE_BIT_ECC,
        0,
        0,
        0,
        0,
    )


def status_block(target: int, severity: Severity = Severity.CORRECTED) -> bytes:
    """Return a status block that reports one memory error of *target*.

    The first four bytes, block_status, are already set, so write them last when you post the block
    to a live kernel. The kernel's cper_estatus_check() wants the entries to fill data_length
    exactly.

    >>> block = status_block(7)
    >>> int.from_bytes(block[:4], "little") == CORRECTED_ONE_ENTRY, len(block)
    (True, 172)
    """
    section = memory_error(target)
    entry = ENTRY.pack(
        MEMORY_SECTION.bytes_le, severity, _REVISION, 0, 0, len(section), bytes(16), bytes(20), 0
    )
    data = entry + section
    return HEADER.pack(CORRECTED_ONE_ENTRY, 0, 0, len(data), severity) + data
