# SPDX-License-Identifier: Apache-2.0
"""Run a daemon that watches this kernel, and read its metrics. This is for use in a guest."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ghesrace.errors import TransientError

_PAGE = "http://127.0.0.1:10049"
_PATIENCE_S = 300.0  # A compiler in a starved guest takes minutes.


@contextmanager
def daemon(folder: Path, config: str = "") -> Iterator[psutil.Process]:
    """Run `ghesrace daemon` as its systemd unit does, but without the unit's limits.

    Yields the process once it watches. *folder* gets its captures and its log; *config* (TOML) is
    added to the configuration. Raises TransientError if it does not come up, or does not end well.

        with daemon(Path("out"), '[source]\\nbackend = "bpf"\\n') as process:
            Client().report("nmi", 100)
            print(metrics()["ghesrace_events_total"], memory(process)["RssAnon"])
    """
    file = folder / "ghesrace.toml"
    file.write_text(f'[recorder]\ndirectory = "{folder}/captures"\n{config}')
    command = [sys.executable, "-m", "ghesrace", "daemon", "--config", str(file)]
    # systemd/ghesrace.service sets it, too.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
    with (folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env=environment)
    try:
        end = time.monotonic() + _PATIENCE_S
        while not _ready():
            if time.monotonic() > end or process.poll() is not None:
                raise TransientError(f"no daemon: {(folder / 'daemon.log').read_text()}")
            time.sleep(0.5)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        code = process.wait()
    if code:
        raise TransientError(f"the daemon ended with {code}")


def _ready() -> bool:
    try:
        urllib.request.urlopen(f"{_PAGE}/-/ready", timeout=10).close()
    except OSError:
        return False
    return True


def metrics() -> dict[str, float]:
    """Read the daemon's metrics; return the sum of each metric over its labels, by name.

    The series of losses and of the source are there one by one, too, as `name{labels}`.
    """
    with urllib.request.urlopen(f"{_PAGE}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, float] = {}
    for line in lines:
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0]
            found[name] = found.get(name, 0.0) + float(value)
            if name in ("ghesrace_lost_events_total", "ghesrace_source_info"):
                found[series] = float(value)
    return found


def memory(process: psutil.Process) -> dict[str, int]:
    """Return the RSS of *process* in KiB by kind of memory: RssAnon, RssFile and RssShmem.

    These are the names that /proc/PID/status has for them (proc(5)).
    """
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
