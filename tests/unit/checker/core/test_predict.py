# SPDX-License-Identifier: Apache-2.0
"""A few samples stand for all episodes: beside a list that keeps every one."""

from __future__ import annotations

from itertools import product
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from ghesrace.checker.core import holds, predict, words
from tests.build.uncompiled import all_uncompiled

HOLDS, PREDICT = all_uncompiled(holds), all_uncompiled(predict)
NO, MAYBE, SURE = words.NO, words.MAYBE, words.SURE


def judged(dice: Random, cpu: int, call: int, pos: int) -> Any:
    """An episode of a notification, and what was said of it."""
    hold = HOLDS.Hold(cpu, dice.choice((words.IRQ, words.NMI)), 0)
    hold.bounded, hold.in_handler = dice.random() < 0.8, dice.random() < 0.7
    hold.pos_first, hold.since_pos = pos, pos - dice.choice((1, 1, 3))
    hold.told = dice.choice((NO, NO, NO, MAYBE))
    one = HOLDS.Episode(hold, dice.choice((1, 1, 2, 3)) << 12, 0)
    one.seq_entry, one.writes = call, dice.random() < 0.3
    vulnerable = dice.random() < 0.4
    return SimpleNamespace(
        episode=one,
        exposes=dice.random() < 0.5,
        vulnerable=vulnerable,
        bare=vulnerable or dice.random() < 0.2,
        touched=dice.random() < 0.2,
        told_unseen=dice.random() < 0.1,
        in_flight=dice.random() < 0.1,
    )


class Every:
    """All that the samples stand for."""

    def __init__(self, cpus: int) -> None:
        self.cpus = cpus
        self.exposing: list[Any] = []
        self.open: list[Any] = []
        self.runs: dict[tuple[int, int], tuple[int, list[Any]]] = {}
        self.told_hidden = False

    def take(self, one: Any) -> None:
        hold = one.episode.hold
        mine: list[Any] = self.exposing
        if not hold.bounded:
            key = hold.cpu, hold.ctx
            last, mine = self.runs.get(key, (words.NOWHERE, []))
            if hold.since_pos >= last:
                self.exposing += mine
                mine = []
            if hold.told != NO:
                mine = []
            self.runs[key] = hold.pos_first, mine
        if one.exposes:
            mine.append(one)
        if one.vulnerable:
            self.open.append(one)

    def pairs(self, writes: bool, touched: bool, alone: bool) -> set[tuple[int, int]]:
        """The CPUs of G and H."""
        left = [*self.exposing, *(one for _, run in self.runs.values() for one in run)]
        found = set()
        for g, h in product(left, self.open):
            x, y = g.episode, h.episode
            one_call = (x.hold.cpu, x.hold.ctx, x.seq_entry) == (
                y.hold.cpu,
                y.hold.ctx,
                y.seq_entry,
            )
            doubt = g.touched or g.told_unseen or h.touched or h.in_flight
            doubt = doubt or (self.told_hidden and not x.hold.bounded)
            handlers = x.hold.ctx != y.hold.ctx or (x.hold.in_handler and y.hold.in_handler)
            if (
                y.writes == writes
                and (alone or x.hold.cpu != y.hold.cpu)
                and (touched or not doubt)
                and x.frame != y.frame
                and not one_call
                and (not alone or handlers)
            ):
                found.add((x.hold.cpu, y.hold.cpu))
        return found


