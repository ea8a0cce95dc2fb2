# SPDX-License-Identifier: Apache-2.0
"""What one step of the core decided, gathered for the patterns."""

from __future__ import annotations

from dataclasses import dataclass

from ghesrace.checker.core.edits import Meeting
from ghesrace.checker.core.holds import Episode
from ghesrace.checker.core.reader import Sent
from ghesrace.checker.core.rule import Judged
from ghesrace.checker.core.run import Core


@dataclass(slots=True)
class Decided:
    """One step decided this.

    `unsafe` are those of the episodes `judged` that are of class `incidental`, `none` or
    `uncertain`; in `every` are also episodes whose map is hidden. `overlaps` are pairs of uses of
    one slot that surely overlap, and whether that assumes that the clocks agree; `not_ordered`
    counts the uses, of all `uses`, that the clocks leave open. `met` are GHES writes that met, or
    may have met, a page-table edit, and `sent` are shootdowns from where none may be sent.
    `open_ends` counts maps without an unmap, `no_flushes` maps and unmaps without the flush that
    their code holds, and `strays` accesses without map and unmap. `hid` tells
    whether losses may have hidden a whole episode, and `hid_kinds` (bits by Kind) what any of them
    may have hidden.
    """

    judged: list[Judged]
    every: list[Judged]
    unsafe: list[Judged]
    overlaps: list[tuple[Episode, Episode, bool]]
    met: list[Meeting]
    sent: list[Sent]
    uses: int
    not_ordered: int
    open_ends: int
    no_flushes: int
    strays: int
    hid: bool
    hid_kinds: int
    crowded_edits: bool


def gather(core: Core, judged: list[Judged]) -> Decided:
    """Take what *core* decided since the last time, beside the episodes *judged*."""
    judge, reader, losses = core.judge, core.reader, core.losses
    seen = judged
    if judge.hidden_maps:
        seen = [one for one in judged if one.episode.judged]
    found = Decided(
        seen,
        judged,
        judge.not_safe,
        judge.overlaps,
        core.met,
        reader.shootdowns,
        judge.uses,
        judge.not_ordered,
        reader.open_ends,
        reader.no_flushes,
        judge.strays,
        losses.hid_episodes,
        losses.seen,
        core.edits.truncated,
    )
    judge.not_safe, judge.hidden_maps = [], 0
    judge.overlaps, core.met, reader.shootdowns = [], [], []
    judge.uses = judge.not_ordered = judge.strays = reader.open_ends = reader.no_flushes = 0
    losses.seen, losses.hid_episodes = 0, False
    return found
