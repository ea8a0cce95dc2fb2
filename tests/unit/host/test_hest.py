# SPDX-License-Identifier: Apache-2.0
"""The HEST parser, against the table that the lab's firmware builds."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.errors import InputError
from ghesrace.host import hest
from lab.firmware import hest as firmware

PLACED = firmware.place()
TABLE = firmware.table(PLACED)


def test_sources_of_the_lab():
    """Sources would be missed or misread, and findings carry no or wrong source names."""
    found = hest.parse(TABLE)
    assert [s.id for s in found] == [p.source_id for p in PLACED]
    assert [s.notify for s in found] == [int(p.source.notify) for p in PLACED]
    assert [s.register for s in found] == [p.register for p in PLACED]
    assert all(s.enabled and s.block is None for s in found)


def test_other_source_types_are_stepped_over():
    """A machine-check source before the GHES ones would shift everything behind it."""
    header, sources = TABLE[:40], TABLE[40:]
    machine_check = bytearray(40 + 2 * 28)
    machine_check[32] = 2
    table = bytearray(header + machine_check + sources)
    struct.pack_into("<I", table, 4, len(table))
    struct.pack_into("<I", table, 36, len(PLACED) + 1)
    assert hest.parse(bytes(table)) == hest.parse(TABLE)


@pytest.mark.parametrize("data", [b"", TABLE[:38], b"SSDT" + TABLE[4:], TABLE[:-10]])
def test_malformed(data: bytes):
    """A firmware's broken table would be a traceback, or sources out of thin air."""
    with pytest.raises(InputError):
        hest.parse(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_hostile_bytes(data: st.DataObject):
    """A damaged table would raise something else than InputError, or hang."""
    table = bytearray(TABLE)
    for _ in range(data.draw(st.integers(1, 6))):
        table[data.draw(st.integers(0, len(table) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InputError):
        assert all(s.length >= 0 for s in hest.parse(bytes(table)))


def test_unknown_notification_is_named_by_number():
    """A notification type newer than this list would be shown as something else."""
    assert hest.ErrorSource(0, 1, 42, 0, 0, 0, 0, True).notification == "type 42"
