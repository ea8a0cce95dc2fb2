# SPDX-License-Identifier: Apache-2.0
"""A watch that saw the race, and what is published of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ghesrace.events import Cause, mark
from ghesrace.service.config import RecorderSettings as Settings
from ghesrace.service.evidence.recorder import FlightRecorder
from ghesrace.service.health import Health, HealthState
from ghesrace.service.metrics.families import Published, publish
from ghesrace.service.watch import Watch
from tests.build.trace import bounce, plan


def recorder(directory: Path) -> FlightRecorder:
    made = FlightRecorder(
        Settings(directory=str(directory)), plan(), {}, lambda *a, **k: None, lambda *a: None
    )
    made.start()
    return made


def racing() -> Watch:
    watch, trace = Watch(plan(), 3600), bounce()
    trace.lose(0, 5, cause=Cause.MISSED, count=3, point=1)
    watch.feed(trace.stream())
    watch.feed(mark(trace.now + 2_000_000_000))
    watch.look(now=True)
    return watch


def published(watch: Watch, tmp_path: Path, **how: Any) -> Published:
    health = Health(HealthState.WATCHING, "ftrace", heartbeat=1.0)
    return publish(watch, health, recorder(tmp_path), **how)
