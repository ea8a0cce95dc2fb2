# SPDX-License-Identifier: Apache-2.0
"""What is measured of an example."""

from __future__ import annotations

from typing import Any

import pytest

from lab.matrix import cells
from tests.build.paths import EXAMPLES

STOCK = EXAMPLES / "stock.arrows"


@pytest.fixture(scope="module")
def stock() -> dict[str, Any]:
    return cells.measure(STOCK, "amd64")
