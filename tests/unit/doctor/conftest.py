# SPDX-License-Identifier: Apache-2.0
"""A host that lacks nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.firmware import hest as firmware
from tests.build import trees


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    table = firmware.table(firmware.place())
    return trees.tree(tmp_path, vmlinux_btf=trees.x86_btf(), hest=table)
