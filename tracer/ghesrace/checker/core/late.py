# SPDX-License-Identifier: Apache-2.0
"""Late stamps: none counts as later than its successor's in the buffer."""

from __future__ import annotations

from ghesrace.checker.core import words as w
from ghesrace.checker.core.state import Cpu, SlotState

_EPISODE_TIMES = (
    "map_first", "map_last", "read_first", "read_last", "unmap_first", "clear_last",
    "map_flush_first", "pre_first", "pre_last", "flush_first", "flush_last", "told_first",
    "told_last", "unmap_over", "last_first", "pre_since", "luck_map_first", "luck_first",
    "luck_last",
)  # fmt: skip


def pull_back(slots: list[SlotState], cpu: Cpu, ts: int) -> None:
    """An event was stamped too late, as its successor shows: none is later than the next."""
    for state in slots:
        for hold in state.holds:
            if hold.cpu == cpu.number:
                clamp(hold, ("map_first", "begin_last", "end_first", "close", "entry"), ts)
                for episode in hold.all():
                    clamp(episode, _EPISODE_TIMES, ts)
        for one in state.tells:
            if one.sender == cpu.number:
                clamp(one, ("first", "last"), ts)
        for shot in state.shots:
            if shot.cpu == cpu.number:
                clamp(shot, ("first", "last"), ts)
    for i in range(len(cpu.tasks) - 1, -1, -1):
        if cpu.tasks[i] <= ts:
            break
        cpu.tasks[i] = ts
    for cell in cpu.cells:
        clamp(cell, ("inv_first", "inv_last"), ts)
    for level in cpu.levels:
        clamp(level, ("edge_t", "copy_t", "last_t", "call_t"), ts)
        for place in level.places:
            clamp(place, ("pre_first", "pre_last", "inv_first", "tell_first"), ts)


def clamp(thing: object, names: tuple[str, ...], ts: int) -> None:
    """Pull times that are later than *ts* back to it."""
    for name in names:
        value = getattr(thing, name)
        if value != w.NEVER:
            setattr(thing, name, min(value, ts))
