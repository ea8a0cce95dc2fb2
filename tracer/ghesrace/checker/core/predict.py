# SPDX-License-Identifier: Apache-2.0
"""Prediction: samples of lock holds that would race in another order.

For a hold H of CPU y and a hold G of another CPU x there is always an order in which G comes just
before H: all that x did before G and y before H first, the other CPUs' holds anywhere, then G,
then H. So H's access is stale if G leaves a translation behind that nothing of G's covers, H
invalidates nothing before its access, and the frames differ. A few episodes of either sort decide
that for each CPU and slot.
"""

from __future__ import annotations

from ghesrace.checker.core import words as w
from ghesrace.checker.core.holds import Episode, Hold
from ghesrace.checker.core.rule import Judged


class Samples:
    """A few episodes of a CPU and slot that stand for all of their kind: four at most.

    Two make a prediction if their frames differ and so do their notifications. An episode is only
    kept if it pairs with a frame and a notification that no kept one pairs with: with numbers for
    both, (f - f_i)(c - c_i) are linearly independent polynomials of a space of dimension four, if
    each is 0 at all that was kept before and not at i's.
    """

    def __init__(self, touched: bool, writes: bool, bounded: bool) -> None:
        self.touched = touched  # by a loss
        self.writes = writes
        self.bounded = bounded  # whether the record shows where their holds end
        self.kept: list[Episode] = []
        self.complete = False

    def add(self, episode: Episode) -> None:
        """Keep *episode* if it helps."""
        if not self.complete and self.helps(episode):
            self.kept.append(episode)
            self.complete = not self.helps(None)

    def helps(self, episode: Episode | None) -> bool:
        """Whether this episode, or any at all, could help: whether it pairs with the frame of one
        that is kept, or another, and with the notification of one, or another, and none does."""
        for i in range(-1, len(self.kept)):
            x = self.kept[i] if i >= 0 else None
            if x is not None and episode is not None and x.frame == episode.frame:
                continue
            for j in range(-1, len(self.kept)):
                y = self.kept[j] if j >= 0 else None
                if y is not None and episode is not None and one_call(y, episode):
                    continue
                if not self.paired(x, y):
                    return True
        return False

    def paired(self, x: Episode | None, y: Episode | None) -> bool:
        """Whether a kept one pairs with x's frame and y's notification (None: another)."""
        for kept in self.kept:
            apart = x is None or x.frame != kept.frame
            if apart and (y is None or not one_call(y, kept)):
                return True
        return False


def one_call(one: Episode, other: Episode) -> bool:
    """Whether both are part of one run of a handler."""
    a, b = one.hold, other.hold
    return a.cpu == b.cpu and a.ctx == b.ctx and one.seq_entry == other.seq_entry


def apart(x: Episode, y: Episode) -> bool:
    """Whether two holds are surely of two notifications: one is never on two CPUs."""
    return x.hold.ctx != y.hold.ctx or (x.hold.in_handler and y.hold.in_handler)


class Run:
    """Holds of one context that may be one, as nothing shows where they end and their CPU went on
    in no lower context between them: what they expose, unless a later one tells all others."""

    def __init__(self) -> None:
        self.last_pos = w.NOWHERE  # where its newest hold began
        self.exposing: list[Samples | None] = [None] * 8


class Shown:
    """What the episodes of one CPU and slot showed: samples, as `keep` sorts them."""

    def __init__(self, slot: int, cpu: int) -> None:
        self.slot = slot
        self.cpu = cpu
        self.exposing: list[Samples | None] = [None] * 8
        self.vulnerable: list[Samples | None] = [None] * 8
        self.bare: list[Samples | None] = [None] * 8  # may not be, as nothing shows their holds
        self.runs = [Run() for _ in range(w.LEVELS)]  # by context, the ones that may go on

    def exposed(self) -> list[Samples]:
        """Samples of what was left behind and not told to others."""
        return [
            *given(self.exposing),
            *(samples for run in self.runs for samples in given(run.exposing)),
        ]

    def run_of(self, hold: Hold) -> Run:
        """The run that an unbounded hold is part of. One that its CPU left is over."""
        run = self.runs[hold.ctx]
        over = hold.since_pos >= run.last_pos
        if over:
            for samples in given(run.exposing):
                for episode in samples.kept:
                    keep(self.exposing, samples.touched, samples.writes, False, episode)
        if over or hold.told != w.NO:
            run = self.runs[hold.ctx] = Run()
        run.last_pos = hold.pos_first
        return run

    def add(self, one: Judged) -> None:
        """Take one judged episode."""
        episode = one.episode
        bounded = episode.hold.bounded
        exposing = self.exposing
        if not bounded:
            exposing = self.run_of(episode.hold).exposing
        if not episode.judged:
            return
        if one.exposes:
            keep(exposing, one.touched or one.told_unseen, False, bounded, episode)
        touched = one.touched or one.in_flight
        if one.vulnerable:
            keep(self.vulnerable, touched, episode.writes, bounded, episode)
        elif one.bare:
            keep(self.bare, touched, episode.writes, bounded, episode)


