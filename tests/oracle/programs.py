# SPDX-License-Identifier: Apache-2.0
"""What the CPUs run: every small choice of notifications, frames, nesting and luck."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations_with_replacement, product
from typing import NamedTuple

from .machine import Program
from .protocol import FRAMES, PROTOCOLS, Op, Protocol, notification
from .traces import Trace, canonical, interleavings


class Configuration(NamedTuple):
    """One row of the comparison. `distinct`: the frames are not all the same."""

    protocol: Protocol
    cpus: int
    slots: int
    distinct: bool

    def __str__(self) -> str:
        frames = "frames differ" if self.distinct else "one frame"
        return f"{self.protocol.name}, {self.cpus} CPUs, {self.slots} slots, {frames}"


class Bounds(NamedTuple):
    """How far to go.

    `calls` handler runs of `pages` pages in all at one slot, `calls_of_two` runs at two.
    `luck`: two CPUs' runs also with an unrelated flush anywhere. `order`: two pages at one slot in
    every order; otherwise, as all others, neighbours that commute in one order only.
    """

    calls: int
    pages: int
    calls_of_two: int
    luck: bool
    order: bool


QUICK = Bounds(calls=3, pages=3, calls_of_two=3, luck=False, order=False)
FULL = Bounds(calls=3, pages=4, calls_of_two=4, luck=True, order=True)

CONFIGURATIONS = tuple(
    Configuration(*choice) for choice in product(PROTOCOLS, (2, 3), (1, 2), (False, True))
)


def traces(config: Configuration, bounds: Bounds) -> Iterator[Trace]:
    """Every trace of *config* within *bounds*, once up to the names of CPUs and frames."""
    known: set[Trace] = set()
    for program, commute in _programs(config, bounds):
        for trace in interleavings(program, commute):
            name = canonical(trace)
            if name not in known:
                known.add(name)
                yield name


def _programs(config: Configuration, bounds: Bounds) -> Iterator[tuple[Program, bool]]:
    if config.slots == 1:
        for calls in range(1, bounds.calls + 1):
            for program in _one_slot(config, calls, bounds.pages):
                few = sum(op.what == "map" for ops in program for op in ops) <= 2
                yield program, not (bounds.order and few)
        if bounds.luck and config.distinct:  # with one frame there is nothing to save
            bare = not config.protocol.on_map and config.protocol.on_unmap == "local"
            for program in _one_slot(config, 2, 3 if bare else 2):
                if sum(map(bool, program)) == 2:
                    for lucky in _with_luck(program):
                        yield lucky, True
    else:
        for irqs, nmis in ((1, 1), (2, 1), (1, 2), (2, 2)):
            if irqs + nmis <= bounds.calls_of_two:
                for program in _two_slots(config, irqs, nmis):
                    yield program, True


def _names(count: int, most: int) -> Iterator[tuple[int, ...]]:
    """Every way to give *count* things names 0, 1, ..., in order of appearance, up to *most*."""
    if not count:
        yield ()
        return
    for names in _names(count - 1, most):
        for name in range(min(max(names, default=-1) + 2, most)):
            yield (*names, name)


def _frames(count: int, distinct: bool) -> Iterator[str]:
    for names in _names(count, len(FRAMES)):
        if distinct == (len(set(names)) > 1):
            yield "".join(FRAMES[name] for name in names)


def _placements(calls: int, config: Configuration) -> Iterator[tuple[int, ...]]:
    """On which CPU each call runs: on one alone, or on every CPU of the configuration."""
    for cpus in _names(calls, config.cpus):
        if len(set(cpus)) in (1, config.cpus):
            yield cpus


def _split(text: str, lengths: Iterable[int]) -> list[str]:
    parts, at = [], 0
    for length in lengths:
        parts.append(text[at : at + length])
        at += length
    return parts


def _one_slot(config: Configuration, calls: int, pages: int) -> Iterator[Program]:
    for lengths in product((1, 2), repeat=calls):
        if sum(lengths) > pages:
            continue
        for frames in _frames(sum(lengths), config.distinct):
            for cpus in _placements(calls, config):
                runs: list[tuple[Op, ...]] = [()] * config.cpus
                for call, (cpu, mapped) in enumerate(
                    zip(cpus, _split(frames, lengths), strict=True)
                ):
                    runs[cpu] += notification(config.protocol, cpu, 0, mapped, f"c{call}")
                yield tuple(runs)


def _with_luck(program: Program) -> Iterator[Program]:
    """*program* with one flush of everything: in an NMI, or in the task on any CPU.

    The task's next event, which shows that its flush is done, comes at any later time or
    not at all.
    """
    for cpu, ops in enumerate(program):
        idle = [at for at in range(len(ops) + 1) if at == len(ops) or ops[at].what == "notify"]
        new = [
            (*ops[:at], Op(cpu, "luck", "nmi", call="luck"), *ops[at:])
            for at in range(len(ops) + 1)
            if at not in idle
        ]
        luck, tick = Op(cpu, "luck", "task", call="task"), Op(cpu, "tick", "task", call="task")
        new += [(*ops[:at], luck, *ops[at:]) for at in idle]
        new += [
            (*ops[:at], luck, *ops[at:after], tick, *ops[after:])
            for at, after in combinations_with_replacement(idle, 2)
        ]
        for lucky in new:
            yield (*program[:cpu], lucky, *program[cpu + 1 :])


def _two_slots(config: Configuration, irqs: int, nmis: int) -> Iterator[Program]:
    """IRQs at slot 0 and NMIs at slot 1, each NMI between the IRQs or inside one."""
    frames_0, frames_1 = (
        [*_frames(calls, False), *(_frames(calls, True) if config.distinct else ())]
        for calls in (irqs, nmis)
    )
    for cpus in product(range(config.cpus), repeat=irqs + nmis):
        if len(set(cpus)) not in (1, config.cpus):
            continue
        for irq_frames, nmi_frames in product(frames_0, frames_1):
            kinds = len(set(irq_frames)), len(set(nmi_frames))
            if config.distinct and kinds == (1, 1):
                continue
            if irqs + nmis == 4 and (kinds != (2, 2) or config.cpus > 2):
                continue  # three runs show all that needs another CPU or the same frame
            runs: list[tuple[Op, ...]] = [()] * config.cpus
            for call, (cpu, frame) in enumerate(zip(cpus[:irqs], irq_frames, strict=True)):
                runs[cpu] += notification(config.protocol, cpu, 0, frame, f"i{call}")
            programs = [tuple(runs)]
            for call, (cpu, frame) in enumerate(zip(cpus[irqs:], nmi_frames, strict=True)):
                nmi = notification(config.protocol, cpu, 1, frame, f"n{call}")
                programs = [
                    (*p[:cpu], (*p[cpu][:at], *nmi, *p[cpu][at:]), *p[cpu + 1 :])
                    for p in programs
                    for at in range(len(p[cpu]) + 1)
                    if not _in_nmi(p[cpu], at)
                ]
            yield from programs


def _in_nmi(ops: tuple[Op, ...], at: int) -> bool:
    """Whether an operation before *ops*[*at*] is one of an NMI that has not ended."""
    return 0 < at < len(ops) and ops[at - 1].ctx == "nmi" and ops[at - 1].what != "end"
