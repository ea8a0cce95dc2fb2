# SPDX-License-Identifier: Apache-2.0
"""Worlds by hand, for tests of the simulator."""

from __future__ import annotations

from typing import Any

from ghesrace.events import Context

from .kernel import FRAMES, KERNELS, Kernel, Task
from .tracer import Clock
from .world import World

A, B, C = FRAMES[:3]
OLD = next(kernel for kernel in KERNELS if kernel.name == "2015, one lock a report")


def world(*tasks: Task, kernel: Kernel = OLD, cpus: int = 2, **more: Any) -> World:
    """A world by hand: steps take 100 ns each, clocks agree."""
    clocks = tuple(Clock() for _ in range(cpus))
    return World("order", 0, kernel, cpus, tasks, 1000, clocks, (100, 100), **more)


def report(at: int, cpu: int, *frames: int, ctx: Context = Context.IRQ, slot: int = 0) -> Task:
    """A notification that copies each of *frames* by itself."""
    return Task(at, cpu, ctx, "report", at, slot, tuple((frame,) for frame in frames))


RACE = world(report(0, 0, A), report(50_000, 1, B))
LUCK = world(report(0, 0, A), Task(30_000, 1, Context.TASK, "inv-all", 1), report(50_000, 1, B))


def with_kernel(name: str) -> Kernel:
    """The kernel of that name."""
    return next(kernel for kernel in KERNELS if kernel.name == name)
