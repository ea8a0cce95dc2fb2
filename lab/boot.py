# SPDX-License-Identifier: Apache-2.0
"""Boot a real kernel under QEMU/TCG, run one command in it, and tidy up afterwards.

`run` is the only way in. It needs no root and no KVM, and a boot takes some 20 s.
"""

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
from pathlib import Path
from typing import IO

from ghesrace.errors import TransientError, UsageError
from lab.boards.board import Board, Settings
from lab.firmware.firmware import Firmware, GuestMemory
from lab.firmware.scenario import Player, named
from lab.firmware.server import Control

from . import paths
from .paths import REPO
from .qemu import Machine

_TICK_S = 0.05
_QUIT_S = 10.0
_TAIL_LINES = 30
_GIB = 1 << 30


def _free(shm: Path) -> int:
    """Return the bytes that are free in *shm*, less what the guests that run may still fill."""
    files = (ram.stat() for ram in shm.glob("ghesrace-lab-*/ram"))
    promised = sum(max(0, file.st_size - file.st_blocks * 512) for file in files)
    return shutil.disk_usage(shm).free - promised


@contextmanager
def _private(memory: int) -> Iterator[tuple[Path, Path]]:
    """Yield a private folder for sockets and the path of a RAM file of *memory* MiB."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ghesrace-lab-")))
        # The file is kept in RAM if it fits, as the host writes a file on disk back all the time.
        shm = Path("/dev/shm")
        room = os.access(shm, os.W_OK) and _free(shm) > (memory << 20) + _GIB
        ram = home
        if room:
            ram = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="ghesrace-lab-", dir=shm))
            )
        with (ram / "ram").open("wb") as file:
            file.truncate(memory << 20)
        yield home, ram / "ram"


def tail(path: Path) -> str:
    """Return the last 30 lines of *path*, indented, to be shown below the error they explain.

    The result is empty if there is no such file.
    """
    try:
        lines = path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    except FileNotFoundError:
        return ""
    return "\n".join(f"  | {line}" for line in lines)


class _Follow:
    """Copies what is appended to a file of the share to one of this process's streams."""

    def __init__(self, path: Path, stream: IO[str]) -> None:
        self._file = path.open("rb")
        self._stream = stream
        # A read may end in the middle of a character, so the decoder keeps its state.
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def pump(self) -> None:
        """Copy what was appended since the last call."""
        if text := self._decoder.decode(self._file.read()):
            self._stream.write(text)
            self._stream.flush()

    def close(self) -> None:
        """Close the file; the stream stays open."""
        self._file.close()


def _prepare(board: Board, settings: Settings, command: Sequence[str]) -> None:
    share = settings.share
    shutil.rmtree(paths.private(share), ignore_errors=True)
    paths.private(share).mkdir(parents=True)
    for name in (paths.STDOUT, paths.STDERR, paths.CONSOLE):
        (share / name).write_bytes(b"")
    for name in (paths.FIRMWARE, paths.GUEST):
        (share / name).unlink(missing_ok=True)
    spec = {"command": list(command), "scenario": settings.scenario, "board": board.name}
    paths.spec(share).write_text(json.dumps(spec))


def _connect(home: Path, process: subprocess.Popen[bytes], seconds: float) -> Machine:
    """Wait for QEMU's sockets and connect to them.

    Raises TransientError if QEMU ends first, or does not open them within *seconds*.
    """
    end = time.monotonic() + seconds
    while not (home / "qmp").exists() or not (home / "qtest").exists():
        if process.poll() is not None or time.monotonic() > end:
            raise TransientError(f"QEMU did not start:\n{tail(home / 'log')}")
        time.sleep(_TICK_S)
    return Machine(home / "qmp", home / "qtest")


def _await(settings: Settings, home: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait for the command's exit code and return it; show its output as it comes.

    Raises TransientError if the guest ends first or a time limit of *settings* is over.
    """
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
            # The end is looked for before the output is copied, so that everything that came
            # before the end is shown.
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
    said = tail(home / "log") + tail(paths.agent(settings.share))
    started_up = f"\nand what starts QEMU and the lab's agent say:\n{said}" if said else ""
    return TransientError(
        f"{why}; its console says last:\n{tail(console)}{started_up}",
        f"the whole console is in {console}",
    )


def _end(process: subprocess.Popen[bytes], patience_s: float = _QUIT_S) -> None:
    """End vng, the shells below it and QEMU.

    They get *patience_s* seconds to end by themselves, as many after SIGTERM, then SIGKILL.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
    process.wait()


@contextmanager
def tidy_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the guest as Ctrl-C does, so that it never outlives the lab."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def run(board: Board, settings: Settings, command: Sequence[str]) -> int:
    """Run *command* in a guest and return its exit code; its results are in the share.

    The scenario plays from the command's start to its end. What the firmware did is written to
    firmware.json, and the guest's view of it to guest.json. Whatever happens, Ctrl-C included,
    the guest is gone afterwards and so is everything outside the share.

        settings = Settings(Path("share").resolve(), scenario="mixed")
        record = 'exec ghesrace capture -d 10 -o "$LAB_SHARE/c.arrows" --check'
        code = run(Pc(), settings, ["sh", "-c", record])
        truth = json.loads((settings.share / "firmware.json").read_text())

    Raises UsageError if *settings* make no sense, HostError if this host lacks a tool, and
    TransientError if the guest crashes, hangs or is too slow.
    """
    named(settings.scenario)
    if settings.cpus < 1:
        raise UsageError(f"--cpus {settings.cpus}: a guest has at least one")
    board.check(settings)
    settings.share.mkdir(parents=True, exist_ok=True)
    # The guest sees the repository read-only and cannot keep byte code, so each of its processes
    # would compile every module again.
    for folder in ("tracer", "probes", "lab", "tests"):
        compileall.compile_dir(REPO / folder, quiet=2)
    board.warm()
    with ExitStack() as stack:
        stack.enter_context(tidy_on_signals())
        home, ram = stack.enter_context(_private(settings.memory))
        memory = GuestMemory(ram, board.ram_base)
        stack.callback(memory.close)
        _prepare(board, settings, command)
        board.prepare(home, memory)
        log = stack.enter_context((home / "log").open("wb"))
        process = subprocess.Popen(
            board.command(settings, home, ram),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=board.environment(home),
            start_new_session=True,
        )
        stack.callback(_end, process)
        machine = stack.enter_context(_connect(home, process, settings.boot_s))
        stack.callback(machine.quit)
        placed = board.place(machine, memory, settings.share / paths.CONSOLE)
        firmware = Firmware(memory, machine, placed)
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
