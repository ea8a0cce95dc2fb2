# SPDX-License-Identifier: Apache-2.0
"""Measure what watching costs on an idle host, for the daemon and for rasdaemon.

    python -m lab run -- python -m tests.bench.idle [SECONDS]

This is for use in a guest, which takes its polled notifications, about one a second. It prints CPU
time per hour and RSS as JSON.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from lab.inside.daemon import daemon

_SETTLE_S = 15.0


def measure(process: psutil.Process, seconds: float) -> dict[str, float]:
    """Return CPU seconds per hour of *process* over so many *seconds*, and its RSS in bytes."""
    time.sleep(_SETTLE_S)
    before = process.cpu_times()
    begin = time.monotonic()
    time.sleep(seconds)
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return {
        "cpu_s_per_hour": 3600 * spent / (time.monotonic() - begin),
        "rss_bytes": float(process.memory_info().rss),
        "seconds": seconds,
    }


def rasdaemon(seconds: float) -> dict[str, float] | None:
    """Measure Debian's rasdaemon without its database; return None if it is not installed."""
    if not shutil.which("rasdaemon"):
        return None
    with subprocess.Popen(["rasdaemon", "-f"], stderr=subprocess.DEVNULL) as process:
        try:
            return measure(psutil.Process(process.pid), seconds)
        finally:
            process.terminate()


def main() -> None:
    """Measure the daemon with both backends, and rasdaemon; print JSON."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    found = {}
    for backend in ("ftrace", "bpf"):
        # This is the daemon as it is installed, with all metrics on; nobody scrapes it.
        config = f'[source]\nbackend = "{backend}"\n'
        with tempfile.TemporaryDirectory() as folder, daemon(Path(folder), config) as process:
            found[f"ghesrace, {backend}"] = measure(process, seconds)
    peer = rasdaemon(seconds)
    if peer is not None:
        found["rasdaemon"] = peer
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
