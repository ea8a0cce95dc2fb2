# SPDX-License-Identifier: Apache-2.0
"""What the lab needs of a kind of machine: `pc.Pc` and `arm64.virt.Virt` are the two."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lab.firmware.firmware import GuestMemory
from lab.firmware.hest import Placed
from lab.qemu import Machine

# Kernel arguments: a guest that hangs ends after a minute or two, and its console says where. A CPU
# that gets no timer interrupt any more is no soft lockup, but RCU waits for it.
HANG = (
    "watchdog_thresh=30 softlockup_panic=1 softlockup_all_cpu_backtrace=1 "
    "rcupdate.rcu_cpu_stall_timeout=90 sysctl.kernel.panic_on_rcu_stall=1"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to boot. `memory` in MiB; times in seconds; `append`: more kernel arguments."""

    share: Path
    scenario: str = "idle"
    cpus: int = 2
    memory: int = 2048
    append: tuple[str, ...] = ()
    boot_s: float = 400
    command_s: float = 1800
    qemu: tuple[str, ...] = field(default=())


class Board(Protocol):
    """A kind of machine, with a kernel. `ram_base`: physical address where its RAM begins.

    `name` tells the agent what there is to prepare.
    """

    @property
    def name(self) -> str: ...

    @property
    def ram_base(self) -> int: ...

    def check(self, settings: Settings) -> None:
        """Raise UsageError or HostError if *settings* can't be started here."""

    def warm(self) -> None:
        """Make on the host what the guest can't keep, or would take minutes for."""

    def environment(self, home: Path) -> dict[str, str]:
        """The environment of the process, whose private folder *home* is."""

    def command(self, settings: Settings, home: Path, ram: Path) -> list[str]:
        """The process: QEMU, or what starts it, with sockets `qmp` and `qtest` in *home*."""

    def prepare(self, home: Path, memory: GuestMemory) -> None:
        """Do what must be done before the process starts."""

    def place(self, machine: Machine, memory: GuestMemory, console: Path) -> tuple[Placed, ...]:
        """Let the kernel find the lab's HEST and return where its sources are.

        Raises TransientError if the machine is not as it should be, or if this came too late.
        """
