# SPDX-License-Identifier: Apache-2.0
"""The running kernel's code, from a core file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.errors import InputError
from ghesrace.host.code import BLOCK, Blocks, Kcore
from lab.kernels.corefile import core

BASE = 0xFFFFFFFF81000000
CODE = bytes(n % 251 + 1 for n in range(3 * BLOCK))


def kcore(folder: Path, blocks: dict[int, bytes]) -> Kcore:
    (folder / "kcore").write_bytes(core(blocks))
    return Kcore(folder / "kcore")


def test_code_is_read_by_address(tmp_path: Path):
    """If this fails, another function's bytes are taken for the setter's."""
    read = kcore(tmp_path, {0x1000: b"other" * 20, BASE: CODE}).read
    assert read(BASE, 4) == CODE[:4]
    assert read(BASE + BLOCK - 3, 15) == CODE[BLOCK - 3 : BLOCK + 12]
    assert read(BASE + len(CODE) - 2, 15) == CODE[-2:]
    assert read(BASE - 1, 4) == read(BASE + len(CODE), 4) == b""


def test_what_the_kernel_does_not_hand_out_is_no_code(tmp_path: Path):
    """If this fails, the zeros of an unreadable page are followed as instructions."""
    read = kcore(tmp_path, {BASE: bytes(BLOCK) + CODE}).read
    assert read(BASE, 8) == b""
    assert read(BASE + BLOCK, 2) == CODE[:2]


def test_nothing_stays_open(tmp_path: Path):
    """If this fails, a daemon without privileges still holds the kernel's memory open."""
    found = kcore(tmp_path, {BASE: CODE})
    (tmp_path / "kcore").unlink()
    assert found.read(BASE, 4) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF",
        b"MZ" * 50,
        core({BASE: CODE})[:80],
        b"\x7fELF\x01\x01" + core({BASE: CODE})[6:],
        core({})[:56] + b"\xff\xff" + core({})[58:],
    ],
)
def test_no_core_file_is_an_error_of_ours(tmp_path: Path, data: bytes):
    """If this fails, an odd /proc/kcore ends the plan with a traceback."""
    (tmp_path / "kcore").write_bytes(data)
    with pytest.raises(InputError):
        Kcore(tmp_path / "kcore")


def test_blocks_that_meet_are_one():
    """If this fails, an instruction on a block's edge is cut off."""
    blocks = Blocks({0x1000: b"ab", 0x1002: b"cd", 0x2000: b"e"})
    assert blocks.read(0x1001, 3) == b"bcd"
    assert blocks.read(0x1003, 9) == b"d"
    assert blocks.read(0x1FFF, 2) == b""