def keep(
    kinds: list[Samples | None], touched: bool, writes: bool, bounded: bool, episode: Episode
) -> None:
    """Add an episode to the samples of its kind."""
    at = (4 if touched else 0) + (2 if writes else 0) + (1 if bounded else 0)
    samples = kinds[at]
    if samples is None:
        samples = kinds[at] = Samples(touched, writes, bounded)
    samples.add(episode)


class Predictions:
    """Feed it judged episodes; ask it for pairs that race in another order."""

    def __init__(self, cpus: int) -> None:
        self.cpus = cpus
        self.shown: dict[tuple[int, int], Shown] = {}  # by slot and CPU
        self.told_hidden = False  # whether a loss may have hidden that one did

    def take(self, judged: list[Judged]) -> None:
        """Take judged episodes; of one whose map is hidden only what its hold told."""
        shown: Shown | None = None
        for one in judged:
            hold: Hold = one.episode.hold
            if shown is None or shown.cpu != hold.cpu or shown.slot != hold.slot:
                if not one.episode.judged and (hold.slot, hold.cpu) not in self.shown:
                    continue  # It alone shows of no CPU that it takes notifications.
                shown = self.of(hold.slot, hold.cpu)
            shown.add(one)

    def of(self, slot: int, cpu: int) -> Shown:
        """What a CPU and slot showed; a new one's is empty."""
        shown = self.shown.get((slot, cpu))
        if shown is None:
            shown = self.shown[slot, cpu] = Shown(slot, cpu)
        return shown

    def alone(self, slot: int) -> bool:
        """Whether one CPU alone took all notifications of a slot, and others could have."""
        return sum(key[0] == slot for key in self.shown) == 1 and self.cpus != 1

    def here(self, slot: int) -> list[Shown]:
        """What the CPUs showed at one slot, by their numbers."""
        return [shown for (number, _), shown in sorted(self.shown.items()) if number == slot]

    def pairs(self, slot: int, writes: bool, touched: bool) -> list[tuple[Episode, Episode]]:
        """Episodes G and H that race in another order. *touched*: with those of a loss."""
        alone, here = self.alone(slot), self.here(slot)
        return [
            (x, y)
            for g in here
            for exposing in g.exposed()
            for h in here
            for open_ones in given(h.vulnerable)
            if open_ones.writes == writes
            if alone or g.cpu != h.cpu
            if touched or not (exposing.touched or open_ones.touched)
            if touched or exposing.bounded or not self.told_hidden
            for x in exposing.kept
            for y in open_ones.kept
            if x.frame != y.frame and not one_call(x, y)
            if not alone or apart(x, y)
        ]

    def doubtful(self, slot: int) -> bool:
        """Whether two holds of the one CPU that took all notifications would race, if they are
        of two: their handlers were not seen."""
        return self.alone(slot) and any(
            x.frame != y.frame and not one_call(x, y) and not (apart(x, y) and y.hold.bounded)
            for shown in self.here(slot)
            for exposing in shown.exposed()
            for open_ones in given([*shown.vulnerable, *shown.bare])
            for x in exposing.kept
            for y in open_ones.kept
        )

    def all_kept(self) -> list[Episode]:
        """Every sample: its events may be needed."""
        return [
            episode
            for shown in self.shown.values()
            for samples in (*shown.exposed(), *given(shown.vulnerable))
            for episode in samples.kept
        ]


def given(kinds: list[Samples | None]) -> list[Samples]:
    """The samples that there are."""
    return [samples for samples in kinds if samples is not None]
