"""`make soak`: python -m tests.soak [--minutes N] [--events N]; about an hour on two cores.

First N minutes of mixed load on a real kernel in a guest, watched by the daemon; then so many
events replayed through the same engine. Fails if memory grows, a finding appears, or a loss is
unaccounted for.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.soak import replay

REPO = Path(__file__).parents[2]
_GROWTH = 1.05  # of RSS, from the warm process to the end
_PAGE = "http://127.0.0.1:10049"


def _metrics() -> dict[str, float]:
    """Sums by name, and by name and cause for losses."""
    with urllib.request.urlopen(f"{_PAGE}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, float] = {}
    for line in lines:
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0]
            found[name] = found.get(name, 0.0) + float(value)
            if name == "ghesrace_lost_events_total":
                found[series] = float(value)
    return found


def _memory(pid: int) -> dict[str, int]:
    """RSS by what it is of, in KiB (proc(5), /proc/PID/status)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}


def in_guest(minutes: float, share: Path) -> int:
    """In the guest: run the daemon for so long under the scenario `mixed`; figures to the share."""
    from lab.client import Client

    config = share / "ghesrace.toml"
    config.write_text(f'[recorder]\ndirectory = "{share}/captures"\n[source]\nbuffer_kb = 16384\n')
    with (share / "daemon.log").open("wb") as log:
        command = [sys.executable, "-m", "ghesrace.cli", "daemon", "--config", str(config)]
        # As systemd/ghesrace.service sets it.
        daemon = subprocess.Popen(command, stderr=log, env={**os.environ, "MALLOC_ARENA_MAX": "2"})
    end = time.monotonic() + 300
    while True:
        try:
            with urllib.request.urlopen(f"{_PAGE}/-/ready", timeout=10):
                break
        except OSError:
            if time.monotonic() > end or daemon.poll() is not None:
                return 1
            time.sleep(1)
    firmware = Client(share)
    firmware.start("mixed")
    samples, memory = [], []
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end and daemon.poll() is None:
        time.sleep(10)
        samples.append(_metrics())
        memory.append(_memory(daemon.pid))
    truth = firmware.stop()
    last = _metrics()
    daemon.terminate()
    code = daemon.wait()
    warm = samples[min(len(samples) - 1, len(samples) // 5)]
    result = {
        "minutes": minutes,
        "exit": code,
        "events": last["ghesrace_events_total"],
        "findings": last["ghesrace_findings_total"],
        "lost": {
            k: v for k, v in last.items() if k.startswith("ghesrace_lost_events_total{") and v
        },
        "rss_first": warm["ghesrace_process_resident_memory_bytes"],
        "rss_last": last["ghesrace_process_resident_memory_bytes"],
        "memory": memory[:: max(len(memory) // 10, 1)],
        "cpu_seconds": last["ghesrace_process_cpu_seconds_total"],
        "firmware": truth,
    }
    (share / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    return code


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
    """Run the soak; 0 if nothing is wrong."""
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
