# SPDX-License-Identifier: Apache-2.0
"""Whether the witness of a finding, taken as the record of its own order, is stale."""

from __future__ import annotations

from typing import Protocol

from ghesrace.events import Context, Kind

from .judge import judge
from .kernel import COPIES, PROTOCOLS, RETURNS, frame, plan
from .record import Ev, Record

_KINDS = {
    "map": Kind.MAP,
    "inv_page": Kind.INV_PAGE,
    "read": Kind.READ,
    "write": Kind.READ,
    "unmap": Kind.UNMAP,
}


class Step(Protocol):
    """One line of a witness (`checker.findings.Step`)."""

    side: str
    context: str
    event: str


def reaches_stale(steps: list[Step]) -> bool:
    """Whether *steps*, one after the other on two CPUs, end in an access that is `none`.

    Each side has a frame of its own. For traces of real kernels too: what is neither a map, an
    access, an unmap nor a flush of V is left out.
    """
    base = plan(PROTOCOLS[0], 2, 1, (*RETURNS, *COPIES))
    cpus: dict[int, list[Ev]] = {0: [], 1: []}
    now = 1_000_000
    for step in steps:
        if step.event not in _KINDS or step.context == "any":
            continue
        kind, cpu = _KINDS[step.event], 0 if step.side == "x" else 1
        now += 10_000
        event = Ev(cpu, int(Context.IRQ), int(kind), now, now)
        event.addr = base.slots[0].address or 0
        if kind in (Kind.MAP, Kind.UNMAP, Kind.READ):
            event.slot = 0
        if kind == Kind.MAP:
            event.frame = frame("A" if step.side == "x" else "B")
        cpus[cpu].append(event)
    answers = [one for one in judge(Record(base, cpus)).episodes if one.cpu == 1]
    return bool(answers) and answers[-1].word == "none"
