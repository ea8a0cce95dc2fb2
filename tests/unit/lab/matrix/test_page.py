# SPDX-License-Identifier: Apache-2.0
"""The page of kernels."""

from __future__ import annotations

from typing import Any

from lab.matrix import cells, page
from tests.unit.lab.matrix.results import result


def test_no_cell_is_empty_without_a_reason(stock: dict[str, Any]) -> None:
    """If this fails, a kernel that was not measured looks like one that was."""
    failed = result(backend="bpf", error="the guest ended before its command did\nand more")
    text = page.render([result(calm=stock, storm=stock), failed])
    rows = [line for line in text.splitlines() if line.startswith("| 6.1.0-1-amd64 |")]
    assert len(rows) == 2 * len(cells.NOTIFICATIONS)
    assert all(cell.strip() for row in rows for cell in row.strip("|").split("|"))
    assert "| sea | - | x86 has no SEA |" in rows[3]
    assert "the guest ended before its command did |" in rows[4]
    assert "Not measured: the guest ended" in text
