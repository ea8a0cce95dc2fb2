# SPDX-License-Identifier: Apache-2.0
"""Makes a world smaller as long as the same is wrong with it: fewer tasks, pages, losses and
CPUs, equal clocks, round times. What a person can read is the aim, not the least number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ghesrace.events import Context

from .judge import MANY_CUTS, TURNS, Engine, judge
from .kernel import FRAMES, KERNELS, Kernel, Op, Task
from .machine import answer_of, asked_by
from .tracer import Clock, Loss, Name
from .world import World, play

MOST_TRIES = 400
MOST_SECONDS = 25.0  # of this process
ROUND = 10_000  # ns: what a litmus case's line takes
_TURNS = {
    "cut": (*TURNS[:1], MANY_CUTS),
    "numbers": TURNS[1:2],
    "time": TURNS[2:3],
}


def shrink(world: World, kind: str, engine: Any = Engine, tries: int = MOST_TRIES) -> World:
    """A small world of which *engine* says something wrong of the same *kind* as of *world*.

    Returns *world* itself if it does not show *kind* at all.
    """
    turns = _TURNS.get(kind.rpartition("-")[2], ())

    def wrong(one: World) -> bool:
        try:
            return any(d.kind == kind for d in judge(play(one), engine, turns))
        except (AssertionError, StopIteration, IndexError, ValueError):
            return False  # no world: a task that was cut in two

    if not wrong(world):
        return world
    left = [tries]
    until = time.process_time() + MOST_SECONDS

    def smaller(one: World) -> World:
        for make in _STEPS:
            changed = True
            while changed and left[0] > 0 and time.process_time() < until:
                changed = False
                for candidate in make(one):
                    if candidate == one or left[0] <= 0 or time.process_time() > until:
                        continue
                    left[0] -= 1
                    if wrong(candidate):
                        one, changed = candidate, True
                        break
        return one

    before = None
    while before != world and left[0] > 0 and time.process_time() < until:
        before, world = world, smaller(world)
    return world


# -- what can be taken away ------------------------------------------------------------------


def _without_tasks(world: World) -> Iterator[World]:
    n = len(world.tasks)
    for size in (n // 2, n // 4, 1):
        for first in range(0, n, size) if size else ():
            gone = set(range(first, min(first + size, n)))
            if len(gone) < n:
                yield _keep(world, [i for i in range(n) if i not in gone])


def _keep(world: World, kept: list[int]) -> World:
    at = {old: new for new, old in enumerate(kept)}

    def name(one: Name) -> Name | None:
        if one[0] >= 0:
            return (at[one[0]], one[1]) if one[0] in at else None
        task, cpu = asked_by(one[0])
        return (answer_of(at[task], cpu), one[1]) if task in at else None

    return replace(_renamed(world, name), tasks=tuple(world.tasks[i] for i in kept))


def _renamed(world: World, name: Callable[[Name], Name | None]) -> World:
    losses = []
    for loss in world.losses:
        gone = tuple(new for new in map(name, loss.gone) if new is not None)
        if gone:
            losses.append(replace(loss, gone=gone))
    return replace(world, losses=tuple(losses))


def _without_pages(world: World) -> Iterator[World]:
    for number, task in enumerate(world.tasks):
        if task.what != "report":
            continue
        page = 0
        for copy, frames in enumerate(task.copies):
            if len(task.copies) > 1:
                copies = task.copies[:copy] + task.copies[copy + 1 :]
                yield _with(
                    world,
                    number,
                    replace(task, copies=copies),
                    set(range(page, page + len(frames))),
                )
            for i in range(len(frames)):
                if len(frames) > 1:
                    rest = frames[:i] + frames[i + 1 :]
                    copies = (*task.copies[:copy], rest, *task.copies[copy + 1 :])
                    yield _with(world, number, replace(task, copies=copies), {page + i})
            page += len(frames)


def _with(world: World, number: int, task: Task, gone: set[int]) -> World:
    """*world* with another task of that *number*, which lacks the pages *gone*."""
    tasks = (*world.tasks[:number], task, *world.tasks[number + 1 :])
    steps = _steps(world.kernel.ops(world.tasks[number]), world.kernel.ops(task), gone)

    def name(one: Name) -> Name | None:
        if one[0] != number:
            return one
        return (number, steps[one[1]]) if one[1] in steps else None

    return replace(_renamed(world, name), tasks=tasks)


def _steps(old: list[Op], new: list[Op], gone: set[int]) -> dict[int, int]:
    """Where each step of *old* stands in *new*, from which the pages *gone* were taken."""

    def keys(ops: list[Op], pages: dict[int, int]) -> list[tuple[Any, ...]]:
        seen: dict[tuple[Any, ...], int] = {}
        found = []
        for op in ops:
            key = (op.kind, op.does, pages.get(op.page, op.page), op.part)
            seen[key] = seen.get(key, 0) + 1
            found.append((*key, seen[key]))
        return found

    most = max((op.page for op in old), default=-1)
    pages = {p: -2 if p in gone else p - sum(g < p for g in gone) for p in range(most + 1)}
    where = {key: step for step, key in enumerate(keys(new, {}))}
    moved = {step: where.get(key) for step, key in enumerate(keys(old, pages))}
    return {step: at for step, at in moved.items() if at is not None}


def _without_losses(world: World) -> Iterator[World]:
    for i, loss in enumerate(world.losses):
        rest = (*world.losses[:i], *world.losses[i + 1 :])
        yield replace(world, losses=rest, online=None if len(rest) == 0 else world.online)
        if len(loss.gone) > 1:
            for j in range(len(loss.gone)):
                gone = loss.gone[:j] + loss.gone[j + 1 :]
                yield _loss(world, i, replace(loss, gone=gone))
        if not loss.counted:
            yield _loss(world, i, replace(loss, counted=True))
        if loss.whole:
            yield _loss(world, i, replace(loss, whole=False))
        if not loss.named:
            yield _loss(world, i, replace(loss, named=True))


def _loss(world: World, i: int, loss: Loss) -> World:
    return replace(world, losses=(*world.losses[:i], loss, *world.losses[i + 1 :]))


def _plainer(world: World) -> Iterator[World]:
    if world.start is not None:
        yield replace(world, start=None)
    if world.online is not None:
        yield replace(world, online=None)
    for pair in world.pairs:
        yield replace(world, pairs=tuple(p for p in world.pairs if p != pair))
    yield replace(world, clocks=tuple(Clock() for _ in world.clocks))
    if any(clock.drift for clock in world.clocks):
        yield replace(world, clocks=tuple(Clock(c.offset, 0, c.most) for c in world.clocks))
    for i, task in enumerate(world.tasks):
        if task.within:
            yield _with(world, i, replace(task, within=""), set())
        if task.writes:
            yield _with(world, i, replace(task, writes=False), set())
        if task.ctx in (Context.TASK, Context.SOFTIRQ) and task.what == "report":
            yield _with(world, i, replace(task, ctx=Context.IRQ), set())
        if task.what in ("inv-range", "bcast", "tell"):
            yield _with(world, i, replace(task, what="inv-all"), set())


def _rounder(world: World) -> Iterator[World]:
    """All steps take equally long, and tasks come at round times."""
    for pace in ((ROUND, ROUND), (1000, 1000), (100, 100), (10, 10)):
        if world.pace == pace:
            break
        scaled = replace(world, pace=pace)
        yield replace(scaled, tasks=tuple(_one_by_one(world, pace[0])), clocks=_zero(world))
        yield replace(scaled, tasks=tuple(_one_by_one(world, pace[0])))
        yield replace(scaled, clocks=_zero(world))
        yield scaled
    for error in (1000, 0):
        if world.error != error:
            most = max(error - 4, 0)
            clocks = tuple(
                Clock(min(c.offset, most) if c.offset != c.most else most, 0, most)
                for c in world.clocks
            )
            yield replace(world, error=error, clocks=clocks)
    for unit in (ROUND, 1000, 100):
        rounded = tuple(replace(t, at=round(t.at / unit) * unit) for t in world.tasks)
        yield replace(world, tasks=rounded)
        for i in range(len(world.tasks)):
            yield replace(world, tasks=(*world.tasks[:i], rounded[i], *world.tasks[i + 1 :]))


def _zero(world: World) -> tuple[Clock, ...]:
    return tuple(Clock() for _ in world.clocks)


def _one_by_one(world: World, step: int) -> Iterator[Task]:
    """The tasks in their order, each when the one before it is over."""
    now = 0
    for task in sorted(world.tasks, key=lambda t: t.at):
        yield replace(task, at=now)
        now += step * 4 * len(world.kernel.ops(task))


def _fewer_names(world: World) -> Iterator[World]:
    """CPUs and frames by the first numbers and letters."""
    cpus = sorted({task.cpu for task in world.tasks})
    if cpus != list(range(world.cpus)):
        at = {cpu: i for i, cpu in enumerate(cpus)}

        def name(one: Name) -> Name | None:
            if one[0] >= 0:
                return one
            task, cpu = asked_by(one[0])
            return (answer_of(task, at[cpu]), one[1]) if cpu in at else None

        made = replace(
            _renamed(world, name),
            cpus=len(cpus),
            tasks=tuple(replace(task, cpu=at[task.cpu]) for task in world.tasks),
            clocks=tuple(world.clocks[cpu] for cpu in cpus),
            pairs=tuple((at[x], at[y]) for x, y in world.pairs if x in at and y in at),
            online=None if world.online is None
            else tuple(at[c] for c in world.online if c in at),
        )  # fmt: skip
        if world.kernel.fixed is None:
            yield made
    frames: list[int] = []
    for task in world.tasks:
        frames += [f for copy in task.copies for f in copy if f not in frames]
    if frames != list(FRAMES[: len(frames)]):
        to = dict(zip(frames, FRAMES, strict=False))
        yield replace(
            world,
            tasks=tuple(
                replace(t, copies=tuple(tuple(to[f] for f in copy) for copy in t.copies))
                for t in world.tasks
            ),
        )


def _plainer_kernels(world: World) -> Iterator[World]:
    """The same with fewer probes, or of a kernel that a reader knows better."""
    kernel = world.kernel
    for other in (
        *KERNELS[:1],
        replace(kernel, ends=False, late_flush=False),
        replace(kernel, reference=False),
        replace(kernel, locks=("report", "report")),
        replace(kernel, accesses=True),
        replace(kernel, inside=False),
    ):
        if other != kernel:
            yield _on(world, other)


def _on(world: World, kernel: Kernel) -> World:
    steps = [_steps(world.kernel.ops(task), kernel.ops(task), set()) for task in world.tasks]

    def name(one: Name) -> Name | None:
        if one[0] < 0:
            return one
        return (one[0], steps[one[0]][one[1]]) if one[1] in steps[one[0]] else None

    return replace(_renamed(world, name), kernel=kernel)


_STEPS = (
    _without_tasks,
    _without_losses,
    _without_pages,
    _plainer,
    _rounder,
    _plainer_kernels,
    _fewer_names,
)
