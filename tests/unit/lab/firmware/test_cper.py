# SPDX-License-Identifier: Apache-2.0
"""An error record, by the kernel's own checks."""

from __future__ import annotations

import struct
import uuid

from lab.firmware import cper, hest


def test_status_block_passes_the_kernel_checks() -> None:
    """cper_estatus_check_header() and cper_estatus_check(), re-done: else no error is logged."""
    block = cper.status_block(0x1000)
    status, raw_offset, raw_length, data_length, severity = struct.unpack_from("<5I", block)
    assert (status & 0xF, status >> 4 & 0x3FF) == (2, 1)
    assert (raw_offset, raw_length, severity) == (0, 0, cper.Severity.CORRECTED)
    assert len(block) == 20 + data_length <= hest.BLOCK_LENGTH
    revision, error_length = struct.unpack_from("<H2xI", block, 20 + 20)
    assert revision == 0x300
    assert 72 + error_length == data_length


def test_section_is_a_memory_error() -> None:
    """Another section type would be printed as unknown and test nothing of the memory path."""
    block = cper.status_block(0xABC)
    assert uuid.UUID(bytes_le=block[20:36]) == uuid.UUID("a5bc1114-6f64-4ede-b863-3e83ed7c83b1")
    section = block[20 + 72 :]
    valid, _, address, mask = struct.unpack_from("<QQQQ", section)
    assert len(section) == 80
    assert (address, mask) == (0, 0)
    assert valid == 1 << 13 | 1 << 14
    assert struct.unpack_from("<QB", section, 64) == (0xABC, 2)
