# SPDX-License-Identifier: Apache-2.0
"""What the core remembers of threats keeps what a plain list would."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from ghesrace.checker.core import holds, state
from tests.build.uncompiled import uncompiled

PLAIN, HOLDS = uncompiled(state), uncompiled(holds)
STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 2), st.integers(0, 2)),  # a CPU and a frame
    st.tuples(st.just("drop"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("clear"), st.just(0), st.just(0)),
)


def added(old: list[Any], one: Any, pairs: bool) -> list[Any]:
    """The newest first: two of distinct frames, or with *pairs* two of each CPU."""
    if pairs:
        mine = [x for x in old if x.hold.cpu == one.hold.cpu and x.frame != one.frame]
        return [one, *mine[:1], *(x for x in old if x.hold.cpu != one.hold.cpu)]
    return [one, *([x for x in old if x.frame != one.frame][:1])]


@given(st.lists(STEPS, max_size=30), st.booleans())
@example([("add", 0, frame) for frame in (0, 1, 2)], True)
@example([*(("add", cpu, cpu) for cpu in (0, 1, 2, 3)), ("drop", 0, 0)], True)
def test_newest_are_those_of_a_list(steps: list[tuple[str, int, int]], pairs: bool) -> None:
    """A threat that is forgotten is a false clean, one that is kept too long a false race."""
    compare(steps, pairs)


def test_newest_are_those_of_a_list_again() -> None:
    """The same of dice that need no library: a mutant's process has none."""
    words = ("add", "add", "add", "add", "drop", "clear")
    for seed in range(60):
        dice = Random(seed)
        steps = [(dice.choice(words), dice.randrange(4), dice.randrange(4)) for _ in range(30)]
        compare(steps, pairs=seed % 2 == 0)


def compare(steps: list[tuple[str, int, int]], pairs: bool) -> None:
    """Take the steps, and compare after each with a list."""
    newest, model = PLAIN.Newest(), []
    for word, number, frame in steps:
        if word == "add":
            one = HOLDS.Episode(HOLDS.Hold(number, 2, 0), frame << 12, 0)
            newest.add(one, pairs)
            model = added(model, one, pairs)
        elif word == "clear":
            newest.clear()
            model = []
        elif model:
            at = number % len(model)
            newest.drop(at)
            del model[at]
        assert newest.count == len(model)
        assert all(x is y for x, y in zip(newest.all(), model, strict=True))
        copy = PLAIN.Newest()
        copy.fill(newest.all())
        assert all(x is y for x, y in zip(copy.all(), model, strict=True))
    assert model or (newest.first, newest.second, newest.others) == (None, None, [])


def test_a_context_looks_at_the_places_in_use() -> None:
    """One that was left out would keep its flush or its hold for ever; the order is the slots'."""
    level = PLAIN.Level(2, 4)
    assert level.used == []
    for slot in (2, 0, 2):
        assert level.use(slot) is level.places[slot]
    assert [place.slot for place in level.used] == [0, 2]


def test_of_each_cpu_two_frames_stay() -> None:
    """Of pairs of CPUs with clock bounds of their own, the threat that the clocks order surely
    would be forgotten for a newer one that they do not."""
    one, two = HOLDS.Hold(0, 2, 0), HOLDS.Hold(1, 2, 0)
    frames = [(one, 1), (two, 1), (one, 1), (one, 2), (two, 3), (one, 4)]
    newest = PLAIN.Newest()
    for hold, frame in frames:
        newest.add(HOLDS.Episode(hold, frame << 12, 0), True)
    left = [(episode.hold.cpu, episode.frame >> 12) for episode in newest.all()]
    assert left == [(0, 4), (0, 2), (1, 3), (1, 1)]
