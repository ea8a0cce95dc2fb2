# SPDX-License-Identifier: Apache-2.0
"""Judged episodes as columns, for those who count or store them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ghesrace import events
from ghesrace.checker.core.rule import Judged as One
from ghesrace.checker.core.words import NEVER

from .model import EPISODE, Judged, Mark

WRITE, ACCESS_SEEN, UNMAPPED = int(Mark.WRITE), int(Mark.ACCESS_SEEN), int(Mark.UNMAPPED)
UNSEEN = int(events.NEVER)


def columns(judged: list[One]) -> list[Judged]:
    """Return the episodes *judged* as columns, slot by slot.

    >>> columns([])
    []
    """
    by_slot: dict[int, list[One]] = {}
    mine: list[One] = []
    slot = -1
    for one in judged:
        if one.episode.hold.slot != slot:
            slot = one.episode.hold.slot
            mine = by_slot.setdefault(slot, [])
        mine.append(one)
    return [_of_slot(slot, mine) for slot, mine in sorted(by_slot.items())]


def _of_slot(slot: int, judged: list[One]) -> Judged:
    count = len(judged)
    table = np.zeros(count, EPISODE)
    numbers = np.empty((3, count), np.int64)
    flags = np.empty((2, count), np.uint8)
    _fill(table.view(np.recarray), numbers, flags, judged)
    known = flags.view(np.bool_)
    return Judged(slot, table, numbers[0], numbers[1], known[0], known[1], numbers[2])


def _stamp(at: int) -> int:
    """Return a time of the core's (ns) as everybody else has it: NEVER where nothing was seen."""
    return UNSEEN if at == NEVER else at


def _fill(rows: Any, numbers: Any, flags: Any, judged: list[One]) -> None:
    """Write episodes into rows of EPISODE, and what was judged of them into the columns."""
    for i in range(len(judged)):
        one = judged[i]
        numbers[0, i], numbers[1, i], numbers[2, i] = one.cls, one.why, _stamp(one.before)
        flags[0, i], flags[1, i] = one.latent, one.handoff
        episode = one.episode
        hold = episode.hold
        rows[i].slot, rows[i].cpu, rows[i].ctx = hold.slot, hold.cpu, hold.ctx
        rows[i].frame, rows[i].pid, rows[i].seq_map = episode.frame, episode.pid, episode.seq_map
        rows[i].t_map, rows[i].t_read = episode.map_first, _stamp(episode.read_first)
        rows[i].t_unmap = _stamp(episode.unmap_first)
        rows[i].marks = (
            (WRITE if episode.writes else 0)
            | (ACCESS_SEEN if episode.read_seen else 0)
            | (UNMAPPED if episode.unmapped else 0)
        )
