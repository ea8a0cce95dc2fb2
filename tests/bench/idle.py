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
import urllib.request
from pathlib import Path

import psutil

_PAGE = "http://127.0.0.1:10049/-/ready"
_SETTLE_S = 15.0
_PATIENCE_S = 300.0  # a compiler in a starved guest takes minutes


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


def daemon(seconds: float, folder: Path, backend: str) -> dict[str, float]:
    """The daemon as it is installed: all metrics on, nobody scrapes."""
    config = folder / "ghesrace.toml"
    config.write_text(
        f'[source]\nbackend = "{backend}"\n[recorder]\ndirectory = "{folder}/captures"\n'
    )
    command = [sys.executable, "-m", "ghesrace.cli", "daemon", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + _PATIENCE_S
            while True:
                try:
                    urllib.request.urlopen(_PAGE, timeout=5).close()
                    break
                except OSError:
                    if time.monotonic() > end or process.poll() is not None:
                        raise
                    time.sleep(0.5)
            return measure(psutil.Process(process.pid), seconds)
        finally:
            process.terminate()


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
    with tempfile.TemporaryDirectory() as folder:
        found = {
            f"ghesrace, {backend}": daemon(seconds, Path(folder), backend)
            for backend in ("ftrace", "bpf")
        }
    peer = rasdaemon(seconds)
    if peer is not None:
        found["rasdaemon"] = peer
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
