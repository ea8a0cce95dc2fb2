# SPDX-License-Identifier: Apache-2.0
"""The lab's HEST: bytes that iasl and the kernel take."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.firmware import cper, hest
from lab.firmware.hest import EmulatedSource, Notify


def _sources(table: bytes) -> Iterator[bytes]:
    (count,) = struct.unpack_from("<I", table, 36)
    for i in range(count):
        yield table[40 + 64 * i : 40 + 64 * (i + 1)]


def test_iasl_reads_every_source(tmp_path: Path) -> None:
    """A table that iasl rejects or reads otherwise would be dropped by the kernel at boot."""
    (tmp_path / "hest.aml").write_bytes(hest.table(hest.place()))
    done = subprocess.run(
        ["iasl", "-d", "hest.aml"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "rror" not in done.stderr.replace("Hardware Error", "")
    text = (tmp_path / "hest.dsl").read_text()
    assert len(re.findall(r"Subtable Type : 0009 \[Generic Hardware Error Source\]", text)) == 5
    kinds = re.findall(r"Notify Type : \w+ \[(.*)\]", text)
    assert kinds == ["NMI", "NMI", "Polled", "External Interrupt", "External Interrupt"]
    addresses = [int(a, 16) for a in re.findall(r"\bAddress : (\w+)", text)]
    assert addresses == [p.register for p in hest.place()]
    assert "Incorrect checksum" not in text


def test_iasl_reads_blocks_and_vectors(tmp_path: Path) -> None:
    """A vector or a length at a wrong offset gives a source that never fires or is refused."""
    (tmp_path / "hest.aml").write_bytes(hest.table(hest.place()))
    subprocess.run(["iasl", "-d", "hest.aml"], cwd=tmp_path, capture_output=True, check=True)
    text = (tmp_path / "hest.dsl").read_text()
    vectors = [int(v, 16) for v in re.findall(r"\bVector : (\w+)", text)]
    assert vectors == [0, 0, 0, hest.SHARED_GSI, hest.SHARED_GSI]
    lengths = [int(v, 16) for v in re.findall(r"Error Status Block Length : (\w+)", text)]
    assert lengths == [hest.BLOCK_LENGTH] * 5
    intervals = [int(v, 16) for v in re.findall(r"(?i)poll\w* ?interval : (\w+)", text)]
    assert intervals == [0, 0, 1000, 0, 0]


def test_checksum_and_length() -> None:
    """The kernel refuses a table whose bytes do not add up to 0."""
    table = hest.table(hest.place())
    assert sum(table) % 256 == 0
    assert struct.unpack_from("<4sI", table) == (b"HEST", len(table))
    assert len(table) == 40 + 64 * len(hest.SOURCES)


def test_source_ids_are_unique() -> None:
    """hest_parse_ghes() drops a source whose id it has seen."""
    ids = [struct.unpack_from("<H", s, 2)[0] for s in _sources(hest.table(hest.place()))]
    assert len(set(ids)) == len(hest.SOURCES)


def test_notification_bytes() -> None:
    """Type, length and vector are where acpi_hest_notify has them (offset 32 of a source)."""
    for raw, source in zip(_sources(hest.table(hest.place())), hest.SOURCES, strict=True):
        kind, length, _, poll, vector = struct.unpack_from("<BBHII", raw, 32)
        assert (kind, length, poll, vector) == (source.notify, 28, source.poll_ms, source.vector)


def test_registers_point_at_the_blocks() -> None:
    """The kernel finds a block through its register: a wrong one is a wild read."""
    placed = hest.place()
    page = hest.registers(placed)
    for p in placed:
        assert struct.unpack_from("<Q", page, p.register - hest.BASE) == (p.block,)


def test_no_two_sources_share_a_frame() -> None:
    """Shared frames would hide a hand-off of the wrong record in class same-frame."""
    frames = [f for p in hest.place() for f in p.frames]
    assert len(frames) == len(set(frames))
    assert all(hest.BASE < f < hest.BASE + hest.REGION for f in frames)


def test_crossing_blocks_begin_just_before_a_page_end() -> None:
    """Only a record that spans the boundary makes one report map two frames."""
    for p in hest.place():
        assert len(p.frames) == (2 if p.source.crosses else 1)
        if p.source.crosses:
            assert p.frames[1] - p.block == hest.CROSSING
            assert len(cper.status_block(0)) > hest.CROSSING


def test_too_many_sources_are_refused() -> None:
    """Blocks outside the reserved region would lie in the guest's RAM."""
    with pytest.raises(ValueError, match="the blocks end at"):
        hest.place(EmulatedSource(f"s{i}", Notify.POLLED) for i in range(16))
