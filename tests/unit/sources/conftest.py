# SPDX-License-Identifier: Apache-2.0
"""A foreign trace with a race."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.build.texts import HEAD, race


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "trace"
    path.write_text(HEAD.format(24, 24) + race())
    return path
