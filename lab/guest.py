"""Boot a real kernel under QEMU/TCG through virtme-ng, run one command in it, tidy up."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ghesrace.errors import HostError, TransientError, UsageError

from . import hest, paths
from .control import Control
from .firmware import Firmware, Memory
from .module.build import build
from .qemu import Machine
from .scenario import Player, named

REPO = Path(__file__).resolve().parent.parent
BOOT = Path("/boot")

_TICK_S = 0.05
_QUIT_S = 10.0
_TAIL_LINES = 30
_GIB = 1 << 30

# Drivers of QEMU's devices and CPU features that nothing here needs; loading them takes
# udev longer than all the rest of the boot.
_UNUSED_DRIVERS = (
    "kvm_amd,kvm,ccp,powernow_k8,acpi_cpufreq,ata_piix,ata_generic,sr_mod,sg,floppy,pcspkr,"
    "psmouse,serio_raw,evdev,i2c_piix4,i6300esb,button,aesni_intel,ghash_clmulni_intel,"
    "crct10dif_pclmul,crc32_pclmul,crc32c_intel,sha512_ssse3,sha256_ssse3,sha1_ssse3,qemu_fw_cfg"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What to boot. `memory` in MiB; times in seconds; `append`: more kernel arguments."""

    kernel: Path
    share: Path
    scenario: str = "idle"
    cpus: int = 2
    memory: int = 2048
    append: tuple[str, ...] = ()
    boot_s: float = 400
    command_s: float = 1800
    qemu: tuple[str, ...] = field(default=())


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
        raise HostError("vng (virtme-ng) is not installed", "make venv, or pip install virtme-ng")
    return found


def _check(settings: Settings) -> None:
    named(settings.scenario)
    if not settings.kernel.is_file():
        raise UsageError(f"no kernel image at {settings.kernel}", "name one with --kernel IMAGE")
    if not shutil.which("qemu-system-x86_64"):
        raise HostError("qemu-system-x86_64 is not installed", "apt-get install qemu-system-x86")
    low, high = (hest.BASE + hest.REGION >> 20) + 256, 3072
    if not low <= settings.memory <= high:
        raise UsageError(f"--memory {settings.memory} MiB is not within {low} and {high}")
    if settings.cpus < 1:
        raise UsageError(f"--cpus {settings.cpus}: a guest has at least one")


@contextmanager
def _private(memory: int) -> Iterator[tuple[Path, Path]]:
    """Yield a private folder for sockets and the path of a RAM file of *memory* MiB."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ghesrace-lab-")))
        # In RAM if it fits: a file on disk is written back again and again.
        shm = Path("/dev/shm")
        room = os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > (memory << 20) + _GIB
        ram = home
        if room:
            ram = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="ghesrace-lab-", dir=shm))
            )
        with (ram / "ram").open("wb") as file:
            file.truncate(memory << 20)
        yield home, ram / "ram"


def _arguments(settings: Settings, home: Path, ram: Path) -> list[str]:
    qemu = [
        # INTx lines on ISA-style inputs (10, 11) that a HEST vector can share: not so on q35
        "-machine pc,memory-backend=ram,i8042=off,smbus=off -nodefaults",
        f"-object memory-backend-file,id=ram,size={settings.memory}M,mem-path={ram},share=on",
        f"-acpitable file={home / 'hest'}",
        "-netdev user,id=lan,restrict=on -device e1000,netdev=lan",
        f"-qmp unix:{home / 'qmp'},server=on,wait=off",
        f"-qtest unix:{home / 'qtest'},server=on,wait=off -qtest-log none",
        # virtme-ng sends the console to /dev/null, or into the command's output
        f"-set chardev.console.path={settings.share / paths.CONSOLE}",
        *settings.qemu,
    ]
    kernel = [
        "loglevel=7",
        f"modprobe.blacklist={_UNUSED_DRIVERS}",
        f"memmap={hest.REGION // 1024}K${hest.BASE:#x}",
        # LINT1 of every CPU, not of the boot CPU alone (setup_local_APIC())
        "apic_extnmi=all",
        # A guest whose CPU hangs ends after a minute, and its console says where
        "watchdog_thresh=30 softlockup_panic=1 softlockup_all_cpu_backtrace=1",
        *settings.append,
    ]
    return [
        _vng(),
        f"--run={settings.kernel}",
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
        "lab.agent",
        str(settings.share),
    ]


def _tail(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    except FileNotFoundError:
        return ""
    return "\n".join(f"  | {line}" for line in lines)


class _Follow:
    """Copies what is appended to a file of the share to a stream of ours."""

    def __init__(self, path: Path, stream: IO[str]) -> None:
        self._file = path.open("rb")
        self._stream = stream
        # A read may end in the middle of a character
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def pump(self) -> None:
        if text := self._decoder.decode(self._file.read()):
            self._stream.write(text)
            self._stream.flush()

    def close(self) -> None:
        self._file.close()


def _warm(kernel: Path) -> None:
    """Make here, in seconds, what the guest can't keep and would take minutes for.

    It sees the repository read-only: no byte code, no built module would outlive a process.
    """
    for folder in ("tracer", "probes", "lab", "tests"):
        compileall.compile_dir(REPO / folder, quiet=2)
    release = kernel.name.removeprefix("vmlinuz-")
    if (Path("/lib/modules") / release / "build").exists():
        build(release)


def _prepare(settings: Settings, command: Sequence[str], home: Path, memory: Memory) -> None:
    share = settings.share
    shutil.rmtree(paths.private(share), ignore_errors=True)
    paths.private(share).mkdir(parents=True)
    for name in (paths.STDOUT, paths.STDERR, paths.CONSOLE):
        (share / name).write_bytes(b"")
    for name in (paths.FIRMWARE, paths.GUEST):
        (share / name).unlink(missing_ok=True)
    spec = {"command": list(command), "scenario": settings.scenario}
    paths.spec(share).write_text(json.dumps(spec))
    placed = hest.place()
    (home / "hest").write_bytes(hest.table(placed))
    memory.write(hest.BASE, hest.registers(placed))


def _connect(home: Path, process: subprocess.Popen[bytes], seconds: float) -> Machine:
    """Wait for QEMU's sockets. Raises TransientError if it ends first or is too slow."""
    end = time.monotonic() + seconds
    while not (home / "qmp").exists() or not (home / "qtest").exists():
        if process.poll() is not None or time.monotonic() > end:
            raise TransientError(f"QEMU did not start:\n{_tail(home / 'vng')}")
        time.sleep(_TICK_S)
    return Machine(home / "qmp", home / "qtest")


