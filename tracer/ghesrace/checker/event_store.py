# SPDX-License-Identifier: Apache-2.0
"""The raw events of episodes that a witness may need, set aside when their batch goes."""

from __future__ import annotations

from ghesrace.checker.core import words as w
from ghesrace.checker.core.holds import Episode
from ghesrace.checker.core.run import Core
from ghesrace.events import Events, empty, joined

MOST_EVENTS = 64  # a foreign file can claim any number for one episode


class EventStore:
    """A store finds the events of episodes in the batch at hand, and those set aside before."""

    def __init__(self) -> None:
        self.batch: Events = empty()
        self.base = 0

    def take(self, batch: Events) -> None:
        """The next batch is at hand."""
        self.base += len(self.batch)
        self.batch = batch

    def of(self, episode: Episode) -> Events:
        """The events of an episode's context, from its notification to its end."""
        self.set_aside(episode)
        rows = [empty(), *(episode.rows or ())]
        return joined(rows)[:MOST_EVENTS]

    def set_aside(self, episode: Episode) -> None:
        """Copy what this batch has of an episode."""
        base, end = self.base, self.base + len(self.batch)
        if episode.rows is None:
            episode.rows = []
            if episode.index_entry >= base:
                if episode.index_entry < episode.index_map:
                    self.copy(episode, episode.index_entry)
            elif episode.entry_row is not None:
                episode.rows.append(episode.entry_row)
            before = episode.index_before
            if before >= 0 and before != episode.index_entry:
                if before >= base:
                    self.copy(episode, before)
                elif episode.before_row is not None:
                    episode.rows.append(episode.before_row)
        first = max(episode.index_map, base, episode.kept_until + 1)
        last = min(episode.index_last, end - 1)
        if first > last or len(episode.rows) > MOST_EVENTS:
            return
        part = self.batch[first - base : last + 1 - base]
        mine = (part["cpu"] == episode.hold.cpu) & (part["ctx"] == episode.hold.ctx)
        found = part[mine & (part["kind"] < w.K_LOSS)][:MOST_EVENTS]
        if len(found):
            episode.rows.append(found.copy())
        episode.kept_until = last

    def copy(self, episode: Episode, index: int) -> None:
        at = index - self.base
        episode.rows = [*(episode.rows or ()), self.batch[at : at + 1].copy()]

    def set_all_aside(self, core: Core, samples: list[Episode]) -> None:
        """The batch goes: set aside what may be needed later."""
        episodes = list(samples)
        for state in core.slots:
            for hold in (*state.holds, *state.window):
                episodes += hold.all()
            cells = [cpu.cells[state.number] for cpu in core.reader.cpus.values()]
            for cell in (*cells, state.untold):
                for threats in (
                    cell.own_maybe,
                    cell.own_surely,
                    cell.other_maybe,
                    cell.other_surely,
                ):
                    episodes += threats.all()
        for episode in episodes:
            self.set_aside(episode)
        end = self.base + len(self.batch)
        for cpu in core.reader.cpus.values():
            for level in cpu.levels:
                if level.active and self.base <= level.edge_index < end:
                    at = level.edge_index - self.base
                    level.edge_row = self.batch[at : at + 1].copy()
                if level.active and self.base <= level.opening < end:
                    at = level.opening - self.base
                    level.opening_row = self.batch[at : at + 1].copy()
