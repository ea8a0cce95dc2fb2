# SPDX-License-Identifier: Apache-2.0
"""`make soak` runs python -m tests.soak [--minutes N] [--events N]; about an hour on two cores.

The daemon first watches a real kernel in a guest under N minutes of mixed load; then so many events
are replayed through the same engine. The soak fails if memory grows, a finding appears, or a loss
is unaccounted for.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.build.paths import REPO

from . import replay

_GROWTH = 1.05  # RSS may grow by this factor.


def floors(rss: Sequence[int]) -> tuple[int, int]:
    """Return the lowest RSS (in the unit of *rss*) of the first third and of the last.

    The first fifth of all samples is left out, as the process is not warm yet. The arrays of a
    batch come and go, so two single samples would compare only what was at work in them; a leak
    raises the lowest RSS, too.

    >>> floors([1, 2, 3, 9, 3, 3, 9, 4, 9, 4])
    (3, 4)
    """
    warm = rss[len(rss) // 5 :]
    third = max(len(warm) // 3, 1)
    return min(warm[:third]), min(warm[-third:])


def in_guest(minutes: float, share: Path) -> int:
    """Run the daemon in the guest for so many *minutes* under the scenario `mixed`.

    Writes the figures to soak.json in *share* and returns 0. Raises TransientError if the daemon
    fails.
    """
    from lab.inside import daemon as watching
    from lab.inside.client import Client

    firmware = Client(share)
    samples, memory = [], []
    with watching.daemon(share, "[source]\nbuffer_kb = 16384\n") as daemon:
        firmware.start("mixed")
        end = time.monotonic() + minutes * 60
        while time.monotonic() < end:
            time.sleep(10)
            samples.append(watching.metrics())
            memory.append(watching.memory(daemon))
        truth = firmware.stop()
        last = watching.metrics()
    rss = [int(sample["ghesrace_process_resident_memory_bytes"]) for sample in samples]
    first, final = floors(rss)
    result = {
        "minutes": minutes,
        "source": [key for key in last if key.startswith("ghesrace_source_info{")],
        "events": last["ghesrace_events_total"],
        "findings": last["ghesrace_findings_total"],
        "lost": {
            k: v for k, v in last.items() if k.startswith("ghesrace_lost_events_total{") and v
        },
        "rss": rss[:: max(len(rss) // 30, 1)],
        "rss_first": first,
        "rss_last": final,
        "rss_most": max(rss),
        "memory": memory[:: max(len(memory) // 10, 1)],
        "cpu_seconds": last["ghesrace_process_cpu_seconds_total"],
        "firmware": truth,
    }
    (share / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _judge(name: str, result: dict[str, Any]) -> list[str]:
    wrong = []
    if result["rss_last"] > result["rss_first"] * _GROWTH:
        wrong.append(
            f"{name}: RSS grew from {result['rss_first']:,.0f} to {result['rss_last']:,.0f}"
        )
    if result["findings"]:
        wrong.append(f"{name}: {result['findings']:.0f} findings on clean traffic")
    return wrong


def main(argv: list[str] | None = None) -> int:
    """Run the soak and return the exit code, which is 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--events", type=float, default=1e8)
    parser.add_argument("--in-guest", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.in_guest:
        from lab import paths

        return in_guest(args.minutes, Path(os.environ[paths.ENV]))
    wrong = []
    with tempfile.TemporaryDirectory(prefix="ghesrace-soak-") as folder:
        share = Path(folder) / "share"
        limit = str(args.minutes * 60 + 900)
        inside = f"cd {REPO} && exec {sys.executable} -m tests.soak --in-guest"
        command = [sys.executable, "-m", "lab", "run", "--share", str(share), "--timeout", limit]
        command += ["--", "sh", "-c", f"{inside} --minutes {args.minutes}"]
        if args.minutes:
            if subprocess.run(command, cwd=REPO).returncode:
                print((share / "daemon.log").read_text(), file=sys.stderr)
                return 1
            result = json.loads((share / "soak.json").read_text())
            print(json.dumps({"guest": result}, indent=1))
            wrong += _judge("guest", result)
        outcome = asdict(replay.run(int(args.events), Path(folder) / "captures"))
    print(json.dumps({"replay": outcome}, indent=1))
    wrong += _judge("replay", outcome)
    if (outcome["lost"], outcome["counted"]) != (outcome["lost_expected"], outcome["events"]):
        wrong.append("replay: an event or a loss is unaccounted for")
    for line in wrong:
        print(f"soak: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
