# SPDX-License-Identifier: Apache-2.0
"""A guest's memory, the firmware that writes it, the line to it; a kernel's facts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.boards.board import Settings
from lab.firmware import hest
from lab.firmware import server as control
from lab.firmware.firmware import Firmware
from lab.firmware.scenario import Player
from lab.firmware.server import Control
from lab.inside.client import Client
from lab.kernels import kernelfile
from tests.build.guest import Guest, Recorder
from tests.build.kernels import KERNEL


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Recorder]:
    ram = tmp_path / "ram"
    with ram.open("wb") as file:
        file.truncate(hest.BASE + hest.REGION)
    recorder = Recorder(ram)
    yield recorder
    recorder.close()


@pytest.fixture
def guest(memory: Recorder) -> Guest:
    return Guest(memory)


@pytest.fixture
def firmware(memory: Recorder, guest: Guest) -> Firmware:
    return Firmware(memory, guest, hest.place())


@pytest.fixture
def client(tmp_path: Path, firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(control, "_RETRY_S", 0.05)
    monkeypatch.setattr(control, "_SETTLE_S", 0.05)
    share = tmp_path / "share"
    server = Control(share, firmware, Player(firmware))
    yield Client(share, patience_s=20)
    server.stop()
    server.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "share")


@pytest.fixture
def kernel() -> dict[str, Any]:
    return kernelfile.load(KERNEL)


@pytest.fixture
def whole(kernel: dict[str, Any], tmp_path: Path) -> Path:
    """A tree as the guest gives it, with what a plan does not ask for."""
    root = kernelfile.plant(kernel, tmp_path / "whole")
    with (root / "proc/kallsyms").open("a") as file:
        file.write("ffffffff82000000 T schedule\nffffffff82000010 d ghes_hed\n")
        file.write("ffffffffc0000000 t ghes_probe\t[einj]\n")
    (root / "proc/version").write_text("Linux version 6.1 (gcc) #1 SMP Debian 6.1 (2026)\n")
    (root / kernelfile.TRACEFS_NAMES).write_text("README\n" + "\n".join(kernel["tracefs"]))
    ids = [f"/t/events/{n.replace(':', '/')}/id:{i}" for n, i in kernel["tracepoints"].items()]
    (root / kernelfile.EVENT_IDS).write_text("\n".join(["/t/events/sched/x/id:7", *ids]) + "\n")
    return root
