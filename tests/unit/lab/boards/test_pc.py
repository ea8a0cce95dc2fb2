# SPDX-License-Identifier: Apache-2.0
"""The PC, before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.errors import HostError, UsageError
from lab.boards import pc
from lab.boards.board import Settings
from lab.boards.pc import Pc
from lab.firmware import hest


@pytest.fixture
def machine(tmp_path: Path) -> Pc:
    (tmp_path / "vmlinuz").write_bytes(b"")
    return Pc(tmp_path / "vmlinuz")


def test_the_guest_reserves_the_blocks(machine: Pc, settings: Settings, tmp_path: Path) -> None:
    """Unreserved, the kernel would use the blocks as RAM, and apei would refuse them."""
    line = machine.command(settings, tmp_path, tmp_path / "ram")
    assert f"--append=memmap={hest.REGION // 1024}K${hest.BASE:#x}" in line
    assert "--append=apic_extnmi=all" in line
    assert "--disable-kvm" in line


def test_more_kernel_arguments_come_last(machine: Pc, settings: Settings, tmp_path: Path) -> None:
    """--append must be able to override ours: the kernel takes the last one."""
    changed = Settings(settings.share, append=("loglevel=3",))
    line = machine.command(changed, tmp_path, tmp_path)
    line = [a for a in line if a.startswith("--append")]
    assert line[-1] == "--append=loglevel=3"


@pytest.mark.parametrize("memory", [256, 4096])
def test_memory_that_cannot_hold_the_blocks(machine: Pc, settings: Settings, memory: int) -> None:
    """Above 3 GiB a file offset is no address; below the region there are no blocks."""
    with pytest.raises(UsageError, match="--memory"):
        machine.check(Settings(settings.share, memory=memory))


def test_no_such_kernel(settings: Settings, tmp_path: Path) -> None:
    """A wrong path is said before a minute of booting."""
    with pytest.raises(UsageError, match="--kernel IMAGE"):
        Pc(tmp_path / "nothing").check(settings)


def test_no_kernel_on_this_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host without an image gets the apt line, not an IndexError."""
    monkeypatch.setattr(pc, "BOOT", tmp_path)
    with pytest.raises(HostError, match="linux-image-amd64"):
        pc.newest_kernel()
