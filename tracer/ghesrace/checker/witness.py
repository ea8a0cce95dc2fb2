# SPDX-License-Identifier: Apache-2.0
"""The witness of a finding shows the raw events of two episodes as the race's numbered steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ghesrace.events import NEVER, Context, Events, Kind, empty
from ghesrace.plan import Plan

from .findings import Step
from .model import Mark, Table

EpisodeKey = tuple[int, int, int]  # cpu, context, position of the map: names an episode

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
_MOST_EVENTS = 64
_HIDDEN = (Kind.NMI_REF, Kind.MAP_END, Kind.UNMAP_END, Kind.COPY_END, Kind.NOTIFY_END)


def episode_key(row: np.void) -> EpisodeKey:
    """Return the name of an episode (a row of EPISODE): its CPU, context and map's position."""
    return int(row["cpu"]), int(row["ctx"]), int(row["seq_map"])


@dataclass(slots=True)
class EventStore:
    """A store finds the events of episodes in the chunk at hand, and keeps those of the episodes
    that `keep` names.

        store = EventStore(chunk.events)
        store.keep(witnesses)
        store.of(episode)
    """

    events: Events = field(default_factory=empty)  # sorted by (cpu, seq)
    kept: dict[EpisodeKey, Events] = field(default_factory=dict)

    def of(self, row: np.void) -> Events:
        """Return the events (EVENT) of an episode's CPU and context, from its notification to its
        close, but at most 64."""
        if episode_key(row) in self.kept:
            return self.kept[episode_key(row)]
        cpu = slice(*np.searchsorted(self.events["cpu"], [int(row["cpu"]), int(row["cpu"]) + 1]))
        mine = self.events[cpu]
        end = row["seq_close"] if row["seq_close"] != NEVER else max(row["seq_map"] + 64, 0)
        span = slice(
            *np.searchsorted(mine["seq"], np.array([row["seq_entry"], end + 1]).astype(np.uint64))
        )
        found = mine[span]
        found = found[found["ctx"] == row["ctx"]]
        before = found["seq"] < np.uint64(row["seq_map"])
        # Of what precedes the map, the notification and the last event are enough. The end of
        # another page's unmap is left out, as in another order it may be long ago.
        wanted = ~before
        opening = np.flatnonzero(before)
        wanted[opening[:1]] = True
        begun = np.flatnonzero(np.isin(found["kind"][opening], (Kind.NOTIFY, Kind.COPY)))
        ended = np.flatnonzero(found["kind"][opening] == Kind.UNMAP)
        if begun.max(initial=-1) >= ended.max(initial=-1):
            wanted[opening[-1:]] = True
        # A foreign file can claim any number of events for one episode.
        return np.asarray(found[wanted][:_MOST_EVENTS])

    def keep(self, rows: Table) -> None:
        """Remember the events of these episodes, and forget all others."""
        self.kept = {episode_key(row): self.of(row).copy() for row in rows}


def steps(
    plan: Plan, x: np.void, x_events: Events, y: np.void, y_events: Events, luck: str | None = None
) -> list[Step]:
    """Return the eight steps for a threat *x* and the episode *y* that it threatens, both rows of
    EPISODE, with the events (EVENT) of each.

    *luck* says what happened to save y, and is shown between them.
    """
    slot = plan.slots[int(y["slot"])].name
    p = f"{int(x['frame']):#x}"
    result = [s for e in x_events for s in _step("x", e, slot, x, {1: 1, 2: 2, 5: 5})]
    at = next((i for i, s in enumerate(result) if s.n == 5), len(result))
    cpu_y = int(y["cpu"])
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
        verb = "writes" if y["marks"] & Mark.WRITE else "reads"
        context = Context(int(y["ctx"])).name.lower()
        text = f"{verb} {slot} (not traced: some time before its unmap)"
        result.insert(at + 1, Step("y", 8, None, cpu_y, context, verb[:-1], text))
    return result


def _step(
    side: Literal["x", "y"], event: np.void, slot: str, row: np.void, numbers: dict[int, int]
) -> list[Step]:
    kind = Kind(int(event["kind"]))
    if kind in _HIDDEN or kind not in _TEXT:
        return []
    role = {Kind.NOTIFY: 1, Kind.MAP: 2, Kind.UNMAP: 5, Kind.READ: 8, Kind.WRITE: 8}.get(kind)
    if kind == Kind.MAP and int(event["seq"]) != int(row["seq_map"]):
        role = None
    if kind in (Kind.READ, Kind.WRITE) and int(event["seq"]) != int(row["seq_read"]):
        role = None
    text = _TEXT[kind].format(slot=slot, frame=f"{int(event['phys']):#x}")
    context = Context(int(event["ctx"])).name.lower()
    n = numbers.get(role) if role is not None else None
    return [Step(side, n, int(event["ts"]), int(event["cpu"]), context, kind.name.lower(), text)]
