# SPDX-License-Identifier: Apache-2.0
"""The guest's agent, on a host."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import paths
from lab.inside import agent
from lab.paths import REPO


@pytest.mark.slow
@pytest.mark.parametrize(
    ("together", "asked", "taken"),
    [("false", ["500000"], [3, 4]), ("true", ["1000000 -1 0", "1000000 -1 1"], [6, 8])],
)
def test_loads_follow_the_scenario(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    together: str,
    asked: list[str],
    taken: list[int],
) -> None:
    """SEAs would go on after the scenario's end, their count be lost, or a slot without its lock
    never see two CPUs at once."""
    loads = tmp_path / "sea"
    loads.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'
        "trap 'echo 3 4; exit' TERM\nwhile :; do sleep 0.01; done\n"
    )
    loads.chmod(0o755)
    monkeypatch.setattr(agent, "SEA", loads)
    monkeypatch.setattr(agent, "_LOOK_S", 0.3)
    playing = paths.playing(tmp_path)
    playing.parent.mkdir()
    playing.write_text(f'{{"scenario": "x", "bounce": false, "loads": 2, "together": {together}}}')
    monkeypatch.setattr(agent.os, "cpu_count", lambda: 2)
    taker = agent.Loads(tmp_path)
    time.sleep(1)
    assert taker.stop() == taken
    assert sorted((tmp_path / "asked").read_text().splitlines()) == asked


INTERRUPTS = """\
           CPU0       CPU1
  9:          0          0   IO-APIC   9-fasteoi   acpi
 11:         15          7   IO-APIC  11-fasteoi   GHES IRQ, GHES IRQ, ens11
NMI:       1124       1123   Non-maskable interrupts
LOC:       7726       7960   Local timer interrupts
"""


def test_interrupt_table(tmp_path: Path) -> None:
    """The steering needs the GHES IRQ's number; tests compare the counts per CPU."""
    table = tmp_path / "interrupts"
    table.write_text(INTERRUPTS)
    assert agent.ghes_irq(table) == 11
    assert agent.interrupts(table) == {"irq": [15, 7], "nmi": [1124, 1123]}
    table.write_text("           CPU0\n  9:   0   IO-APIC   9-fasteoi   acpi\n")
    assert agent.ghes_irq(table) is None


def test_guest_half_needs_no_qemu_library() -> None:
    """The agent starts in an emulated guest: every import costs seconds there."""
    code = (
        "import sys, lab.inside.agent, lab.inside.client; "
        "print([m for m in sys.modules if m.split('.')[0] in ('qemu', 'numpy', 'asyncio')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
