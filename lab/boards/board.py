# SPDX-License-Identifier: Apache-2.0
"""This is what the lab needs of a kind of machine; there are two, `pc.Pc` and `virt.Virt`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lab.firmware.firmware import GuestMemory
from lab.firmware.hest import Placed
from lab.qemu import Machine

# With these kernel arguments a guest that hangs ends after a minute or two, and its console says
# where it hung. A CPU that gets no timer interrupts is no soft lockup, but RCU waits for it.
# After an oops it ends at once: what goes on may wait for what died.
HANG = (
    "oops=panic "
    "watchdog_thresh=30 softlockup_panic=1 softlockup_all_cpu_backtrace=1 "
    "rcupdate.rcu_cpu_stall_timeout=90 sysctl.kernel.panic_on_rcu_stall=1"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """These settings say how to boot a guest.

    *memory* is in MiB; *boot_s* and *command_s* limit the boot and the command, in seconds.
    *append* are more kernel arguments, *qemu* more of QEMU's. *share* is the folder that host and
    guest share (`lab.paths`), *scenario* a name in `lab.firmware.scenario.SCENARIOS`.

    >>> Settings(Path("share"), scenario="mixed", cpus=4).memory
    2048
    """

    share: Path
    scenario: str = "idle"
    cpus: int = 2
    memory: int = 2048
    append: tuple[str, ...] = ()
    boot_s: float = 400
    command_s: float = 1800
    qemu: tuple[str, ...] = field(default=())


class Board(Protocol):
    """A board is a kind of machine with a kernel.

    `lab.boot.run` calls the methods in this order: `check`, `warm`, `prepare`, `command` and
    `environment`, `place`.
    """

    @property
    def name(self) -> str:
        """Return the name that tells the agent in the guest what there is to prepare."""
        ...

    @property
    def ram_base(self) -> int:
        """Return the guest-physical address (bytes) at which the RAM begins."""
        ...

    def check(self, settings: Settings) -> None:
        """Raise UsageError or HostError if *settings* can't be started here."""

    def warm(self) -> None:
        """Make on the host what the guest can't keep, or would need minutes to make."""

    def environment(self, home: Path) -> dict[str, str]:
        """Return the environment of the process; *home* is its private folder."""

    def command(self, settings: Settings, home: Path, ram: Path) -> list[str]:
        """Return the command line of QEMU, or of what starts it.

        QEMU must open the sockets `qmp` and `qtest` in *home*, and have the file *ram* as its RAM.
        """

    def prepare(self, home: Path, memory: GuestMemory) -> None:
        """Do what must be done before the process starts, in *home* or in the guest's *memory*."""

    def place(self, machine: Machine, memory: GuestMemory, console: Path) -> tuple[Placed, ...]:
        """Let the kernel find the lab's HEST and return where its sources are.

        Raises TransientError if the machine is not as it should be, or if this came too late.
        """
