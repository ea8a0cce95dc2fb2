# SPDX-License-Identifier: Apache-2.0
"""The amd64 guest runs a kernel on QEMU's `pc`, with this host's root file system.

virtme-ng starts it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from ghesrace.errors import HostError, UsageError
from lab import paths
from lab.firmware import hest
from lab.firmware.firmware import GuestMemory
from lab.firmware.hest import Placed
from lab.module.build import build
from lab.paths import REPO
from lab.qemu import Machine

from .board import HANG, Settings

BOOT = Path("/boot")

# Nothing here needs these drivers of QEMU's devices and CPU features, and udev takes longer to load
# them than all the rest of the boot takes.
_UNUSED_DRIVERS = (
    "kvm_amd,kvm,ccp,powernow_k8,acpi_cpufreq,ata_piix,ata_generic,sr_mod,sg,floppy,pcspkr,"
    "psmouse,serio_raw,evdev,i2c_piix4,i6300esb,button,aesni_intel,ghash_clmulni_intel,"
    "crct10dif_pclmul,crc32_pclmul,crc32c_intel,sha512_ssse3,sha256_ssse3,sha1_ssse3,qemu_fw_cfg"
)
# QEMU names the I/O APIC after the host bridge (hw/i386/pc.c), which is i440fx on -machine pc.
_IOAPIC = "/machine/i440fx/ioapic"


def newest_kernel() -> Path:
    """Return the newest kernel image of this host. Raises HostError if there is none."""
    images = sorted(BOOT.glob("vmlinuz-*"), key=lambda p: p.stat().st_mtime)
    if not images:
        raise HostError(
            f"no kernel image in {BOOT}", "apt-get install linux-image-amd64, or use --kernel IMAGE"
        )
    return images[-1]


def _vng() -> str:
    beside = Path(sys.executable).parent / "vng"
    found = str(beside) if beside.exists() else shutil.which("vng")
    if not found:
        raise HostError(
            "vng (virtme-ng) is not installed", "make lab-venv, or pip install virtme-ng"
        )
    return found


class Pc:
    """`-machine pc` has NMIs, a polled source, and an interrupt shared with an e1000.

    *kernel* is an image, by default the newest in /boot.

        code = boot.run(Pc(), Settings(Path("share").resolve()), ["uname", "-r"])

    Raises HostError if there is no image in /boot.
    """

    name = "pc"
    ram_base = 0
    sources = hest.SOURCES

    def __init__(self, kernel: Path | None = None) -> None:
        self.kernel = (kernel or newest_kernel()).resolve()

    def check(self, settings: Settings) -> None:
        """Raise UsageError if there is no such image or *settings* has too little or much memory.

        Raises HostError if QEMU is missing.
        """
        if not self.kernel.is_file():
            raise UsageError(f"no kernel image at {self.kernel}", "name one with --kernel IMAGE")
        if not shutil.which("qemu-system-x86_64"):
            raise HostError(
                "qemu-system-x86_64 is not installed", "apt-get install qemu-system-x86"
            )
        low, high = (hest.BASE + hest.REGION >> 20) + 256, 3072
        if not low <= settings.memory <= high:
            raise UsageError(f"--memory {settings.memory} MiB is not within {low} and {high}")

    def warm(self) -> None:
        """Build the control module on the host: the guest can't keep it and would need minutes."""
        release = self.kernel.name.removeprefix("vmlinuz-")
        if (Path("/lib/modules") / release / "build").exists():
            build(release)

    def environment(self, home: Path) -> dict[str, str]:
        """Return this process's environment with another PATH and TMPDIR.

        virtme-ng looks its own parts up on PATH, and leaves files in TMPDIR when it is killed.
        """
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        return {**os.environ, "PATH": path, "TMPDIR": str(home)}

    def command(self, settings: Settings, home: Path, ram: Path) -> list[str]:
        """Return the command line of virtme-ng.

        It boots the guest and starts the lab's agent in it. Raises HostError if there is no vng.
        """
        qemu = [
            # Its INTx lines are inputs (10, 11) that a HEST vector can share; not so on q35.
            "-machine pc,memory-backend=ram,i8042=off,smbus=off -nodefaults",
            f"-object memory-backend-file,id=ram,size={settings.memory}M,mem-path={ram},share=on",
            f"-acpitable file={home / 'hest'}",
            "-netdev user,id=lan,restrict=on -device e1000,netdev=lan",
            f"-qmp unix:{home / 'qmp'},server=on,wait=off",
            f"-qtest unix:{home / 'qtest'},server=on,wait=off -qtest-log none",
            # virtme-ng would send the console to /dev/null, or into the command's output.
            f"-set chardev.console.path={settings.share / paths.CONSOLE}",
            *settings.qemu,
        ]
        kernel = [
            "loglevel=7",
            f"modprobe.blacklist={_UNUSED_DRIVERS}",
            f"memmap={hest.REGION // 1024}K${hest.BASE:#x}",
            # QEMU's vCPUs have one TSC. Linux does not believe that of an AMD CPU without
            # CONSTANT_TSC (unsynchronized_tsc()), and would read the HPET for each stamp. That is
            # a device access, under the lock that all vCPUs share.
            "tsc=reliable",
            # An NMI comes through LINT1 of every CPU, not of the boot CPU alone
            # (setup_local_APIC()).
            "apic_extnmi=all",
            HANG,
            *settings.append,
        ]
        return [
            _vng(),
            f"--run={self.kernel}",
            "--disable-kvm",
            "--disable-microvm",
            "--force-9p",
            f"--cpus={settings.cpus}",
            f"--memory={settings.memory}M",
            f"--rwdir={settings.share}",
            *(f"--append={a}" for a in kernel),
            *(f"--qemu-opts={q}" for q in qemu),
            "--",
            "env",
            f"PYTHONPATH={REPO}",
            "PYTHONDONTWRITEBYTECODE=1",
            sys.executable,
            "-m",
            "lab.inside.agent",
            str(settings.share),
        ]

    def prepare(self, home: Path, memory: GuestMemory) -> None:
        """Write the HEST that QEMU takes at its start, and the blocks' addresses into *memory*."""
        placed = hest.place(self.sources)
        (home / "hest").write_bytes(hest.table(placed))
        memory.write(hest.BASE, hest.registers(placed))

    def place(self, machine: Machine, memory: GuestMemory, console: Path) -> tuple[Placed, ...]:
        """Return where the sources are, and tell *machine* where to raise interrupts.

        Raises TransientError if QEMU has no I/O APIC where it should be.
        """
        machine.wire(_IOAPIC)
        return hest.place(self.sources)
