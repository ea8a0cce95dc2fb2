# SPDX-License-Identifier: Apache-2.0
"""What is read from a summary's mapped state, on memory of our own."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import numpy as np
import pytest

from ghesrace.checker.model import SAFE, Class
from ghesrace.events import MOST_AGAIN, Kind, Sample, Trait, select
from ghesrace.sources.bpf.summary.source import COUNTERS, States, counter, state_dtype

SLOTS, CPUS = 2, 3


@pytest.fixture
def memory() -> Iterator[tuple[np.ndarray, States]]:
    """The rows that programs write, and what reads them."""
    dtype = state_dtype(SLOTS)
    fd = os.memfd_create("states")
    os.ftruncate(fd, 1 << 20)
    shared = mmap.mmap(fd, 1 << 20)
    whole = np.frombuffer(shared, dtype, CPUS)
    rows = whole["own"]
    states = States(fd, slots=SLOTS, cpus=CPUS, start=100)
    os.close(fd)
    yield rows, states
    states.close()


def test_each_counter_has_one_class_and_its_traits() -> None:
    """A flushed episode would be counted as a fresh one, or a hand-off as none."""
    said = [counter(index) for index in range(COUNTERS)]
    assert len(set(said)) == COUNTERS
    assert {cls for cls, _ in said} == set(SAFE)
    assert counter(0) == (Class.FRESH, Trait(0))
    assert counter(2 + 4 * 0b101) == (Class.MAP_FLUSH, Trait.FLUSHED | Trait.LATENT)
    assert counter(1 + 4 * 0b010) == (Class.BROADCAST, Trait.HANDOFF)


def test_counts_are_told_once_with_the_time_since_the_last_read(
    memory: tuple[np.ndarray, States],
) -> None:
    """Episodes would be counted at every tick, or fall outside of the window that a loss spoils."""
    rows, states = memory
    rows["counts"][1, 0, 2 + 4] = 5
    rows["counts"][2, 1, 0] = 1
    (first, again) = states.read(200, final=False)
    assert len(again) == 0
    counts = select(first, Kind.COUNT)
    assert counts[["cpu", "slot", "count", "cls", "traits"]].tolist() == [
        (1, 0, 5, Class.MAP_FLUSH, Trait.FLUSHED),
        (2, 1, 1, Class.FRESH, 0),
    ]
    assert counts[["begin", "end"]].tolist() == [(100, 200)] * 2
    rows["counts"][1, 0, 2 + 4] = 7
    (more, _) = states.read(300, final=False)
    again = select(more, Kind.COUNT)
    assert again[["cpu", "count", "begin", "end"]].tolist() == [(1, 2, 200, 300)]
    assert not len(states.read(400, final=True)[0])


def test_repetitions_are_told_without_the_first(memory: tuple[np.ndarray, States]) -> None:
    """The first, which is a record of its own, would be counted twice; a burst be cut off."""
    rows, states = memory
    known = rows["again"][0, 1]
    known["n"][3], known["begin"][3], known["cls"][3] = 1, 77, Class.NONE
    assert not len(states.read(200, final=False)[-1])
    known["n"][3], known["frame"][3] = MOST_AGAIN + 11, 0x7000_0000
    told = select(states.read(300, final=False)[-1], Kind.AGAIN)
    assert told[["cpu", "slot", "count", "cls", "begin", "frame"]].tolist() == [
        (0, 1, MOST_AGAIN, Class.NONE, 77, 0x7000_0000)
    ]
    rest = select(states.read(400, final=False)[-1], Kind.AGAIN)
    assert rest["count"].tolist() == [10]


def test_samples_of_a_hold_that_goes_on_wait(memory: tuple[np.ndarray, States]) -> None:
    """An episode that a broadcast will still make harmless would predict a race."""
    rows, states = memory
    shapes = rows["shapes"][1, 0]
    for sort in range(3):
        shapes["of"][sort]["frame"][0] = 0x1000 * (sort + 1)
    shapes["known"][:], shapes["sure"][:] = 1, 0
    assert not [r for r in states.read(200, final=False) if (r["kind"] == Kind.SAMPLE).any()]
    shapes["sure"][1] = 1
    [sample, *_] = states.read(300, final=False)
    told = select(sample, Kind.SAMPLE)
    assert told[["cpu", "slot", "frame", "sample"]].tolist() == [(1, 0, 0x2000, Sample.VULNERABLE)]
    last = select(np.concatenate(states.read(400, final=True)), Kind.SAMPLE)
    assert last[["frame", "sample"]].tolist() == [
        (0x1000, Sample.EXPOSES),
        (0x3000, Sample.VULNERABLE),
    ]


def test_an_episode_without_an_unmap_is_told_at_the_end(
    memory: tuple[np.ndarray, States],
) -> None:
    """If this fails, a map whose unmap was missed, with none after it, is not told at all."""
    rows, states = memory
    one = rows[2]
    one["state"][0], one["level"][0], one["call"][0] = 3, 2, 9  # accessed; its handler was left
    one["begin"][0], one["frame"][0] = 77, 0x3000
    one["state"][1] = 4  # unmapped
    assert not any((part["kind"] == Kind.EPISODE).any() for part in states.read(200, final=False))
    told = select(np.concatenate(states.read(300, final=True)), Kind.EPISODE)
    assert told[
        ["ts", "cpu", "mapper", "slot", "ctx", "begin", "end", "frame", "cls"]
    ].tolist() == [(300, 2, 2, 0, 2, 77, 0, 0x3000, Class.UNCERTAIN)]


def test_an_episode_that_goes_on_at_the_end_is_not_judged(
    memory: tuple[np.ndarray, States],
) -> None:
    """If this fails, the end of the recording makes the last episode a missed unmap."""
    rows, states = memory
    rows[2]["state"][0] = 3  # in the handler at hand: the call is 0, and so is the edge
    assert not any((part["kind"] == Kind.EPISODE).any() for part in states.read(300, final=True))
