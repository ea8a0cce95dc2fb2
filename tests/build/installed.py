# SPDX-License-Identifier: Apache-2.0
"""The installed daemon in a guest: its metrics, its unit, and what it leaves in the kernel."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.inside.systemd import Box
from lab.module.device import Parameters
from lab.module.run import run as run_module

from .paths import TRACEFS

DAEMON = "http://127.0.0.1:10049"
CAPTURES = Path("/var/lib/ghesrace/captures")
CONFIG = "[recorder]\nafter_seconds = 2\nrepeat_seconds = 1\n[window]\nseconds = 20\n"
INSTALLED: list[str] = []  # what systemd said of the unit just after the installation


def get(url: str) -> str:
    """What *url* says."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait until *true* gives something; fail with *what* after *seconds*."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := true():
                return found
        except (OSError, urllib.error.URLError, ValueError, KeyError, IndexError):
            pass
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)


def metric(name: str, text: str | None = None) -> float:
    """Sum of the samples whose line begins with *name*."""
    lines = (text or get(f"{DAEMON}/metrics")).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def ready() -> bool:
    """Whether the daemon says that it watches."""
    return get(f"{DAEMON}/-/ready") == "watching\n"


def leftovers() -> list[str]:
    """Instances and probes of ours in the kernel."""
    found = [p.name for p in (TRACEFS / "instances").glob("ghesrace*")]
    lines = (TRACEFS / "dynamic_events").read_text().splitlines()
    return found + [line for line in lines if "ghesrace_" in line]


def race(rounds: int = 40) -> None:
    """Let the control module race."""
    run_module(Parameters(fix="none", rounds=rounds))


def drop_in(box: Box, name: str, text: str) -> Path:
    """Write a drop-in of the unit, and let systemd read it."""
    file = Path("/etc/systemd/system/ghesrace.service.d") / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    box.do("systemctl", "daemon-reload")
    return file
