# SPDX-License-Identifier: Apache-2.0
"""One world as plain data, drawn by a mode and a seed, and what becomes of it.

A world holds everything that was drawn, so that `shrink` can take things away: each task has
its own dice. The same world always gives the same recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random

from ghesrace.events import Cause, Context, Kind
from ghesrace.plan import Plan

from . import truth
from .kernel import FRAMES, IRQ, KERNELS, NMI, Kernel, Task
from .machine import History, Machine
from .tracer import Clock, Loss, Name, Recording, guarded, record

MODES = ("plain", "order", "start", "loss", "many", "unrecorded", "pairs")
APART = 100_000  # ns between the tasks of a plain world
ROUNDING = 4  # whole ns: a read is never off by more than the error


@dataclass(frozen=True, slots=True)
class World:
    """Everything that was drawn. Times in ns; `pace`: how long a step takes, at least and most.

    `told`: losses leave records of themselves. `online`: CPUs that the plan names (None: all).
    `pairs`: the plan knows how far the clocks of these pairs of CPUs differ at most.
    """

    mode: str
    seed: int
    kernel: Kernel
    cpus: int
    tasks: tuple[Task, ...]
    error: int
    clocks: tuple[Clock, ...]
    pace: tuple[int, int]
    start: int | None = None
    losses: tuple[Loss, ...] = ()
    told: bool = True
    online: tuple[int, ...] | None = None
    pairs: tuple[tuple[int, int], ...] = ()

    def plan(self) -> Plan:
        """What the checker is told of the kernel."""
        return self.plan_of(range(self.cpus))

    def plan_of(self, names: Sequence[int]) -> Plan:
        """The same, if CPU c is called names[c]."""
        online = self.online
        if online is not None:
            online = tuple(sorted(names[cpu] for cpu in online))
        plan = self.kernel.plan(self.cpus, self.error, online)
        errors = []
        for one, other in self.pairs:
            (low, high), (least, most) = self.clocks[one].range, self.clocks[other].range
            x, y = sorted((names[one], names[other]))
            errors.append((x, y, max(high - least, most - low) + ROUNDING))
        return replace(plan, pair_errors_ns=tuple(sorted(errors)))


@dataclass(slots=True)
class Played:
    """A world that was run: what happened, what was recorded, what was really safe."""

    world: World
    history: History
    recording: Recording
    episodes: list[truth.Episode]


def gaps(pace: tuple[int, int]) -> Callable[[Random], int]:
    """How long a step takes: log-uniform between the bounds of *pace*, whole ns."""
    low, high = pace
    ratio = high / low
    return lambda dice: int(low * ratio ** dice.random()) if ratio > 1 else low


def happen(world: World) -> History:
    """What happens in *world*, in true time."""
    return Machine(world.kernel, world.cpus, world.tasks, gaps(world.pace)).run()


def play(world: World, history: History | None = None) -> Played:
    """Run *world*, record it, and tell what was safe."""
    history = history or happen(world)
    recording = record(
        history,
        world.plan(),
        world.clocks,
        start=world.start,
        losses=world.losses,
        told=world.told,
    )
    early = frozenset(maps(history, recording.early))
    return Played(world, history, recording, truth.told(history, early))


def maps(history: History, names: set[Name]) -> set[tuple[int, int]]:
    """The episodes (task, page) whose map is among the records *names*."""
    return {
        (row.task, row.op.page)
        for buffer in history.buffers
        for row in buffer
        if row.op.kind == Kind.MAP and (row.task, row.step) in names
    }


# -- drawing one ---------------------------------------------------------------------------


def draw(mode: str, seed: int) -> World:
    """The world of *mode* and *seed*. Raises ValueError for an unknown mode."""
    if mode not in MODES:
        raise ValueError(f"{mode!r} is none of {', '.join(MODES)}")
    dice = Random(f"{mode} {seed}")
    if mode == "plain":
        return _plain(dice, seed, dice.choice([k for k in KERNELS if k.certain]))
    kernel = dice.choice(KERNELS)
    if seed % 2:
        kernel = kernel.read()
    cpus = dice.choice((8, 16, 64)) if mode == "many" else dice.choice((2, 2, 3, 4))
    error = dice.choice((0, 50, 300, 1000, 1000, 5000))
    pace = dice.choice(((1, 30), (5, 300), (20, 2000)))
    spread = dice.choice((100, 1000, 5000, 20_000))
    count = dice.randint(2, 9) if mode != "many" else dice.randint(6, 30)
    busy = [dice.randrange(cpus) for _ in range(dice.randint(2, 4))] if dice.random() < 0.5 else ()
    frames = FRAMES[: dice.choice((1, 2, 2, 3, 4))]
    tasks = tuple(
        _task(dice, kernel, cpus, busy, frames, dice.randrange(count * spread))
        for _ in range(count)
    )
    clocks = tuple(_clock(dice, error) for _ in range(cpus))
    world = World(mode, seed, kernel, cpus, tasks, error, clocks, pace)
    if mode == "pairs":
        world = _paired(dice, world)
    if dice.random() < 0.4:
        world = _hit(dice, world, frames)
    if mode in ("order", "pairs"):
        return world
    history = happen(world)
    if mode == "start" or dice.random() < 0.2:
        world = replace(world, start=dice.randrange(history.end + 1))
    if mode in ("loss", "unrecorded") or (mode == "many" and dice.random() < 0.6):
        world = _lossy(dice, world, history)
    return replace(world, told=mode != "unrecorded")


def _hit(dice: Random, world: World, frames: tuple[int, ...]) -> World:
    """*world* with an NMI that lands in a probe, between its record's place and its clock."""
    rows = [
        row
        for buffer in happen(world).buffers
        for row in buffer
        if row.ctx != Context.NMI and row.task >= 0
    ]
    if not rows:
        return world
    row = dice.choice(rows)
    luck = "" if world.kernel.arch == "arm64" or dice.random() < 0.6 else "inv-all"
    copies = ((dice.choice(frames),),)
    seed = dice.randrange(2**32)
    if luck:
        nmi = Task(row.place + 1, row.cpu, Context.NMI, luck, seed)
    else:
        nmi = Task(row.place + 1, row.cpu, Context.NMI, "report", seed, NMI, copies)
    return replace(world, tasks=(*world.tasks, nmi))


