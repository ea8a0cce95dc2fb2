# SPDX-License-Identifier: Apache-2.0
"""What the tests find of a recorded run."""

from __future__ import annotations

from pathlib import Path

from lab.forms.__main__ import ARCHIVE
from lab.forms.archive import pack, unpack
from lab.forms.printing import Form
from lab.inside.forms import LIVE


def test_what_was_packed_comes_back(tmp_path: Path) -> None:
    """The tests would judge another text than the one that was printed."""
    folder, other = tmp_path / "one", tmp_path / "other"
    for made in (folder, other):
        made.mkdir()
    (folder / LIVE).write_bytes(b"live")
    (folder / "a.txt").write_bytes(b"text")
    forms = [Form("perf 6.1", "`perf script`", "a.txt")]
    pack(forms, folder, tmp_path / "x.tar.xz")
    assert unpack(tmp_path / "x.tar.xz", other) == forms
    assert (other / "a.txt").read_bytes() == b"text"
    assert (other / LIVE).read_bytes() == b"live"


def test_the_committed_file_is_small() -> None:
    """It is in every clone for good."""
    assert ARCHIVE.stat().st_size < 400_000
