# SPDX-License-Identifier: Apache-2.0
"""`python -m lab.matrix`: what is known is not measured again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.matrix import __main__ as matrix
from tests.unit.lab.matrix.results import result


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
