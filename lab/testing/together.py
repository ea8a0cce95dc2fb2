# SPDX-License-Identifier: Apache-2.0
"""Run commands side by side, and show the lines of each under its name."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

_TICK_S = 0.1
_PATIENCE_S = 60.0  # A lab that is told to end gives its guest some 20 s.
_DRAIN_S = 10.0  # What a job left running may hold its output open.


@dataclass(frozen=True, slots=True)
class Job:
    """A job is a command with a short *name*, which stands before each of its lines."""

    name: str
    command: tuple[str, ...]


class _Running:
    """This is a job that was started; a thread shows what it says."""

    def __init__(self, job: Job, show: Callable[[str], None]) -> None:
        self.job = job
        self._process = subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            # Ctrl-C is for the one who started them all, who then ends each.
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._copy, args=(show,), daemon=True)
        self._thread.start()

    def _copy(self, show: Callable[[str], None]) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                show(line)

    def ended(self) -> int | None:
        """Return the exit code, once the job has ended and all that it said is shown."""
        code = self._process.poll()
        if code is not None:
            self._thread.join(_DRAIN_S)
        return code

    def tell(self) -> None:
        """Tell the job to end."""
        if self._process.poll() is None:
            self._process.terminate()

    def end(self, by: float) -> None:
        """Wait until the time *by* for the job's end, then kill it and what it left running."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, by - time.monotonic()))
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._thread.join(_DRAIN_S)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C, so that what begins here is known to those who end it."""
    if threading.current_thread() is not threading.main_thread():  # Ctrl-C is another's.
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came and callable(before):
        before(signal.SIGINT, None)


@contextmanager
def _all_ended(running: Sequence[_Running], patience_s: float) -> Iterator[None]:
    """Leave none of *running* behind, whatever happens."""
    try:
        yield
    finally:
        for one in running:
            one.tell()
        by = time.monotonic() + patience_s
        for one in running:
            one.end(by)


def run(
    jobs: Sequence[Job],
    at_once: int,
    out: IO[str],
    meanwhile: Callable[[], None] = lambda: None,
    patience_s: float = _PATIENCE_S,
) -> dict[str, int]:
    """Run *jobs*, *at_once* of them side by side, and return the exit code of each by its name.

    They begin in their order, the next one when one has ended; one that fails ends no other.
    *meanwhile* is called every now and then. Each line goes to *out* behind its job's name. When
    this is interrupted the jobs are told to end (SIGTERM), and killed after *patience_s*.

        codes = run([Job("a", ("true",)), Job("b", ("false",))], 2, sys.stdout)
    """
    width = max((len(job.name) for job in jobs), default=0)
    one_at_a_time = threading.Lock()
    waiting, running, codes = list(jobs), list[_Running](), dict[str, int]()

    def shown_as(name: str) -> Callable[[str], None]:
        def show(line: str) -> None:
            with one_at_a_time:
                out.write(f"{name:{width}} | {line.rstrip()}\n")
                out.flush()

        return show

    with _all_ended(running, patience_s):
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                with _uninterrupted():
                    running.append(_Running(job, shown_as(job.name)))
            meanwhile()
            for one in list(running):
                if (code := one.ended()) is not None:
                    codes[one.job.name] = code
                    running.remove(one)
            time.sleep(_TICK_S)
    return codes
