# SPDX-License-Identifier: Apache-2.0
"""Prediction: samples of lock holds that would race in another order.

For a hold H of CPU y and a hold G of another CPU x there is always an order in which G comes just
before H: all that x did before G and y before H first, the other CPUs' holds anywhere, then G,
then H. So H's access is stale if G leaves a translation behind that nothing of G's covers, H
invalidates nothing before its access, and the frames differ. A few episodes of either sort decide
that for each CPU and slot.
"""

from __future__ import annotations

from ghesrace.checker.core.rule import Judged
from ghesrace.checker.core.state import Episode


class Samples:
    """A few episodes of a CPU that stand for all: four at most.

    Two make a prediction if their frames differ and so do their notifications. An episode is only
    kept if it pairs with a frame and a notification that no kept one pairs with: with numbers for
    both, (f - f_i)(c - c_i) are linearly independent polynomials of a space of dimension four, if
    each is 0 at all that was kept before and not at i's.
    """

    def __init__(self) -> None:
        self.kept: list[Episode] = []
        self.complete = False

    def add(self, episode: Episode) -> None:
        """Keep *episode* if it helps."""
        if self.complete or not self.helps(episode.frame, call(episode)):
            return
        self.kept.append(episode)
        self.complete = not self.helps(None, None)

    def helps(self, frame: int | None, name: tuple[int, int, int] | None) -> bool:
        """Whether an episode of this frame and notification, or any at all, could help."""
        known = [(one.frame, call(one)) for one in self.kept]
        frames = {-1, *(f for f, _ in known)} - {frame}
        calls = {(-1, -1, -1), *(c for _, c in known)} - {name}
        return any(all(f == g or c == d for g, d in known) for f in frames for c in calls)


def call(episode: Episode) -> tuple[int, int, int]:
    """The run of the handler that an episode is part of."""
    return episode.hold.cpu, episode.hold.ctx, episode.seq_entry


def apart(x: Episode, y: Episode) -> bool:
    """Whether two holds are surely of two notifications: one is never on two CPUs."""
    return x.hold.ctx != y.hold.ctx or (x.hold.in_handler and y.hold.in_handler)


Key = tuple[int, int, bool, bool, bool]  # slot, CPU, touched by a loss, writes, bounded


class Predictions:
    """Feed it judged episodes; ask it for pairs that race in another order."""

    def __init__(self, cpus: int) -> None:
        self.cpus = cpus
        self.exposing: dict[Key, Samples] = {}
        self.vulnerable: dict[Key, Samples] = {}
        self.bare: dict[Key, Samples] = {}  # that may not be, as nothing shows their holds
        self.told = False  # whether any hold told the others: where it ends may not be known
        self.seen: dict[int, set[int]] = {}

    def add(self, one: Judged) -> None:
        """Take one judged episode."""
        episode = one.episode
        hold = episode.hold
        self.seen.setdefault(hold.slot, set()).add(hold.cpu)
        self.told = self.told or hold.told != 0
        if one.exposes:
            key = (hold.slot, hold.cpu, one.touched, False, hold.bounded)
            self.exposing.setdefault(key, Samples()).add(episode)
        if one.bare and not one.vulnerable:
            key = (hold.slot, hold.cpu, one.touched, episode.writes, hold.bounded)
            self.bare.setdefault(key, Samples()).add(episode)
        if one.vulnerable:
            key = (hold.slot, hold.cpu, one.touched, episode.writes, hold.bounded)
            self.vulnerable.setdefault(key, Samples()).add(episode)

    def alone(self, slot: int) -> bool:
        """Whether one CPU alone took all notifications of a slot, and others could have."""
        return len(self.seen.get(slot, ())) == 1 and self.cpus != 1

    def pairs(self, slot: int, writes: bool, touched: bool) -> list[tuple[Episode, Episode]]:
        """Episodes G and H that race in another order. *touched*: with those of a loss."""
        alone = self.alone(slot)
        return [
            (x, y)
            for key_x, exposing in sorted(self.exposing.items())
            for key_y, open_ones in sorted(self.vulnerable.items())
            if key_x[0] == key_y[0] == slot and key_y[3] == writes
            if alone or (key_x[1] != key_y[1] and (key_x[4] or not self.told))
            if touched or not (key_x[2] or key_y[2])
            for x in exposing.kept
            for y in open_ones.kept
            if x.frame != y.frame and call(x) != call(y)
            if not alone or apart(x, y)
        ]

    def doubtful(self, slot: int) -> bool:
        """Whether two holds of the one CPU that took all notifications would race, if they are
        of two: their handlers were not seen."""
        return self.alone(slot) and any(
            x.frame != y.frame and call(x) != call(y) and not (apart(x, y) and y.hold.bounded)
            for key_x, exposing in self.exposing.items()
            for key_y, open_ones in (*self.vulnerable.items(), *self.bare.items())
            if key_x[0] == key_y[0] == slot
            for x in exposing.kept
            for y in open_ones.kept
        )

    def all_kept(self) -> list[Episode]:
        """Every sample: its events may be needed."""
        return [
            episode
            for samples in (*self.exposing.values(), *self.vulnerable.values())
            for episode in samples.kept
        ]
