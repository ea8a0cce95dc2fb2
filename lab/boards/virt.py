# SPDX-License-Identifier: Apache-2.0
"""The arm64 guest runs Debian's kernel on QEMU's `virt`, with UEFI, ACPI and the lab's HEST."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from ghesrace.errors import HostError, TransientError, UsageError
from lab import paths
from lab.firmware.firmware import GuestMemory
from lab.firmware.hest import EmulatedSource, Notify, Placed
from lab.kernels import arm64
from lab.kernels.fetch import Kernel
from lab.module.build import build
from lab.paths import REPO
from lab.qemu import Machine

from . import virt_tables
from .board import HANG, Settings

HERE = Path(__file__).resolve().parent
SEA = arm64.CACHE / "sea"
_FIRMWARE = Path("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd")
_CROSS = "aarch64-linux-gnu-"
_PACKAGES = "apt-get install qemu-system-arm qemu-efi-aarch64 gcc-aarch64-linux-gnu cpio"

# QEMU leaves these shared peripheral interrupts free (hw/arm/virt.c: a15irqmap). GSI n is input
# n - 32 of the GIC.
_FIRST_GSI = 32
EXTERNAL_GSI = 44
HED_GSI = 45

SOURCES = (
    EmulatedSource("sea", Notify.SEA),
    EmulatedSource("sea-cross", Notify.SEA, crosses=True),
    EmulatedSource("polled", Notify.POLLED, poll_ms=1000),
    EmulatedSource("irq", Notify.EXTERNAL, vector=EXTERNAL_GSI),
    EmulatedSource("irq-cross", Notify.EXTERNAL, crosses=True, vector=EXTERNAL_GSI),
    EmulatedSource("gpio", Notify.GPIO, vector=HED_GSI),
    EmulatedSource("gsiv", Notify.GSIV, vector=HED_GSI),
)

_STUB = b"EFI stub: Booting Linux"
_TICK_S = 0.002
_FIRMWARE_S = 120.0


class Virt:
    """`-machine virt,ras=on` has SEAs, a polled source, interrupts, GPIO and GSIV notifications.

    *suite* is the Debian suite whose kernel boots; *kernel* boots instead, if there is one, which
    needs no modules before it sees its root.

        board = Virt("trixie")
        code = boot.run(board, Settings(Path("share").resolve(), memory=1024), ["uname", "-r"])
    """

    name = "virt"
    ram_base = 0x4000_0000
    sources = SOURCES

    def __init__(self, suite: str = arm64.USERLAND, kernel: Kernel | None = None) -> None:
        self.suite = suite
        self._kernel = kernel

    @property
    def kernel(self) -> Kernel:
        """Return the kernel that boots; fetch it if need be. Raises HostError."""
        return self._kernel or arm64.kernel(self.suite)

    def check(self, settings: Settings) -> None:
        """Raise HostError if a tool or the UEFI is missing.

        Raises UsageError if the memory is not within 512 MiB and 16 GiB.
        """
        for tool in ("qemu-system-aarch64", "aarch64-linux-gnu-gcc", "cpio", "iasl"):
            if not shutil.which(tool):
                raise HostError(f"{tool} is not installed", _PACKAGES)
        if not _FIRMWARE.exists():
            raise HostError(f"no UEFI for arm64 in {_FIRMWARE}", _PACKAGES)
        if not 512 <= settings.memory <= 16384:
            raise UsageError(f"--memory {settings.memory} MiB is not within 512 and 16384")

    def warm(self) -> None:
        """Fetch the kernel and the userland, and compile the guest's programs and tables.

        Raises HostError if that fails. A control module that does not build is only reported.
        """
        arm64.userland()
        kernel = self.kernel
        try:
            cross = ("ARCH=arm64", f"CROSS_COMPILE={_CROSS}", f"CC={_CROSS}gcc")
            if kernel.kbuild.exists():
                build(kernel.release, kdir=kernel.kbuild, variables=cross)
        except HostError as error:
            print(f"lab: no control module in this guest: {error}", file=sys.stderr)
        self._compile("ghes.asl", "ghes.aml", ["iasl", "-p", "{out}", "{source}"])
        static = [f"{_CROSS}gcc", "-O2", "-Wall", "-static", "-o", "{out}", "{source}"]
        self._compile("sea.c", "sea", static)

    def _compile(self, source: str, out: str, command: list[str]) -> None:
        made = arm64.CACHE / out
        if made.exists() and made.stat().st_mtime > (HERE / source).stat().st_mtime:
            return
        words = {"out": str(made), "source": str(HERE / source)}
        done = subprocess.run(
            [word.format(**words) for word in command], capture_output=True, text=True
        )
        if done.returncode:
            raise HostError(f"{source} does not compile:\n{done.stdout}{done.stderr}")

    def environment(self, home: Path) -> dict[str, str]:
        """Return this process's environment, unchanged."""
        return dict(os.environ)

    def command(self, settings: Settings, home: Path, ram: Path) -> list[str]:
        """Return the command line of QEMU; the guest's initrd starts the lab's agent."""
        kernel = self.kernel
        words = [
            # `place` waits for what the EFI stub says; in Linux 7.x it needs debug to say it.
            "console=ttyAMA0 acpi=force efi=debug panic=-1 loglevel=7",
            HANG,
            f"lab.repo={REPO} lab.share={settings.share}",
            *settings.append,
        ]
        shared = (
            ("kernel", kernel.tree, ",readonly=on"),
            ("user", arm64.userland(), ",readonly=on"),
            ("repo", REPO, ",readonly=on"),
            ("share", settings.share, ""),
        )
        line = [
            "qemu-system-aarch64",
            "-machine", "virt,ras=on,memory-backend=ram",
            "-object",
            f"memory-backend-file,id=ram,size={settings.memory}M,mem-path={ram},share=on",
            "-accel", "tcg,thread=multi",
            "-cpu", "cortex-a57",
            "-smp", str(settings.cpus),
            "-m", f"{settings.memory}M",
            "-bios", str(_FIRMWARE),
            "-kernel", str(kernel.image),
            "-initrd", str(kernel.initrd),
            "-append", " ".join(words),
            "-display", "none", "-nodefaults", "-no-reboot",
            "-serial", f"file:{settings.share / paths.CONSOLE}",
            "-qmp", f"unix:{home / 'qmp'},server=on,wait=off",
            "-qtest", f"unix:{home / 'qtest'},server=on,wait=off",
            "-qtest-log", "none",
        ]  # fmt: skip
        for tag, path, options in shared:
            line += [
                "-fsdev",
                f"local,id={tag},path={path},security_model=none,multidevs=remap{options}",
                "-device",
                f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
            ]
        return [*line, *(word for option in settings.qemu for word in option.split())]

    def prepare(self, home: Path, memory: GuestMemory) -> None:
        """Do nothing, as the place of the tables is known only after UEFI has made its own."""

    def place(self, machine: Machine, memory: GuestMemory, console: Path) -> tuple[Placed, ...]:
        """Exchange the tables when UEFI hands over to the kernel; return where the sources are.

        Raises TransientError if UEFI starts no kernel within two minutes, if there is no GIC, or
        if the tables are not where they should be.
        """
        gic = [
            f"/machine/unattached/{name}"
            for name, kind in machine.children("/machine/unattached").items()
            if kind.startswith(("child<arm_gic>", "child<arm-gicv3>"))
        ]
        if not gic:
            raise TransientError("QEMU's machine has no GIC")
        machine.wire(gic[0], _FIRST_GSI)
        end = time.monotonic() + _FIRMWARE_S
        while _STUB not in console.read_bytes():
            if time.monotonic() > end:
                raise TransientError(f"UEFI started no kernel within {_FIRMWARE_S:.0f} s")
            time.sleep(_TICK_S)
        machine.stop()
        placed = virt_tables.install(memory, (arm64.CACHE / "ghes.aml").read_bytes(), self.sources)
        machine.resume()
        return placed