def _await(settings: Settings, home: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait for the command's exit code, showing its output as it comes."""
    share = settings.share
    started = time.monotonic()
    ready: float | None = None
    with ExitStack() as stack:
        follow = [
            _Follow(share / paths.STDOUT, sys.stdout),
            _Follow(share / paths.STDERR, sys.stderr),
        ]
        for f in follow:
            stack.callback(f.close)
        while True:
            # Look first, copy then: what came before the end is shown in any case
            ended, done = process.poll() is not None, paths.exit_code(share).exists()
            for f in follow:
                f.pump()
            if done:
                return int(paths.exit_code(share).read_text())
            now = time.monotonic()
            if ready is None and paths.ready(share).exists():
                ready = now
            if ended:
                raise _failed(settings, home, "the guest ended before its command did (a crash?)")
            if ready is None and now - started > settings.boot_s:
                raise _failed(settings, home, f"the guest was not up after {settings.boot_s:.0f} s")
            if ready is not None and now - ready > settings.command_s:
                raise _failed(
                    settings, home, f"the command did not end within {settings.command_s:.0f} s"
                )
            time.sleep(_TICK_S)


def _failed(settings: Settings, home: Path, why: str) -> TransientError:
    console = settings.share / paths.CONSOLE
    said = _tail(home / "vng")
    started_up = f"\nand virtme-ng and the lab's agent say:\n{said}" if said else ""
    return TransientError(
        f"{why}; its console says last:\n{_tail(console)}{started_up}",
        f"the whole console is in {console}",
    )


def _end(process: subprocess.Popen[bytes], patience_s: float = _QUIT_S) -> None:
    """End vng, the shells below it and QEMU, politely first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
    process.wait()


@contextmanager
def _tidy_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the guest as Ctrl-C does, so that it never outlives us."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def run(settings: Settings, command: Sequence[str]) -> int:
    """Run *command* in a guest and return its exit code; its results are in the share.

    The scenario plays from the command's start to its end. What the firmware did is in
    firmware.json, the guest's view of it in guest.json. Whatever happens, Ctrl-C included,
    the guest is gone afterwards and so is everything outside the share. Raises UsageError,
    HostError, and TransientError when the guest crashes, hangs or is too slow.
    """
    _check(settings)
    settings.share.mkdir(parents=True, exist_ok=True)
    _warm(settings.kernel)
    with ExitStack() as stack:
        stack.enter_context(_tidy_on_signals())
        home, ram = stack.enter_context(_private(settings.memory))
        memory = Memory(ram)
        stack.callback(memory.close)
        _prepare(settings, command, home, memory)
        log = stack.enter_context((home / "vng").open("wb"))
        # virtme-ng looks its own parts up on PATH, and leaves files behind when it is killed
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        process = subprocess.Popen(
            _arguments(settings, home, ram),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": path, "TMPDIR": str(home)},
            start_new_session=True,
        )
        stack.callback(_end, process)
        machine = stack.enter_context(_connect(home, process, settings.boot_s))
        stack.callback(machine.quit)
        firmware = Firmware(memory, machine)
        player = Player(firmware)
        stack.callback(_write_truth, settings.share, firmware, player)
        control = Control(settings.share, firmware, player)
        stack.callback(control.close)
        return _await(settings, home, process)


def _write_truth(share: Path, firmware: Firmware, player: Player) -> None:
    try:
        player.stop()
    finally:
        truth = {**firmware.counts(), "scenarios": player.log}
        (share / paths.FIRMWARE).write_text(json.dumps(truth, indent=2) + "\n")
