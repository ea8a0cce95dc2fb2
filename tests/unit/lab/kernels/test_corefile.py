# SPDX-License-Identifier: Apache-2.0
"""The code that planning reads is kept, and is what a core file gives back."""

from __future__ import annotations

from pathlib import Path

from ghesrace.host.code import BLOCK, Blocks, Kcore
from lab.kernels.corefile import Recording, core


def test_what_was_asked_for_is_what_the_file_has(tmp_path: Path):
    """If this fails, a kernel's plan in the tests is not made from what its image said."""
    code = bytes(range(1, 250)) * 4
    recording = Recording(Blocks({0x10000: code}))
    asked = [(0x10000 + BLOCK - 2, 15), (0x10000 + 3 * BLOCK, 4), (0x9000, 4)]
    said = [recording.read(*one) for one in asked]
    assert sorted(recording.blocks) == [0x10000, 0x10000 + BLOCK, 0x10000 + 3 * BLOCK]
    (tmp_path / "kcore").write_bytes(core(recording.blocks))
    again = Kcore(tmp_path / "kcore")
    assert [again.read(*one) for one in asked] == said
    assert again.blocks() == recording.blocks
