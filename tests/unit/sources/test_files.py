# SPDX-License-Identifier: Apache-2.0
"""Which source reads a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace import cli
from ghesrace.errors import InputError, UsageError
from ghesrace.sources.files import open_file


def test_map_file_with_a_capture_is_refused(tmp_path: Path) -> None:
    """It would be ignored silently."""
    capture = tmp_path / "a.arrows"
    capture.write_bytes(b"\xff\xff\xff\xff\x00\x00\x00\x00")
    with pytest.raises(UsageError, match="needs no map"):
        open_file(capture, tmp_path / "map.toml")


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"hello\n", b"[core]\n\tbare = 1\n"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no trace must not be judged, let alone be clean."""
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(InputError):
        open_file(path)
    assert cli.main(["check", str(path)]) == 2
