# SPDX-License-Identifier: Apache-2.0
"""What a live source promises while its rings are read piece by piece, on rings of our own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.events import NEVER, Cause, Context, Events, Kind, empty, joined, select
from ghesrace.plan import Plan, Probe
from ghesrace.sources import live
from ghesrace.sources.accounts import Accounts

SECOND = 1_000_000_000
PLAN = Plan("x86_64", "t", (), (Probe("x", "MAP", "f", "kprobe"),))


class Rings(live.LiveSource):
    """Rings of two CPUs that hold everything from the start, read *most* events at a time."""

    def __init__(self, stamps: list[list[int]], most: int) -> None:
        super().__init__(PLAN, {}, 0.0)
        self.left = [np.sort(np.array(times, "<u8")) for times in stamps]
        self.most = most

    def _attach(self) -> None:
        self._accounts = object.__new__(Accounts)  # only that there is one matters here

    def _detach(self) -> None:
        pass

    def _freeze(self) -> None:
        pass

    def _drain(self, complete: int) -> tuple[dict[int, Events], list[Events], int]:
        found, behind = {}, NEVER
        for cpu, stamps in enumerate(self.left):
            taken, self.left[cpu] = stamps[: self.most], stamps[self.most :]
            events = empty(len(taken))
            events["kind"], events["ctx"], events["cpu"] = Kind.MAP, Context.IRQ, cpu
            events["ts"] = taken
            found[cpu] = events
            if len(self.left[cpu]):
                behind = min(behind, int(taken[-1]))
        if behind == NEVER:
            self.stop()
        return found, [], behind

    def _count(self, accounts: Accounts, final: bool, now: int) -> list[Events]:
        return []


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes between two looks at the clock; the events are all from before."""
    ticks = iter(range(1_000 * SECOND, 2**62, SECOND))
    monkeypatch.setattr(live, "clock_now", lambda _name: next(ticks))


STAMPS = st.lists(st.integers(1, 10**6), max_size=60)


@settings(max_examples=60, deadline=None)
@given(STAMPS, STAMPS, st.integers(1, 20))
def test_promises_are_kept_piece_by_piece(one: list[int], other: list[int], most: int) -> None:
    """If this fails, a burst that is read in pieces is judged before all of it is there."""
    with Rings([one, other], most) as source:
        batches = list(source.batches())
    events = joined(batches)
    assert sorted(events["ts"][events["kind"] == Kind.MAP].tolist()) == sorted(one + other)
    assert not (events["aux"][events["kind"] == Kind.LOSS] == Cause.CLOCK).any()
    promised = 0
    for batch in batches:
        assert (batch["ts"][batch["kind"] == Kind.MAP] >= promised).all()
        promised = int(batch["ts"][batch["kind"] == Kind.MARK].max())
    assert promised > max([0, *one, *other])


def test_a_burst_is_promised_as_it_is_read() -> None:
    """If this fails, what waits for its MARK grows for as long as a burst goes on."""
    with Rings([list(range(1, 1001)), [5]], 10) as source:
        marks = [int(b["ts"][b["kind"] == Kind.MARK].max()) for b in _some(source.batches(), 50)]
    assert marks == sorted(marks)
    assert marks[10] >= 90
    assert marks[49] >= 480


class Late(Rings):
    """Rings that show an event of CPU 1 only when its time was promised to be complete."""

    def _drain(self, complete: int) -> tuple[dict[int, Events], list[Events], int]:
        if complete < 1_003 * SECOND:
            return {}, [], NEVER
        return super()._drain(complete)


def test_what_comes_after_its_mark_is_counted_and_lost() -> None:
    """If this fails, what was judged without an event counts as complete."""
    with Late([[], [5, 8]], 10) as source:
        events = joined(list(source.batches()))
        assert source.counters["late"] == 2
        assert source.counters["uncounted losses"] == 1
    [lost] = select(events, Kind.LOSS)
    assert (lost["cause"], lost["cpu"], lost["begin"], lost["count"]) == (Cause.CLOCK, 1, 5, 0)
    assert lost["end"] == 1_002 * SECOND


def _some(batches: Iterator[Events], n: int) -> list[Events]:
    return [next(batches) for _ in range(n)]
