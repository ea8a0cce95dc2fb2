# SPDX-License-Identifier: Apache-2.0
"""What one capture says of each way to notify."""

from __future__ import annotations

from typing import Any

from lab.matrix import cells


def test_a_capture_by_way_to_notify(stock: dict[str, Any]) -> None:
    """If this fails, the table attributes hand-offs to a notification that did not make them."""
    assert stock["verdict"] == "clean"
    ways = {name: cells.CellCounts(**counts) for name, counts in stock["ways"].items()}
    assert set(ways) == {"nmi", "irq", "polled"}
    for counts in ways.values():
        assert counts.handoffs == sum(counts.classes.values()) <= counts.episodes
        assert counts.mechanism == "map-flush"
    assert stock["probes"]["fixmap-set"][0].startswith("native_set_fixmap (")
