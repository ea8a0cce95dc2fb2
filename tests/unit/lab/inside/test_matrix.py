# SPDX-License-Identifier: Apache-2.0
"""What is recorded in each guest of the matrix."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import paths
from lab.boards.pc import Pc
from lab.boards.virt import Virt
from lab.firmware.scenario import SCENARIOS
from lab.inside import matrix

BOARDS = {"amd64": Pc, "arm64": Virt}


def test_every_scenario_can_be_played_on_its_board() -> None:
    """An hour of booting would end at a name that does not exist."""
    for arch, kinds in matrix.TRAFFIC.items():
        sources = {source.name for source in BOARDS[arch].sources}
        assert set(kinds) == set(matrix.SECONDS)
        for scenario in kinds.values():
            assert {s for beat in SCENARIOS[scenario].beats for s in beat.sources} <= sources


def test_each_backend_records_each_kind_of_traffic(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A cell of the page would be empty, or of the other backend."""
    ran: list[tuple[str, ...]] = []

    def capture_while(traffic: Callable[[], None], file: Path, *arguments: str) -> int:
        print("no BTF", file=sys.stderr)
        ran.append((file.name, *arguments))
        return 3

    monkeypatch.setattr(matrix, "capture_while", capture_while)
    monkeypatch.setenv(paths.ENV, str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["matrix", "arm64"])
    matrix.main()
    assert ran == [
        (f"{backend}-{kind}.arrows", "--backend", backend)
        for backend in ("ftrace", "bpf")
        for kind in ("calm", "storm")
    ]
    monkeypatch.setattr(sys, "argv", ["matrix", "arm64", "0.5", "bpf"])
    ran.clear()
    matrix.main()
    assert [name for name, *_ in ran] == ["bpf-calm.arrows", "bpf-storm.arrows"]
    # What went wrong is read from there by lab.matrix.
    assert (tmp_path / "bpf-storm.log").read_text() == "no BTF\n"


def test_a_device_is_removed_in_storms_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If this fails, calm recordings have a hazard, or no storm has one."""
    removed: list[str] = []
    ran: list[str] = []

    def capture_while(traffic: object, file: Path, *_: str) -> int:
        ran.append(f"{file.name} {traffic == 'removing'}")
        return 0

    def removing(device: str, _: object) -> str:
        removed.append(device)
        return "removing"

    monkeypatch.setattr(matrix, "capture_while", capture_while)
    monkeypatch.setattr(matrix, "removing", removing)
    monkeypatch.setenv(paths.ENV, str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["matrix", "amd64", "0.5", "bpf", "--remove=GHES.0"])
    matrix.main()
    assert ran == ["bpf-calm.arrows False", "bpf-storm.arrows True"]
    assert removed == ["GHES.0"]