def _plain(dice: Random, seed: int, kernel: Kernel) -> World:
    """Nothing is open: one thing after the other, far apart, no loss."""
    cpus, error = dice.choice((2, 3, 4)), dice.choice((0, 100, 1000))
    frames = FRAMES[: dice.choice((1, 2, 3))]
    tasks = tuple(
        replace(_task(dice, kernel, cpus, (), frames, i * APART), followed=True, within="")
        for i in range(dice.randint(3, 9))
    )
    # An answer to an IPI is luck of its own, and nothing tells when it is over.
    tasks = tuple(replace(t, what="tell") if t.what == "bcast" else t for t in tasks)
    clocks = tuple(_clock(dice, error) for _ in range(cpus))
    return World("plain", seed, kernel, cpus, tasks, error, clocks, (1, 200))


def _paired(dice: Random, world: World) -> World:
    """*world* with CPUs of two sockets or more, whose clocks agree well within each, and a plan
    that knows how far the clocks of most pairs differ."""
    most = max(world.error - ROUNDING, 0)
    sockets = [dice.randint(0, most) for _ in range(dice.choice((1, 2, 3)))]
    clocks = []
    for _ in range(world.cpus):
        offset = min(dice.choice(sockets) + dice.choice((0, 0, 10, 100)), most)
        clocks.append(Clock(offset, dice.choice((0, 10_000)), min(offset + 20, most)))
    pairs = [p for p in combinations(range(world.cpus), 2) if dice.random() < 0.7]
    return replace(world, clocks=tuple(clocks), pairs=tuple(pairs))


def _clock(dice: Random, error: int) -> Clock:
    most = max(error - ROUNDING, 0)
    offset = dice.choice((0, most, dice.randint(0, most)))
    return Clock(offset, dice.choice((0, 0, 10_000, 100_000)) if error >= 50 else 0, most)


