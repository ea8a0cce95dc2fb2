# SPDX-License-Identifier: Apache-2.0
"""One host of the fleet: the real daemon, all of it, on a source that plays what it is told.

python -m tests.alerts.host CONFIG: each line on standard input is a fault of `FAULTS`. What has no
fault is quiet: a batch without events, several times a second.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ghesrace.events import Cause, Context, Events, Kind, empty, loss, mark
from ghesrace.service import config
from ghesrace.service.daemon import Daemon
from ghesrace.service.health import Health
from ghesrace.service.journal import Log
from ghesrace.service.sdnotify import Notifier
from tests.build.trace import A, B, Trace, plan

_PAUSE_S = 0.2


def _race(trace: Trace) -> Events:
    """CPU 1 reads where CPU 0 had another frame, and nothing was invalidated between."""
    trace.report(0, A)
    trace.report(1, B)
    return np.concatenate(trace.records)


def _luck(trace: Trace) -> Events:
    """The same, but something unrelated invalidated CPU 1's TLB."""
    trace.report(0, A)
    trace.add(1, Kind.INV_ALL, Context.TASK)
    trace.report(1, B)
    return np.concatenate(trace.records)


def _lose(trace: Trace) -> Events:
    return loss(trace.now - 1000, trace.now, Cause.OVERRUN, cpu=0, count=7)


def _gone(trace: Trace) -> Events:
    return loss(trace.now - 1000, trace.now, Cause.PROBE_GONE, point=0)


FAULTS: dict[str, Callable[[Trace], Events]] = {
    "race": _race,
    "luck": _luck,
    "lose": _lose,
    "gone": _gone,
}
HIDES = "FLEET_HIDES"  # in the environment: this host's kernel hides what a pattern needs
STALL, LATE = "stall", "late"  # no batch comes any more; an event came too late


class Played:
    """A source that plays what stands in *told*."""

    def __init__(self, told: queue.Queue[str]) -> None:
        hidden = {"torn_edit": "no probe point"} if os.environ.get(HIDES) else {}
        self.plan = replace(plan(), not_checked=hidden)
        self.host = {"arch": "x86_64", "release": "test"}
        self.counters: Counter[str] = Counter(late=0)
        self._told = told
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def batches(self) -> Iterator[Events]:
        trace, final = Trace(time.monotonic_ns()), False
        while not final:
            final = self._stopped.wait(_PAUSE_S)
            trace.now = max(trace.now, time.monotonic_ns())
            trace.records.clear()
            fault = "" if self._told.empty() else self._told.get()
            if fault == STALL:
                self._stopped.wait()
            if fault == LATE:
                self.counters["late"] += 1
            events = FAULTS[fault](trace) if fault in FAULTS else empty()
            trace.now += 1_000
            yield np.concatenate([events, mark(trace.now)])


def main(path: Path) -> int:
    """Run one daemon until SIGTERM, and return its exit code."""
    told: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            told.put(line.strip())

    def attach(stack: ExitStack, settings: Any, health: Health, *_: object) -> Played:
        health.backend = "ftrace"
        return Played(told)

    threading.Thread(target=listen, daemon=True).start()
    return Daemon(config.load(path), path, Log("info"), Notifier(), attach).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
