# SPDX-License-Identifier: Apache-2.0
"""Measure `ghesrace survey` on stores of many captures: time, and the memory of its processes.

    python -m tests.bench.survey 1000:2 5000:2 10000:2 2000:1 2000:2

Each argument is a number of captures and of worker processes. The captures are the examples, under
the names of two hundred hosts and twenty kernels. It prints a table of Markdown.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.build.fleet import store

_EVERY_S = 0.5


@dataclass(slots=True)
class Measured:
    """What a survey took: seconds from begin to end, seconds of CPU, and the most RSS in bytes. The
    process that was started schedules and writes, and the workers judge. `again` is the time of
    the same command when there is nothing left to judge."""

    seconds: float = 0.0
    again: float = 0.0
    own_cpu: float = 0.0
    workers_cpu: float = 0.0
    own_rss: int = 0
    worker_rss: int = 0


def measure(place: Path, data: Path, workers: int) -> Measured:
    """Return what a survey of *place* took. Raises AssertionError if it fails."""
    command = [sys.executable, "-m", "ghesrace", "survey", "--workers", str(workers)]
    command += ["--data", str(data), "--format", "json", str(place)]
    found = Measured()
    cpu: dict[int, float] = {}
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                found.own_rss = max(found.own_rss, watched.memory_info().rss)
                found.own_cpu = _cpu(watched) or found.own_cpu
                for child in watched.children(recursive=True):
                    found.worker_rss = max(found.worker_rss, child.memory_info().rss)
                    cpu[child.pid] = _cpu(child) or cpu.get(child.pid, 0.0)
            except psutil.NoSuchProcess:
                pass
            time.sleep(_EVERY_S)
    assert process.returncode == 1
    found.seconds = time.monotonic() - begin
    found.workers_cpu = sum(cpu.values())
    begin = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    found.again = time.monotonic() - begin
    return found


def _cpu(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def main(wanted: list[str]) -> None:
    """Measure each of *wanted* ("CAPTURES:WORKERS") and print a row for it."""
    head = ["captures", "workers", "seconds", "CPU of workers, s", "of the scheduling process, s"]
    head += ["worker, MB", "scheduling process, MB", "again, s"]
    print(f"| {' | '.join(head)} |")
    print("| " + " | ".join(["---:"] * len(head)) + " |")
    for one in wanted:
        captures, workers = map(int, one.split(":"))
        with tempfile.TemporaryDirectory() as folder:
            place = store(Path(folder) / "store", captures)
            found = measure(place, Path(folder) / "data", workers)
        times = (found.seconds, found.workers_cpu, found.own_cpu)
        sizes = (found.worker_rss / 1e6, found.own_rss / 1e6)
        numbers = [*(f"{n:,.1f}" for n in times), *(f"{n:.0f}" for n in sizes)]
        print(
            f"| {captures:,} | {workers} | {' | '.join(numbers)} | {found.again:.1f} |", flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1:])
