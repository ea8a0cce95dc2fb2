# SPDX-License-Identifier: Apache-2.0
"""Records in the guest's memory and their notifications, against a plain file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.errors import UsageError
from lab.firmware import cper
from lab.firmware.firmware import Firmware
from tests.build.guest import PLACED, Guest, Recorder


def test_post_writes_block_status_last(firmware: Firmware, memory: Recorder) -> None:
    """A kernel that sees the status before the data reads a half-written record."""
    block = PLACED["nmi"].block
    assert firmware.post("nmi")
    assert memory.writes[-1] == (block, 4)
    assert all(address >= block + 4 for address, _ in memory.writes[:-1])
    assert memory.word(block) == cper.CORRECTED_ONE_ENTRY


def test_post_lands_in_the_file(firmware: Firmware, tmp_path: Path) -> None:
    """The file is the guest's RAM: offset = guest-physical address."""
    firmware.post("irq-cross")
    want = cper.status_block(0)
    with (tmp_path / "ram").open("rb") as ram:
        ram.seek(PLACED["irq-cross"].block)
        assert ram.read(len(want)) == want


def test_a_pending_record_is_not_overwritten(firmware: Firmware) -> None:
    """Overwriting would tear the record that the kernel is reading."""
    assert firmware.post("nmi")
    assert not firmware.post("nmi")
    assert firmware.counts()["sources"]["nmi"] == {"posted": 1, "acknowledged": 0, "busy": 1}


def test_acknowledgement_is_counted_once(firmware: Firmware, guest: Guest) -> None:
    """Tests compare these counts with what they saw: twice would hide a miss."""
    firmware.post("nmi")
    guest.nmi()
    assert firmware.wait("nmi", 1)
    assert firmware.wait("nmi", 1)
    assert firmware.counts()["sources"]["nmi"] == {"posted": 1, "acknowledged": 1, "busy": 0}


def test_wait_gives_up(firmware: Firmware) -> None:
    """A guest that hangs must not hang the host."""
    firmware.post("polled")
    assert not firmware.wait("polled", 0.01)


def test_report_raises_what_the_source_wants(firmware: Firmware, guest: Guest) -> None:
    """An NMI for an IRQ source would be lost, and so would the record."""
    assert firmware.report("nmi")
    assert firmware.report("irq")
    assert firmware.report("polled")
    assert guest.seen == ["nmi", "irq"]
    assert firmware.counts()["raised"] == {"nmi": 1, "irq": 1, "hed": 0}


def test_unknown_source(firmware: Firmware) -> None:
    """A typing error gets the list of names, not a KeyError."""
    with pytest.raises(UsageError, match="there are: nmi, nmi-cross"):
        firmware.post("nmj")
