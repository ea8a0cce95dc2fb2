# SPDX-License-Identifier: Apache-2.0
"""This module knows how the daemon itself does: its state, its heartbeat, and what its host went
through.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ghesrace.plan import Plan, Unseen

_STEP_S = 0.5  # Setting a wall clock moves it by more; slewing it moves less between two batches.
_SUSPEND_S = 0.5


class HealthState(StrEnum):
    """The states are the steps of the start, in order, then watching, or why it can't, and the
    end."""

    PARSE = "parse"
    LISTEN = "listen"
    PLAN = "plan"
    ATTACH = "attach"
    DROP = "drop-privileges"
    STRICT = "strict-check"
    WATCHING = "watching"
    UNSUPPORTED = "unsupported"
    STOPPING = "stopping"


@dataclass(slots=True)
class Health:
    """This holds the plain facts that metrics, status line and HTTP tell. Times are Unix seconds,
    and 0 stands for never.

    >>> Health(backend="bpf").state
    <HealthState.PARSE: 'parse'>
    """

    state: HealthState = HealthState.PARSE
    backend: str = ""
    unsupported: str = ""  # why this host can't be traced; "" where it can
    missing: tuple[Unseen, ...] = ()  # probe points that this kernel does not offer
    started: float = field(default_factory=time.time)
    heartbeat: float = 0.0  # the last batch that went through the engine
    reloads: int = 0
    reload_failures: int = 0
    reload_ok: bool = True
    suspends: int = 0
    clock_steps: int = 0
    late: int = 0  # events that came after their MARK
    cpu_source: float = 0.0  # CPU seconds of reading and decoding
    cpu_record: float = 0.0
    cpu_publish: float = 0.0
    http: dict[str, int] = field(default_factory=dict)  # status code -> answers


def missing_points(plan: Plan, whats: frozenset[str]) -> tuple[Unseen, ...]:
    """Return what *plan* can't see because a probe point could not be resolved that some pattern
    needs. *whats* has the `what` of all probe points."""
    return tuple(u for u in plan.unseen if u.what in whats and u.patterns)


class Clocks:
    """This notices that the host slept, and that its wall clock was set.

    >>> Clocks().look(Health())  # nothing happened since it was made
    []
    """

    def __init__(self) -> None:
        self._slept, self._wall = self._read()

    @staticmethod
    def _read() -> tuple[float, float]:
        mono = time.monotonic()
        # CLOCK_BOOTTIME goes on in suspend, CLOCK_MONOTONIC does not.
        return time.clock_gettime(time.CLOCK_BOOTTIME) - mono, time.time() - mono

    def look(self, health: Health) -> list[tuple[str, float]]:
        """Return what happened since the last look, as ("suspended" or "clock-step", seconds), and
        count it in *health*."""
        slept, wall = self._read()
        asleep, moved = slept - self._slept, wall - self._wall
        self._slept, self._wall = slept, wall
        found = []
        if asleep > _SUSPEND_S:
            health.suspends += 1
            found.append(("suspended", asleep))
        if abs(moved - asleep) > _STEP_S:
            health.clock_steps += 1
            found.append(("clock-step", moved - asleep))
        return found


def threads_with_capabilities(proc: Path = Path("/proc/self/task")) -> list[int]:
    """Return the threads of this process that still have a capability in their permitted set.
    *proc* is the folder of its threads (proc(5))."""
    held = []
    for task in proc.iterdir():
        for line in (task / "status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "CapPrm" and int(value, 16):
                held.append(int(task.name))
    return held


def cpus_online() -> int:
    """Return how many CPUs are online.

    >>> cpus_online() >= 1
    True
    """
    return os.sysconf("SC_NPROCESSORS_ONLN")
