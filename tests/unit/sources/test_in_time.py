# SPDX-License-Identifier: Apache-2.0
"""Batches of many CPUs, merged into one order in time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.events import Cause, Events, Kind, empty, joined, loss, mark
from ghesrace.sources.in_time import InTime


def stamped(cpu: int, *stamps: int) -> Events:
    events = empty(len(stamps))
    events["kind"], events["cpu"], events["ts"] = Kind.MAP, cpu, stamps
    events["seq"] = np.arange(len(stamps))
    return events


def shown(events: Events) -> list[tuple[int, int]]:
    return list(zip(events["cpu"].tolist(), events["ts"].tolist(), strict=True))


def test_a_cpu_keeps_the_order_of_its_buffer() -> None:
    """If this fails, an NMI that landed inside a probe's clock read is shown before what it
    interrupted."""
    merged = InTime().feed(joined([stamped(0, 10, 40, 35), stamped(1, 20, 37), mark(50)]))
    assert shown(merged) == [(0, 10), (1, 20), (1, 37), (0, 40), (0, 35)]


def test_a_cpu_keeps_its_order_across_batches_and_ties_go_to_the_lower_cpu() -> None:
    """If this fails, the order is not that of `trace-cmd report` where batches meet."""
    merger = InTime()
    first = merger.feed(joined([stamped(0, 10, 40), mark(41)]))
    second = merger.feed(joined([stamped(0, 35), stamped(1, 38, 50), stamped(0, 50), mark(60)]))
    assert shown(joined([first, second])) == [
        *((0, 10), (0, 40), (1, 38), (0, 35), (0, 50), (1, 50)),
    ]


def test_what_a_mark_names_itself_may_still_come() -> None:
    """If this fails, an event of a mark's own time is shown after one of a higher CPU."""
    merger = InTime()
    first = merger.feed(joined([stamped(1, 20), mark(20)]))
    second = merger.feed(joined([stamped(0, 20), mark(21)]))
    assert shown(joined([first, second])) == [(0, 20), (1, 20)]


def test_what_no_mark_has_passed_waits() -> None:
    """If this fails, an event of the next batch comes after one that happened later."""
    merger = InTime()
    first = merger.feed(joined([stamped(0, 10, 30), mark(20)]))
    second = merger.feed(joined([stamped(1, 25), mark(31)]))
    assert shown(first) + shown(second) == [(0, 10), (1, 25), (0, 30)]
    assert not len(merger.rest())


def test_a_loss_stands_where_it_ends_and_moves_no_event() -> None:
    """If this fails, a loss that is told with its end in the future drags its CPU's events there,
    or a reader meets the events behind a gap before the gap."""
    parts = [loss(5, 30, Cause.OVERRUN, cpu=0, count=3), loss(0, 90, Cause.MISSED)]
    merged = InTime().feed(joined([*parts, stamped(0, 30), stamped(1, 30, 80), mark(100)]))
    kinds = [(Kind(kind).name, ts) for kind, ts in zip(merged["kind"], merged["ts"], strict=True)]
    assert kinds == [("LOSS", 30), ("MAP", 30), ("MAP", 30), ("MAP", 80), ("LOSS", 90)]
    late = [loss(0, 90, Cause.MISSED, cpu=0), stamped(0, 30), stamped(1, 40), mark(100)]
    assert shown(InTime().feed(joined(late))) == [(0, 30), (1, 40), (0, 90)]


def test_memory_is_bounded_where_marks_lag() -> None:
    """If this fails, a file whose MARKs never move is held in memory as a whole."""
    merger = InTime(most=100)
    got = [merger.feed(joined([stamped(i % 2, *range(i * 50, i * 50 + 50)), mark(1)])) for i in
           range(20)]  # fmt: skip
    assert merger.early
    assert len(merger._held) <= 100
    everything = joined([*got, merger.rest()])
    assert len(everything) == 1000
    for cpu in (0, 1):
        assert (np.diff(everything["ts"][everything["cpu"] == cpu].astype(np.int64)) > 0).all()


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60)), max_size=30),
    st.lists(st.integers(0, 30), max_size=4),
)
def test_cuts_change_nothing(events: list[tuple[int, int]], cuts: list[int]) -> None:
    """If this fails, the order depends on how the source cut its batches."""
    ordered = sorted(events, key=lambda event: event[1])
    records = joined([empty(), *(stamped(cpu, ts) for cpu, ts in ordered)])
    whole = InTime().feed(joined([records, mark(100)]))
    merger, parts, last = InTime(), [empty()], 0
    for cut in [*sorted(cut for cut in cuts if cut < len(records)), len(records)]:
        until = int(records["ts"][cut]) if cut < len(records) else 100
        parts.append(merger.feed(joined([records[last:cut], mark(until)])))
        last = cut
    assert shown(joined(parts)) == shown(whole)
