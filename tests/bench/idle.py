# SPDX-License-Identifier: Apache-2.0
"""What watching costs on an idle host: CPU time per hour and RSS of the daemon, and of rasdaemon.

For use in a guest: python -m lab run -- python -m tests.bench.idle [SECONDS]. The guest takes its
polled notifications, about one a second. Prints JSON.
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
    """CPU seconds per hour and RSS in bytes of *process* over *seconds*."""
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
    """Debian's rasdaemon in the foreground, without its database."""
    if not shutil.which("rasdaemon"):
        return None
    with subprocess.Popen(["rasdaemon", "-f"], stderr=subprocess.DEVNULL) as process:
        try:
            return measure(psutil.Process(process.pid), seconds)
        finally:
            process.terminate()


def main() -> None:
    """Measure and print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    found = {}
    for backend in ("ftrace", "bpf"):
        # As it is installed: all metrics on, nobody scrapes.
        config = f'[source]\nbackend = "{backend}"\n'
        with tempfile.TemporaryDirectory() as folder, daemon(Path(folder), config) as process:
            found[f"ghesrace, {backend}"] = measure(process, seconds)
    peer = rasdaemon(seconds)
    if peer is not None:
        found["rasdaemon"] = peer
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
