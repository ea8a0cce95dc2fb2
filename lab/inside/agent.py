# SPDX-License-Identifier: Apache-2.0
"""Prepare the guest of `python -m lab run`, run the command in it, and write the results.

The guest's init starts it as `python -m lab.inside.agent SHARE`. The command's output goes to
files in the share, the kernel's to the console, so neither overwrites the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ghesrace.errors import TransientError
from lab import paths
from lab.firmware import hest

from .client import Client

# A tracer needs these file systems; virtme-ng's init mounts them where the kernel has them.
_MOUNTS = {"/sys/kernel/tracing": "tracefs", "/sys/kernel/debug": "debugfs"}

_BOUNCE_S = 0.02
_LOOK_S = 0.5
_COMMAND_NOT_FOUND = 127
# lab.boards.virt compiles it on the host. x86 has none, as no load ends in an SEA there.
SEA = paths.REPO / "build" / "arm64" / "sea"


def _mount() -> None:
    mounted = {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()}
    for where, kind in _MOUNTS.items():
        if where not in mounted and Path(where).is_dir():
            subprocess.run(["mount", "-t", kind, kind, where], check=True)


_HEST = Path("/sys/firmware/acpi/tables/HEST")


def _bind_late() -> None:
    """Let GHES take the sources that it refused because nobody had mapped their GSI yet.

    On arm64 acpi_gsi_to_irq() only finds a mapping, it makes none, and ghes_probe() runs before
    the devices that make it are probed. Raises TransientError if the host exchanged the tables too
    late in the boot.
    """
    if _HEST.read_bytes()[10:16] != hest.OEM:  # the header's OEM id
        raise TransientError("the kernel read QEMU's HEST before the lab exchanged it", "run again")
    for device in Path("/sys/bus/platform/devices").glob("GHES.*"):
        if not (device / "driver").exists():
            Path("/sys/bus/platform/drivers/GHES/bind").write_text(device.name)


def _bring_up_shared_device() -> None:
    """Let the e1000 request the interrupt line that it shares with GHES."""
    if not Path("/sys/bus/pci/drivers/e1000").exists():  # else it is built in
        subprocess.run(["modprobe", "e1000"], check=True)
    for net in Path("/sys/class/net").iterdir():
        driver = net / "device" / "driver"
        if driver.exists() and driver.resolve().name == "e1000":
            subprocess.run(["ip", "link", "set", "dev", net.name, "up"], check=True)


_INTERRUPTS = Path("/proc/interrupts")
_GHES = "GHES IRQ"  # ghes_probe() requests the interrupt by this name.


def interrupts(table: Path = _INTERRUPTS) -> dict[str, list[int]]:
    """Return how often each CPU took an NMI ("nmi") and the GHES interrupt ("irq").

    *table* is /proc/interrupts or a copy. "irq" is missing if GHES has no interrupt.

        before = interrupts()
        Client().report("nmi", 10)
        taken = [b - a for a, b in zip(before["nmi"], interrupts()["nmi"])]
    """
    head, *lines = table.read_text().splitlines()
    cpus = len(head.split())
    counts = {}
    for line in lines:
        name, _, rest = line.partition(":")
        if name.strip() == "NMI" or _GHES in rest:
            key = "nmi" if name.strip() == "NMI" else "irq"
            counts[key] = [int(n) for n in rest.split()[:cpus]]
    return counts


def ghes_irq(table: Path = _INTERRUPTS) -> int | None:
    """Return the Linux IRQ number of the external-interrupt sources, or None if GHES has none."""
    for line in table.read_text().splitlines():
        if _GHES in line:
            return int(line.partition(":")[0])
    return None


class Bouncer:
    """Moves the GHES IRQ from CPU to CPU while the firmware plays a scenario that wants it.

    x86 moves a level-triggered interrupt when it next fires (irq_move_masked_irq()). `moves` counts
    the attempts, of which some come too early and change nothing.
    """

    def __init__(self, share: Path, irq: int) -> None:
        self._playing = paths.playing(share)
        self._affinity = Path(f"/proc/irq/{irq}/smp_affinity")
        self._end = threading.Event()
        self.moves = 0
        self._thread = threading.Thread(target=self._bounce, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop moving; the interrupt stays where it is."""
        self._end.set()
        self._thread.join()

    def _wanted(self) -> bool:
        try:
            return bool(json.loads(self._playing.read_text())["bounce"])
        except FileNotFoundError:
            return False

    def _bounce(self) -> None:
        # This thread (0) runs ahead of the command: otherwise a guest that is busy with tracing
        # hardly moves the interrupt.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        cpus = os.cpu_count() or 1
        wanted, looked = False, 0.0
        while not self._end.wait(_BOUNCE_S if wanted else _LOOK_S):
            if time.monotonic() - looked > _LOOK_S:
                wanted, looked = self._wanted(), time.monotonic()
            if wanted:
                self.moves += 1
                # EBUSY means that the last move is still pending; the next turn tries again.
                with contextlib.suppress(OSError):
                    self._affinity.write_text(f"{1 << self.moves % cpus:x}\n")