def _task(
    dice: Random, kernel: Kernel, cpus: int, busy: list[int] | tuple[()], frames: tuple[int, ...],
    at: int,
) -> Task:  # fmt: skip
    cpu = dice.choice(busy) if busy else dice.randrange(cpus)
    seed = dice.randrange(2**32)
    what = "report"
    # On arm64 TLBI is an inline instruction: luck can't be seen, so there is none.
    if dice.random() < 0.3:
        what = dice.choice(
            ("inv-all", "inv-all", "inv-range", "inv-other", "bcast", "tell", "edit")
        )
        if kernel.arch == "arm64" or (what == "bcast" and cpus > 4):
            what = "edit"
    if what != "report":
        contexts = (Context.TASK,) if what in ("bcast", "edit", "tell") else tuple(Context)
        return Task(at, cpu, dice.choice(contexts), what, seed)
    ctx = dice.choice((Context.TASK, Context.SOFTIRQ, Context.IRQ, Context.IRQ, Context.NMI))
    copies = tuple(
        tuple(dice.choice(frames) for _ in range(dice.choice((1, 1, 1, 2, 3))))
        for _ in range(dice.choice((1, 1, 1, 2)))
    )
    slot = NMI if ctx == Context.NMI else IRQ
    writes = dice.random() < 0.3
    within = dice.choice(("inv-all", "inv-range", "tell")) if dice.random() < 0.1 else ""
    within = "" if kernel.arch == "arm64" else within
    return Task(at, cpu, ctx, what, seed, slot, copies, writes, within)


# -- losses ----------------------------------------------------------------------------------


def _lossy(dice: Random, world: World, history: History) -> World:
    losses: list[Loss] = []
    online = None
    for _ in range(dice.choice((1, 1, 2))):
        cause = dice.choice(
            (Cause.OVERRUN, Cause.DROPPED, Cause.MISSED, Cause.MISSED, Cause.NMI_UNMATCHED)
            + ((Cause.CPU_ONLINE,) if online is None else ())
        )
        busy = [buffer for buffer in history.buffers if buffer]
        if not busy:
            continue
        buffer = dice.choice(busy)
        names = [(row.task, row.step) for row in buffer]
        counted, wide = dice.random() < 0.7, dice.choice((50, 2000, 100_000))
        if cause == Cause.OVERRUN:
            first = dice.randrange(len(names))
            length = dice.choice((1, 2, 3, 5, 10, 30))
            gone = names[first : first + length]
        elif cause == Cause.CPU_ONLINE:
            gone = names[: dice.randint(1, len(names))]
            cpu = buffer[0].cpu
            online = tuple(c for c in range(world.cpus) if c != cpu)
        elif cause == Cause.DROPPED:
            gone = dice.sample(names, min(len(names), dice.choice((1, 1, 2, 3))))
        elif cause == Cause.MISSED:
            gone = _skipped(dice, history)
        else:
            gone = _skipped_handler(dice, history)
        whole = cause == Cause.MISSED and dice.random() < 0.5
        named = cause == Cause.MISSED and dice.random() < 0.3
        if gone:
            losses.append(Loss(cause, tuple(gone), wide, counted, whole, named))
    return replace(world, losses=tuple(losses), online=online)


def _skipped(dice: Random, history: History) -> list[Name]:
    """Single hits of one probe that the kernel skipped, of one CPU, none twice in one task."""
    buffer = dice.choice([buffer for buffer in history.buffers if buffer])
    kind = dice.choice(buffer).op.kind
    of_kind = [row for row in buffer if row.op.kind == kind and row.task >= 0]
    chosen: dict[int, Name] = {}
    for row in dice.sample(of_kind, min(len(of_kind), dice.choice((1, 1, 2)))):
        chosen[row.task] = (row.task, row.step)
    return list(chosen.values())


def _skipped_handler(dice: Random, history: History) -> list[Name]:
    """All kprobe hits of one NMI handler that landed, or might have, in another probe."""
    hit = guarded(history)
    if hit and dice.random() < 0.7:
        return hit[dice.choice(sorted(hit))]
    nmis: dict[int, list[Name]] = {}
    for buffer in history.buffers:
        for row in buffer:
            if row.ctx == Context.NMI and row.op.kind != Kind.NMI_REF:
                nmis.setdefault(row.task, []).append((row.task, row.step))
    return nmis[dice.choice(sorted(nmis))] if nmis else []
