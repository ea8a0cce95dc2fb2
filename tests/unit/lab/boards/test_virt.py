# SPDX-License-Identifier: Apache-2.0
"""The arm64 machine, before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.errors import UsageError
from lab.boards.board import Settings
from lab.boards.virt import Virt


def test_size_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest would end in the initrd, with nothing said."""
    monkeypatch.setattr("shutil.which", lambda tool: tool)
    monkeypatch.setattr("lab.boards.virt._FIRMWARE", tmp_path)
    with pytest.raises(UsageError, match="--memory"):
        Virt().check(Settings(tmp_path, memory=256))