class Loads:
    """Takes SEAs while the firmware plays a scenario that wants them: on each CPU in turn, or on
    all of them at once.

    A small arm64 program (lab/boards/sea.c) loads from an address at which nothing answers.
    """

    def __init__(self, share: Path) -> None:
        self._playing = paths.playing(share)
        self._end = threading.Event()
        self._taken: list[int] = []
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> list[int]:
        """Take no more SEAs; return how many each CPU took, in the order of CPU numbers."""
        self._end.set()
        self._thread.join()
        return self._taken

    def _wanted(self) -> tuple[float, bool]:
        """Return how many are wanted a second, and whether at once."""
        try:
            told = json.loads(self._playing.read_text())
        except FileNotFoundError:
            return 0.0, False
        return float(told["loads"]), bool(told["together"])

    def _follow(self) -> None:
        made: tuple[float, bool] = (0.0, False)
        processes: list[subprocess.Popen[bytes]] = []
        while not self._end.wait(_LOOK_S):
            wanted = self._wanted()
            if wanted != made:
                self._reap(processes)
                made, processes = wanted, self._begin(*wanted)
        self._reap(processes)

    @staticmethod
    def _begin(rate: float, together: bool) -> list[subprocess.Popen[bytes]]:
        """Start what makes *rate* loads a second in all."""
        if not rate:
            return []
        cpus = (os.cpu_count() or 1) if together else 1
        period = str(int(1e6 * cpus / rate))
        where = [["-1", str(cpu)] for cpu in range(cpus)] if together else [[]]
        return [subprocess.Popen([SEA, period, *w], stdout=subprocess.PIPE) for w in where]

    def _reap(self, processes: list[subprocess.Popen[bytes]]) -> None:
        for process in processes:
            process.terminate()
            said, _ = process.communicate()
            counts = [int(word) for word in said.split()]
            self._taken = [a + b for a, b in zip_longest(self._taken, counts, fillvalue=0)]


_PREPARE = {"pc": _bring_up_shared_device, "virt": _bind_late}


def _run(share: Path, command: list[str]) -> int:
    environment = {
        **os.environ,
        paths.ENV: str(share),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
    }
    with (share / paths.STDOUT).open("ab") as out, (share / paths.STDERR).open("ab") as err:
        try:
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment
            ).returncode
        except OSError as error:
            err.write(f"{command[0]}: {error.strerror}\n".encode())
            return _COMMAND_NOT_FOUND
    return code if code >= 0 else 128 - code  # A shell shows a signal in the same way.


def main(share: Path) -> None:
    """Do what the spec in *share* says, and hand the exit code to the host through the share."""
    spec: dict[str, Any] = json.loads(paths.spec(share).read_text())
    _mount()
    # The boot log is for a boot that fails; from here on only errors are worth the time.
    Path("/proc/sys/kernel/printk").write_text("4\n")
    _PREPARE[spec["board"]]()
    irq = ghes_irq()
    bouncer = Bouncer(share, irq) if irq is not None else None
    loads = Loads(share) if spec["board"] == "virt" else None
    client = Client(share)
    before = interrupts()
    client.start(spec["scenario"])
    paths.publish(paths.ready(share), "")
    code = _run(share, spec["command"])
    client.stop()
    if bouncer:
        bouncer.stop()
    report = {
        "ghes_irq": irq,
        "loads": loads.stop() if loads else [],
        "moves": bouncer.moves if bouncer else 0,
        "interrupts": {"before": before, "after": interrupts()},
    }
    (share / paths.GUEST).write_text(json.dumps(report, indent=2) + "\n")
    paths.publish(paths.exit_code(share), str(code))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
