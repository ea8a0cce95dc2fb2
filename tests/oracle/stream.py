# SPDX-License-Identifier: Apache-2.0
"""A trace as the checker gets it: a plan and an array of events."""

from __future__ import annotations

from dataclasses import replace

from ghesrace.events import NO_POINT, NO_SLOT, PAGE_SIZE, Context, Events, Kind, empty, mark
from ghesrace.plan import Plan, Probe, Slot

from .protocol import FRAMES, Op, Protocol
from .traces import Trace

STEP = 10_000  # ns between events: ten times the clock error
ADDRESSES = (0xFFFFFFFFFF57B000, 0xFFFFFFFFFF57C000)
KINDS = {
    "notify": Kind.NOTIFY,
    "map": Kind.MAP,
    "flush": Kind.INV_PAGE,
    "read": Kind.READ,
    "unmap": Kind.UNMAP,
    "bcast": Kind.BCAST_RANGE,
    "bcast_end": Kind.BCAST_END,
    "end": Kind.NOTIFY_END,
    "luck": Kind.INV_ALL,
    "tick": Kind.NMI_REF,
}
POINTS = sorted(set(KINDS.values()))


def plan(protocol: Protocol, cpus: int, slots: int) -> Plan:
    """The plan of a kernel that runs *protocol*, in which everything is traced."""
    probes = [Probe(kind.name.lower(), kind.name, "f", "kprobe") for kind in POINTS]
    if protocol.on_unmap == "implied":
        at = POINTS.index(Kind.UNMAP)
        probes[at] = replace(probes[at], implies=("broadcast-after-clear",))
    names = ("irq", "nmi")[:slots]
    return Plan(
        "x86_64",
        "oracle",
        tuple(Slot(n, i, ADDRESSES[i], protocol.locks[i]) for i, n in enumerate(names)),
        tuple(probes),
        cpus=tuple(range(cpus)),
    )


def frame(name: str) -> int:
    """The physical address (bytes) of a frame's letter."""
    return 0x70000000 + FRAMES.index(name) * PAGE_SIZE


def stamp(number: int) -> int:
    """The stamp (ns) of the event at *number* of a trace."""
    return 1_000_000 + number * STEP


def stream(trace: Trace) -> Events:
    """The events of *trace* in its order, closed by a MARK."""
    events = empty(len(trace))
    for number, op in enumerate(trace):
        kind = KINDS[op.what]
        event = events[number]
        event["ts"], event["seq"] = stamp(number), number + 1
        event["cpu"], event["pid"] = op.cpu, 100 + op.cpu
        event["kind"], event["ctx"] = kind, Context[op.ctx.upper()]
        event["point"] = POINTS.index(kind) if kind in POINTS else NO_POINT
        event["slot"] = op.slot if op.what in ("map", "unmap") else NO_SLOT
        _fill(event, op)
    return _closed(events, stamp(len(trace)))


def _fill(event: Events, op: Op) -> None:
    """The fields that only some kinds have."""
    address = ADDRESSES[op.slot]
    if op.what == "map":
        event["phys"] = frame(op.frame)
    elif op.what in ("flush", "bcast"):
        event["addr"], event["size"] = address, PAGE_SIZE
    elif op.what == "read":
        event["addr"], event["size"] = address + 16, 4


def _closed(events: Events, end: int) -> Events:
    whole = empty(len(events) + 1)
    whole[:-1], whole[-1:] = events, mark(end)
    return whole
