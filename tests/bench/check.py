# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.check [--beside TRACER] [--events N] [--runs N] [WAY ...]`: how fast
`check` is on long files of each kind.

In turn, each a process of its own, start included: `check` of a trace.dat and `trace-cmd report` of
it; `check` of the text of ftrace, of `trace-cmd report` and of `perf script`, and the same by
what is in another checkout's folder TRACER; `check` of a capture. The files are the fixtures,
repeated, and the soak's stream. Needs trace-cmd for two of them, and neither root nor a guest.
Prints JSON: for each way the CPU seconds and the peak RSS (MB) of either side (medians), events a
second, and how many times as long the other takes (`ratio`, median of the pairs).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ghesrace.events import Kind
from ghesrace.plan import Slot
from ghesrace.sources.capture.file import CaptureWriter
from tests.build.captures import HOST
from tests.build.paths import REPO
from tests.build.trace import V, plan
from tests.soak.replay import CPUS, block
from tests.unit.sources.foreign.fuzz import PERF_MAP

from .traces import write_dat, write_text

WAYS = ("trace.dat", "ftrace text", "trace-cmd report's text", "perf script's text", "capture")
JUDGED = range(4)  # the exit codes of a file that could be read


@dataclass(frozen=True, slots=True)
class Way:
    """What is measured: a file, how many events it has, what is given to `check` with it, and
    another program that reads it, if there is one."""

    path: Path
    events: int
    options: tuple[str, ...] = ()
    other: tuple[str, ...] = ()


def make(name: str, folder: Path, events: int) -> Way:
    """Write the file of the way called *name* to *folder*."""
    path = folder / "file"
    if name == "ftrace text":
        return Way(path, write_text(path, events, "trace.txt"))
    if name == "perf script's text":
        (folder / "map.toml").write_text(PERF_MAP)
        count = write_text(path, events, "perf-script.txt")
        return Way(path, count, ("--map", str(folder / "map.toml")))
    if name == "capture":
        return Way(path, write_capture(path, events))
    dat = folder / "trace.dat"
    count = write_dat(dat, events)
    if name == "trace.dat":
        return Way(dat, count, other=("trace-cmd", "report", str(dat)))
    with path.open("wb") as file:
        command = ["trace-cmd", "report", str(dat)]
        subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, check=True)
    dat.unlink()
    return Way(path, count)


def write_capture(path: Path, events: int) -> int:
    """Write a capture of at least *events* events of the soak's stream; return how many it has."""
    slots = (Slot("irq", 644, V, "report"), Slot("nmi", 645, V + 4096, "report"))
    base = block()
    real = base["kind"] < Kind.LOSS
    span, steps = int(base["ts"].max()) + 1_000_000, int(base["seq"].max()) + 1
    times = -(-events // int(real.sum()))
    with CaptureWriter(path, plan(*slots, cpus=CPUS), HOST) as writer:
        for number in range(times):
            batch = base.copy()
            batch["ts"] += np.uint64(number * span)
            batch["seq"][real] += np.uint64(number * steps)
            writer.write(batch)
    return times * int(real.sum())


def cost(command: list[str], tracer: Path) -> tuple[float, float]:
    """Return the CPU seconds and the peak RSS (MB) of a process with the *tracer* in its path."""
    environment = os.environ | {"PYTHONPATH": str(tracer)}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd=REPO
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in JUDGED:
        raise SystemExit(f"{' '.join(command)} failed: {process.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def measure(way: Way, runs: int, beside: Path | None) -> dict[str, float]:
    """Return what *runs* alternations of both sides took."""
    mine = REPO / "tracer"
    check = [sys.executable, "-m", "ghesrace", "check", "-q", *way.options, str(way.path)]
    sides = [(check, mine)]
    if way.other:
        sides.append((list(way.other), mine))
    elif beside is not None:
        sides.append((check, beside.resolve()))
    found: list[list[tuple[float, float]]] = [[] for _ in sides]
    for _ in range(runs):
        for (command, tracer), costs in zip(sides, found, strict=True):
            costs.append(cost(command, tracer))
    result: dict[str, float] = {"events": way.events}
    for name, costs in zip(("", "_beside"), found, strict=False):
        seconds, memory = (statistics.median(column) for column in zip(*costs, strict=True))
        result[f"cpu_s{name}"] = round(seconds, 2)
        result[f"mb{name}"] = round(memory)
        result[f"events_per_s{name}"] = round(way.events / seconds)
    if len(found) > 1:
        pairs = zip(*found, strict=True)
        result["ratio"] = round(statistics.median(b[0] / a[0] for a, b in pairs), 2)
    return result


def main() -> None:
    """Measure each way that is asked for, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.check", description=__doc__)
    parser.add_argument("--beside", type=Path, help="the folder `tracer` of another checkout")
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("ways", nargs="*", metavar="WAY", default=WAYS, help=", ".join(WAYS))
    wanted = parser.parse_args()
    results = {}
    for name in wanted.ways:
        with tempfile.TemporaryDirectory(prefix="ghesrace-bench-") as folder:
            way = make(name, Path(folder), wanted.events)
            results[name] = measure(way, wanted.runs, wanted.beside)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
