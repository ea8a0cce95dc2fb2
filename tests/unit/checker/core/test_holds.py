# SPDX-License-Identifier: Apache-2.0
"""A lock hold keeps its episodes as a plain list would."""

from __future__ import annotations

import itertools

import pytest

from ghesrace.checker.core import holds, losses, predict, rule
from tests.build.uncompiled import uncompiled

PLAIN, LOSSES = uncompiled(holds), uncompiled(losses)
RULE, PREDICT = uncompiled(rule), uncompiled(predict)


@pytest.mark.parametrize("pages", [0, 1, 2, 5])
def test_a_hold_knows_its_episodes_in_order(pages: int) -> None:
    """A page that a hold forgot would never be judged."""
    hold = PLAIN.Hold(0, 2, 0)
    episodes = [PLAIN.Episode(hold, page << 12, 0) for page in range(pages)]
    for episode in episodes:
        hold.add(episode)
    assert hold.count == pages
    assert [one.frame for one in hold.all()] == [one.frame for one in episodes]
    assert not pages or hold.last() is episodes[-1]
    hold.forget()
    assert (hold.count, hold.all(), hold.first, hold.others) == (0, [], None, None)


@pytest.mark.parametrize(
    ("cpu", "begin", "end", "met"),
    [(0, 5, 15, True), (-1, 20, 30, True), (1, 5, 15, False), (0, 0, 9, False), (0, 21, 30, False)],
)
def test_losses_meet_on_one_cpu_at_one_time(cpu: int, begin: int, end: int, met: bool) -> None:
    """Two losses of two CPUs, or times, would hide an episode together."""
    loss, other = PLAIN.Loss(0, 10, 20, 0, 0), PLAIN.Loss(cpu, begin, end, 0, 0)
    assert LOSSES.meets(loss, other) is met
    assert LOSSES.meets(other, loss) is met


def test_samples_of_each_kind_are_kept_apart() -> None:
    """A hold whose end nobody saw would stand for one whose end was seen: a false prediction."""
    kinds: list[object] = [None] * 8
    for touched, writes, bounded in itertools.product((False, True), repeat=3):
        episode = PLAIN.Episode(PLAIN.Hold(0, 2, 0), 0, 0)
        PREDICT.keep(kinds, touched, writes, bounded, episode)
    assert {(one.touched, one.writes, one.bounded) for one in kinds} == set(
        itertools.product((False, True), repeat=3)
    )