@pytest.mark.parametrize("cpus", [1, 2, 3])
def test_samples_make_the_predictions_that_all_episodes_make(cpus: int) -> None:
    """One that was not kept would be a race that nobody predicts."""
    for seed in range(80):
        dice = Random(1000 * cpus + seed)
        every, few = Every(3), PREDICT.Predictions(3)
        every.told_hidden = few.told_hidden = dice.random() < 0.3
        calls, seen = [0] * cpus, set()
        for pos in range(1, dice.choice((4, 10, 30))):
            cpu = dice.randrange(cpus)
            calls[cpu] += dice.random() < 0.6
            one = judged(dice, cpu, calls[cpu], pos)
            seen.add(cpu)
            every.take(one)
            few.take([one])
        alone = len(seen) == 1
        assert few.alone(0) is alone
        for writes, touched in product((False, True), repeat=2):
            got = few.pairs(0, writes, touched)
            # Alone, one whose handler was not seen may stand for one whose was: a doubt is left.
            cpus_of = {(x.hold.cpu, y.hold.cpu) for x, y in got}
            wanted = every.pairs(writes, touched, alone)
            assert cpus_of == wanted or (alone and not cpus_of and few.doubtful(0)), seed
            for x, y in got:
                assert x.frame != y.frame
        assert few.pairs(1, False, True) == []
        for shown in few.shown.values():
            kinds = [*shown.exposing, *shown.vulnerable, *shown.bare]
            assert all(len(kind.kept) <= 4 for kind in kinds if kind is not None)


def test_one_frame_and_notification_is_kept_once() -> None:
    """Samples would be as many as there are episodes, up to four, and the next one that matters
    would be turned away."""
    samples = PREDICT.Samples(False, False, True)
    hold = HOLDS.Hold(0, 2, 0)

    def add(frame: int, call: int) -> int:
        one = HOLDS.Episode(hold, frame << 12, 0)
        one.seq_entry = call
        samples.add(one)
        return len(samples.kept)

    assert [add(1, 1), add(1, 1), add(1, 1)] == [1, 1, 1]
    assert add(1, 2) == 2
    assert [add(1, 3), add(1, 2), add(1, 9)] == [2, 2, 2]
    assert add(2, 1) == 3
    assert [add(2, 1), add(3, 1)] == [3, 3]
    assert not samples.complete
    assert add(2, 2) == 4
    assert samples.complete
    assert add(9, 9) == 4


def test_two_holds_of_two_notifications() -> None:
    """Of one context, only if both handlers were seen."""
    for ctx, seen, other in product((2, 3), (False, True), (False, True)):
        x, y = (HOLDS.Episode(HOLDS.Hold(0, c, 0), 0, 0) for c in (2, ctx))
        x.hold.in_handler, y.hold.in_handler = seen, other
        assert bool(PREDICT.apart(x, y)) is (ctx == 3 or (seen and other))


def test_a_hidden_map_shows_no_cpu() -> None:
    """It alone would make two CPUs of one that takes all notifications."""
    one = judged(Random(1), 0, 1, 1)
    one.episode.judged = False
    few = PREDICT.Predictions(2)
    few.take([one])
    assert few.shown == {}
    few.of(0, 0)
    one.episode.hold.bounded, one.exposes = True, True
    few.take([one])
    assert few.shown[0, 0].exposed() == []
    assert few.alone(0)
    assert not few.alone(1)
    assert not PREDICT.Predictions(1).alone(0)
    few.cpus = 1
    assert not few.alone(0)


def test_what_is_doubtful_of_one_cpu_alone() -> None:
    """Two holds that may be of one notification, or of two."""
    for frame, call, bounded, handler, doubt in ((2, 2, False, True, True),
                                                 (2, 2, True, True, False),
                                                 (2, 2, True, False, True),
                                                 (1, 2, False, True, False),
                                                 (2, 1, False, True, False)):  # fmt: skip
        few = PREDICT.Predictions(2)
        for number, (f, c, bare) in enumerate(((1, 1, False), (frame, call, True))):
            one = judged(Random(1), 0, c, number)
            one.episode.frame, one.episode.hold.ctx = f << 12, 2
            one.episode.hold.bounded, one.episode.hold.in_handler = bounded or not bare, handler
            one.exposes, one.bare, one.vulnerable = not bare, bare, False
            few.take([one])
        assert few.doubtful(0) is doubt
        assert not few.doubtful(1)
        assert len(few.all_kept()) == 1
        few.of(0, 1)
        assert not few.doubtful(0)
