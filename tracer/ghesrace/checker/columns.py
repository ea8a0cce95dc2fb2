# SPDX-License-Identifier: Apache-2.0
"""Judged episodes as columns, for those who count or store them."""

from __future__ import annotations

import numpy as np

from ghesrace.checker.core.rule import Judged as One
from ghesrace.checker.core.state import Episode

from .model import EPISODE, Judged, Mark, Table


def columns(judged: list[One]) -> list[Judged]:
    """Return the episodes *judged* as columns, slot by slot.

    >>> columns([])
    []
    """
    by_slot: dict[int, list[One]] = {}
    for one in judged:
        by_slot.setdefault(one.episode.hold.slot, []).append(one)
    return [
        Judged(
            slot,
            _rows([one.episode for one in mine]),
            np.array([one.cls for one in mine], np.int64),
            np.array([one.why for one in mine], np.int64),
            np.array([one.latent for one in mine], np.bool_),
            np.array([one.handoff for one in mine], np.bool_),
            np.array([one.before for one in mine], np.int64),
        )
        for slot, mine in sorted(by_slot.items())
    ]


def _rows(episodes: list[Episode]) -> Table:
    table = np.zeros(len(episodes), EPISODE)
    if not episodes:
        return table
    holds = [episode.hold for episode in episodes]
    for name in ("slot", "cpu", "ctx"):
        table[name] = [getattr(hold, name) for hold in holds]
    for name, of in _COLUMNS.items():
        table[name] = [getattr(episode, of) for episode in episodes]
    for of, mark in _MARKS.items():
        seen = np.array([getattr(episode, of) for episode in episodes], np.bool_)
        table["marks"] |= np.where(seen, int(mark), 0).astype(np.uint8)
    return table


_COLUMNS = {
    "frame": "frame",
    "pid": "pid",
    "seq_map": "seq_map",
    "t_map": "map_first",
    "t_read": "read_first",
    "t_unmap": "unmap_first",
}
_MARKS = {"writes": Mark.WRITE, "read_seen": Mark.ACCESS_SEEN, "unmapped": Mark.UNMAPPED}
