# SPDX-License-Identifier: Apache-2.0
"""Every order in which the CPUs of a program can get ahead, as far as the locks allow."""

from __future__ import annotations

from collections.abc import Iterator

from .machine import Program
from .protocol import FRAMES, Op

Trace = tuple[Op, ...]
SILENT = ("notify", "end")  # nothing happens on another CPU for these


def interleavings(program: Program, commute: bool) -> Iterator[Trace]:
    """All traces of *program*.

    With *commute*, one for each class of traces that differ only in the order of neighbours
    that have nothing to do with each other: the least one.
    """
    last = {op.hold: (cpu, at) for cpu, ops in enumerate(program) for at, op in enumerate(ops)}
    whole = sum(map(len, program))

    def extend(trace: Trace, positions: tuple[int, ...], owners: dict[int, str]) -> Iterator[Trace]:
        if len(trace) == whole:
            yield trace
            return
        for cpu, ops in enumerate(program):
            if positions[cpu] == len(ops):
                continue
            at = positions[cpu]
            op = ops[at]
            if op.hold and owners.get(op.slot, op.hold) != op.hold:
                continue
            if commute and _belongs_earlier(trace, op):
                continue
            now = dict(owners)
            if op.hold:
                now[op.slot] = op.hold
                if last[op.hold] == (cpu, at):
                    del now[op.slot]
            moved = (*positions[:cpu], at + 1, *positions[cpu + 1 :])
            yield from extend((*trace, op), moved, now)

    yield from extend((), (0,) * len(program), {})


def _belongs_earlier(trace: Trace, op: Op) -> bool:
    """Whether *op* could stand before an event of a higher CPU at the end of *trace*."""
    for before in reversed(trace):
        if _depend(before, op):
            return False
        if before.cpu > op.cpu:
            return True
    return False


def _depend(a: Op, b: Op) -> bool:
    if a.cpu == b.cpu:
        return True
    if "task" in (a.ctx, b.ctx) or "luck" in (a.what, b.what):  # it is for every slot
        return a.what not in SILENT and b.what not in SILENT
    return bool(a.hold and b.hold) and a.slot == b.slot


def canonical(trace: Trace) -> Trace:
    """The same trace with CPUs, calls and, per slot, frames renamed in order of appearance."""
    cpus: dict[int, int] = {}
    calls: dict[str, str] = {}
    frames: list[dict[str, str]] = [{}, {}]
    renamed = []
    for op in trace:
        cpu = cpus.setdefault(op.cpu, len(cpus))
        call = calls.setdefault(op.call, str(len(calls)))
        frame = op.frame
        if frame:
            frame = frames[op.slot].setdefault(frame, FRAMES[len(frames[op.slot])])
        hold = call + op.hold[len(op.call) :] if op.hold else ""
        renamed.append(op._replace(cpu=cpu, frame=frame, hold=hold, call=call))
    return tuple(renamed)


def programs_of(trace: Trace, cpus: int) -> Program:
    """What each CPU ran in *trace*, in its order."""
    return tuple(tuple(op for op in trace if op.cpu == cpu) for cpu in range(cpus))
