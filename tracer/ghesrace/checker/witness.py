# SPDX-License-Identifier: Apache-2.0
"""The witness of a finding shows the raw events of two episodes as the race's numbered steps."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ghesrace.checker.core.holds import Episode
from ghesrace.events import Context, Events, Kind
from ghesrace.plan import Plan

from .findings import Step

_TEXT = {
    Kind.NOTIFY: "takes a GHES notification",
    Kind.NOTIFY_END: "leaves the GHES handler",
    Kind.COPY: "enters the copy of the record",
    Kind.COPY_END: "leaves the copy",
    Kind.MAP: "maps {frame} at {slot}",
    Kind.MAP_END: "has mapped {slot}",
    Kind.UNMAP: "unmaps {slot}",
    Kind.UNMAP_END: "has unmapped {slot}",
    Kind.INV_PAGE: "invalidates {slot} in its own TLB",
    Kind.INV_RANGE: "invalidates a range in its own TLB",
    Kind.INV_ALL: "invalidates its own TLB",
    Kind.BCAST_RANGE: "tells all CPUs to invalidate a range",
    Kind.BCAST_ALL: "tells all CPUs to invalidate everything",
    Kind.BCAST_END: "all CPUs have invalidated",
    Kind.READ: "reads {slot}",
    Kind.WRITE: "writes {slot}",
    Kind.NMI_REF: "the NMI handler returned",
}
_HIDDEN = (Kind.NMI_REF, Kind.MAP_END, Kind.UNMAP_END, Kind.COPY_END, Kind.NOTIFY_END)


def steps(
    plan: Plan, x: Episode, x_events: Events, y: Episode, y_events: Events, luck: str | None = None
) -> list[Step]:
    """Return the eight steps for a threat *x* and the episode *y* that it threatens, with the
    events (EVENT) of each.

    *luck* says what happened to save y, and is shown between them.
    """
    slot = plan.slots[y.hold.slot].name
    p = f"{x.frame:#x}"
    result = [s for e in x_events for s in _step("x", e, slot, x, {1: 1, 2: 2, 5: 5})]
    at = next((i for i, s in enumerate(result) if s.n == 5), len(result))
    cpu_y = y.hold.cpu
    result[at:at] = [
        Step("y", 3, None, cpu_y, "any", "running", "runs other kernel code, same page tables"),
        Step(
            "y",
            4,
            None,
            cpu_y,
            "any",
            "fill?",
            f"may load {slot}->{p} into its TLB (not traceable)",
        ),
    ]
    if luck is not None:
        result.append(Step("y", None, None, cpu_y, "any", "luck", luck))
    result += [s for e in y_events for s in _step("y", e, slot, y, {1: 6, 2: 7, 8: 8})]
    if not any(s.n == 8 for s in result):
        at = next((i for i, s in enumerate(result) if s.n == 7), len(result) - 1)
        verb = "writes" if y.writes else "reads"
        context = Context(y.hold.ctx).name.lower()
        text = f"{verb} {slot} (not traced: some time before its unmap)"
        result.insert(at + 1, Step("y", 8, None, cpu_y, context, verb[:-1], text))
    return result


def _step(
    side: Literal["x", "y"], event: np.void, slot: str, episode: Episode, numbers: dict[int, int]
) -> list[Step]:
    kind = Kind(int(event["kind"]))
    if kind in _HIDDEN or kind not in _TEXT:
        return []
    role = {Kind.NOTIFY: 1, Kind.MAP: 2, Kind.UNMAP: 5, Kind.READ: 8, Kind.WRITE: 8}.get(kind, 0)
    if kind == Kind.MAP and int(event["seq"]) != episode.seq_map:
        role = 0
    if kind in (Kind.READ, Kind.WRITE) and int(event["seq"]) != episode.read_seq:
        role = 0
    text = _TEXT[kind].format(slot=slot, frame=f"{int(event['phys']):#x}")
    context = Context(int(event["ctx"])).name.lower()
    n = numbers.get(role)
    return [Step(side, n, int(event["ts"]), int(event["cpu"]), context, kind.name.lower(), text)]
