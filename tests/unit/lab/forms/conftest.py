# SPDX-License-Identifier: Apache-2.0
"""The texts of the last recorded run, judged once."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.forms.__main__ import ARCHIVE
from lab.forms.archive import unpack
from lab.forms.judging import Judged, judge_all


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> list[Judged]:
    """What `check` says of each form today."""
    folder: Path = tmp_path_factory.mktemp("forms")
    return judge_all(unpack(ARCHIVE, folder), folder)
