# SPDX-License-Identifier: Apache-2.0
"""The matrix of kernels: what it makes of a capture, and the page; a guest is not needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.matrix import __main__ as matrix
from lab.matrix import cells, page
from tests.build.paths import EXAMPLES

STOCK = EXAMPLES / "stock.arrows"


@pytest.fixture(scope="module")
def stock() -> dict[str, Any]:
    return cells.measure(STOCK, "amd64")


def result(**changes: Any) -> dict[str, Any]:
    known = {
        "suite": "bookworm",
        "arch": "amd64",
        "backend": "ftrace",
        "release": "6.1.0-1-amd64",
        "error": "",
    }
    return {**known, **changes}


def test_a_capture_by_way_to_notify(stock: dict[str, Any]) -> None:
    """If this fails, the table attributes hand-offs to a notification that did not make them."""
    assert stock["verdict"] == "clean"
    ways = {name: cells.CellCounts(**counts) for name, counts in stock["ways"].items()}
    assert set(ways) == {"nmi", "irq", "polled"}
    for counts in ways.values():
        assert counts.handoffs == sum(counts.classes.values()) <= counts.episodes
        assert counts.mechanism == "map-flush"
    assert stock["probes"]["fixmap-set"][0].startswith("native_set_fixmap (")


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


def test_what_is_known_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stock: dict[str, Any]
) -> None:
    """If this fails, a run of an hour that was ended starts at the beginning."""
    asked: list[tuple[str, str]] = []

    def measure(suite: str, arch: str) -> list[dict[str, Any]]:
        asked.append((suite, arch))
        made = result(suite=suite, arch=arch, calm=stock, storm=stock)
        return [{**made, "backend": backend} for backend in matrix.BACKENDS]

    monkeypatch.setattr(matrix, "_measure", measure)
    monkeypatch.setattr(matrix, "BUILD", tmp_path / "build")
    monkeypatch.setattr(matrix, "PAGE", tmp_path / "kernels.md")
    monkeypatch.setattr("sys.argv", ["matrix", "--only", "bookworm/amd64"])
    assert matrix.main() == matrix.main() == 0
    assert asked == [("bookworm", "amd64")]
    kept = json.loads((tmp_path / "build/bookworm-amd64-bpf.json").read_text())
    assert kept["backend"] == "bpf"
    assert (tmp_path / "kernels.md").read_text().count("| 6.1.0-1-amd64 |") == 8
