# SPDX-License-Identifier: Apache-2.0
"""lab.boot, lab.inside.agent and the command line, without a guest."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ghesrace.errors import HostError, TransientError, UsageError
from lab import __main__ as main
from lab import boot
from lab.boards import pc
from lab.boards.board import Settings
from lab.boards.pc import Pc
from lab.firmware import hest
from lab.inside import agent
from lab.paths import REPO

INTERRUPTS = """\
           CPU0       CPU1
  9:          0          0   IO-APIC   9-fasteoi   acpi
 11:         15          7   IO-APIC  11-fasteoi   GHES IRQ, GHES IRQ, ens11
NMI:       1124       1123   Non-maskable interrupts
LOC:       7726       7960   Local timer interrupts
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "share")


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


def test_private_files_are_gone_afterwards() -> None:
    """A RAM file left in /dev/shm is memory that the host has lost."""
    with boot._private(1) as (home, ram):
        assert ram.stat().st_size == 1 << 20
        assert home.is_dir()
    assert not ram.exists()
    assert not ram.parent.exists()
    assert not home.exists()


def test_output_is_followed(tmp_path: Path) -> None:
    """The user sees the command's output while it runs, all of it and once."""
    path = tmp_path / "out"
    path.write_bytes(b"")
    stream = io.StringIO()
    follow = boot._Follow(path, stream)
    with path.open("ab", buffering=0) as file:
        for text in (b"one\n", b"two \xc3", b"\xa4\n"):
            file.write(text)
            follow.pump()
    follow.pump()
    follow.close()
    assert stream.getvalue() == "one\ntwo \u00e4\n"


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_hanging_guest_is_killed_with_its_children() -> None:
    """vng starts shells and QEMU below it: killing vng alone would leave the guest running."""
    process = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; sleep 1000 & echo $!; wait"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    child = int(process.stdout.readline())
    boot._end(process, 0.1)
    assert process.returncode is not None
    process.stdout.close()
    end = time.monotonic() + 10
    while _alive(child):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_interrupt_table(tmp_path: Path) -> None:
    """The steering needs the GHES IRQ's number; tests compare the counts per CPU."""
    table = tmp_path / "interrupts"
    table.write_text(INTERRUPTS)
    assert agent.ghes_irq(table) == 11
    assert agent.interrupts(table) == {"irq": [15, 7], "nmi": [1124, 1123]}
    table.write_text("           CPU0\n  9:   0   IO-APIC   9-fasteoi   acpi\n")
    assert agent.ghes_irq(table) is None


def test_command_line_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A user's mistake: one message, exit 125, which no command of the guest's gives."""
    share = f"--share={tmp_path}"
    assert main.main(["run", share, "--scenario=nothing", "--", "true"]) == 125
    assert "there are: idle, nmi-storm" in capsys.readouterr().err


def test_options_of_the_command_are_its_own() -> None:
    """`run -- ls --all` must not take --all for ours."""
    args = main._parser().parse_args(["run", "--cpus", "1", "--", "ls", "--all"])
    assert (args.command, args.cpus) == (["ls", "--all"], 1)


def test_firmware_command_outside_a_guest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guest's half of the command line refuses on a host."""
    monkeypatch.delenv("LAB_SHARE", raising=False)
    assert main.main(["firmware", "counts"]) == 125
    assert "not a lab guest" in capsys.readouterr().err


def test_no_kernel_on_this_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host without an image gets the apt line, not an IndexError."""
    monkeypatch.setattr(pc, "BOOT", tmp_path)
    with pytest.raises(HostError, match="linux-image-amd64"):
        pc.newest_kernel()


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


def test_a_guest_that_fails_is_booted_again_and_its_console_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a crash of the lab's kernel leaves no trace once the next guest is up."""
    boots: list[str] = []

    def fails_once(args: object, command: list[str], scenario: str) -> int:
        boots.append(scenario)
        (tmp_path / "console").write_text(f"boot {len(boots)}\nKernel panic\n")
        if len(boots) == 1:
            raise TransientError("QEMU is gone")
        return 0

    monkeypatch.setattr(main, "_run", fails_once)
    assert main.main(["test", "--share", str(tmp_path)]) == 0
    assert len(boots) == 2
    assert (tmp_path / "console.1").read_text() == "boot 1\nKernel panic\n"
    said = capsys.readouterr().out
    assert "QEMU is gone" in said
    assert "Kernel panic" in said
    assert "console.1" in said
