# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.engine [--beside TRACER] [--runs N]`: how fast the engine judges.

The stream is the soak's (four CPUs, two slots, every map flushed). N (5) alternations, each a
process of its own, in CPU time: this source compiled, and beside it the same source uncompiled, or
what is in another checkout's folder TRACER. Needs neither root nor a guest. Prints JSON: ns per
event of either (medians), and how many times as long the other takes (`ratio`).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ghesrace import compiled
from ghesrace.checker.engine import Engine
from ghesrace.events import Kind
from ghesrace.plan import Slot
from tests.build.paths import REPO
from tests.build.trace import V, plan
from tests.soak.replay import CPUS, block

WARM, BLOCKS = 3, {False: 40, True: 4}  # batches before the clock runs, and then; by compiled.pure


def measure() -> float:
    """Return ns of CPU time per event, in this process's mode."""
    slots = (Slot("irq", 644, V, "report"), Slot("nmi", 645, V + 4096, "report"))
    engine = Engine(plan(*slots, cpus=CPUS))
    base = block()
    real = base["kind"] < Kind.LOSS
    span, steps = int(base["ts"].max()) + 1_000_000, int(base["seq"].max()) + 1
    batches = []
    for number in range(WARM + BLOCKS[compiled.pure()]):
        batch = base.copy()
        batch["ts"] += np.uint64(number * span)
        batch["seq"][real] += np.uint64(number * steps)
        batches.append(batch)
    for batch in batches[:WARM]:
        engine.feed(batch)
    gc.collect()
    begin = time.process_time_ns()
    for batch in batches[WARM:]:
        engine.feed(batch)
    taken = time.process_time_ns() - begin
    if engine.found or not engine.report().slots[0].episodes:
        raise SystemExit("the stream was not judged as it should be")
    return taken / sum(map(len, batches[WARM:]))


def main() -> None:
    """Alternate, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.engine", description=__doc__)
    parser.add_argument("--beside", type=Path, help="the folder `tracer` of another checkout")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.inside:
        print(measure())
        return
    mine = REPO / "tracer"
    other = (mine, "1") if wanted.beside is None else (wanted.beside.resolve(), "")
    ways = {"ns": (mine, ""), "ns_beside": other}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(wanted.runs):
        for name, (tracer, pure) in ways.items():
            command = [sys.executable, "-m", "tests.bench.engine", "--inside"]
            environment = os.environ | {compiled.PURE: pure, "PYTHONPATH": str(tracer)}
            said = subprocess.check_output(command, env=environment, cwd=REPO)
            found[name].append(float(said))
    pairs = zip(found["ns"], found["ns_beside"], strict=True)
    result = {name: round(statistics.median(times)) for name, times in found.items()}
    ratio = round(statistics.median(other / own for own, other in pairs), 2)
    print(json.dumps({**result, "ratio": ratio, "runs": wanted.runs}))


if __name__ == "__main__":
    main()
