# SPDX-License-Identifier: Apache-2.0
"""The witness of a stale read: the eight steps, out of raw events."""

from __future__ import annotations

import numpy as np
import pytest

from ghesrace.checker import witness
from ghesrace.checker.core.holds import Episode
from ghesrace.checker.core.run import Core
from ghesrace.checker.event_store import MOST_EVENTS, EventStore
from ghesrace.checker.findings import Finding, Step
from ghesrace.checker.witness import steps
from ghesrace.events import Cause, Context, Kind, mark
from tests.build.judging import judge
from tests.build.trace import STEP, A, B, Trace, V, batches, plan


def found(trace: Trace) -> Finding:
    return judge(plan(), trace.stream()).findings[0]


def test_each_event_of_a_witness_has_words_of_its_own() -> None:
    """A step would say that a CPU invalidated all of its TLB where that was a range."""
    others = {Kind.EDIT, Kind.EDIT_END, Kind.SHOOTDOWN}  # They are of other patterns.
    summaries = {kind for kind in Kind if Kind.NMI_REF < kind < Kind.LOSS}
    known = {kind for kind in Kind if kind < Kind.LOSS} - others - summaries
    assert witness._TEXT.keys() == known | {Kind.NMI_REF}
    assert len({*witness._TEXT.values()}) == len(witness._TEXT)


def race(**how: object) -> Trace:
    trace = Trace()
    for cpu, frame in ((0, A), (1, B)):
        trace.report(cpu, frame, **how)
    return trace


def numbered(finding: Finding) -> dict[int, Step]:
    return {step.n: step for step in finding.steps if step.n is not None}


def test_each_step_has_its_cpu_its_stamp_and_its_words() -> None:
    """An engineer who looks the stamps up in a trace would find something else there."""
    trace = race()
    eight = numbered(found(trace))
    assert list(eight) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [eight[n].cpu for n in range(1, 9)] == [0, 0, 1, 1, 0, 1, 1, 1]
    assert [eight[n].side for n in range(1, 9)] == list("xxyyxyyy")
    start, second = 1_000_000, 1_000_000 + 9 * STEP
    stamps = {1: start + STEP, 2: start + 3 * STEP, 5: start + 5 * STEP}
    stamps |= {6: second + STEP, 7: second + 3 * STEP, 8: second + 4 * STEP}
    assert {n: eight[n].ts for n in stamps} == stamps
    assert (eight[3].ts, eight[4].ts) == (None, None)  # nobody can trace them
    assert f"irq->{A:#x}" in eight[4].text
    assert eight[7].text == f"maps {B:#x} at irq"


def test_an_access_that_is_not_traced_is_shown_without_a_stamp() -> None:
    """A made-up time would stand in the witness, or step 8 be missing."""
    eight = numbered(found(race(read=False)))
    assert eight[8].ts is None
    assert "not traced" in eight[8].text
    order = [step.n for step in found(race(read=False)).steps if step.n]
    assert order == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_write_is_called_one() -> None:
    """A corrupted page would look like junk that was read."""
    finding = found(race(write=True))
    assert (finding.access, numbered(finding)[8].event) == ("write", "write")


def told(trace: Trace, *cuts: int) -> tuple[EventStore, list[Episode]]:
    """The episodes of a trace, and where their events are found; the stream is cut at *cuts*."""
    core, store, judged = Core(plan()), EventStore(), []
    for batch in batches(trace.stream(), *cuts):
        store.take(batch)
        judged += core.feed(batch)
        store.set_all_aside(core, [])
    judged += core.finish()
    return store, [one.episode for one in judged]


def kinds(store: EventStore, episode: Episode) -> list[str]:
    return [Kind(int(kind)).name for kind in store.of(episode)["kind"]]


def test_events_of_an_episode_are_those_of_its_cpu_and_context() -> None:
    """An NMI, another CPU or the next report would stand in the witness."""
    trace = Trace()
    trace.add(0, Kind.NOTIFY)
    trace.add(0, Kind.COPY, phys=A)
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.page(0, B, ctx=Context.NMI)
    trace.add(1, Kind.INV_ALL)
    trace.add(0, Kind.UNMAP, slot=0)
    trace.add(0, Kind.INV_PAGE)
    trace.report(0, B)
    store, episodes = told(trace)
    [first] = [one for one in episodes if one.seq_map == 3]
    assert kinds(store, first)[:5] == ["NOTIFY", "COPY", "MAP", "UNMAP", "INV_PAGE"]
    assert set(store.of(first)["cpu"].tolist()) == {0}
    assert set(store.of(first)["ctx"].tolist()) == {Context.IRQ}


def test_losses_and_marks_are_no_events_of_a_task() -> None:
    """A witness would show events of kinds that nobody traced, of CPU 0's tasks."""
    trace = Trace()
    trace.add(0, Kind.NOTIFY, Context.TASK)
    trace.add(0, Kind.MAP, Context.TASK, phys=A, slot=0)
    trace.lose(trace.now, trace.now, cause=Cause.OVERRUN, cpu=0)
    trace.records.append(mark(trace.now))
    for kind in (Kind.READ, Kind.UNMAP, Kind.NOTIFY_END):
        trace.add(0, kind, Context.TASK, addr=V, slot=0)
    core, store, batch = Core(plan()), EventStore(), trace.stream()
    store.take(batch)
    [one] = [*core.feed(batch), *core.finish()]
    assert kinds(store, one.episode) == ["NOTIFY", "MAP", "READ", "UNMAP", "NOTIFY_END"]


@pytest.mark.parametrize("copies", [True, False])
def test_the_second_page_has_not_the_first_ones_unmap(copies: bool) -> None:
    """The first page's flush, which in another order is long ago, would seem to precede the map."""
    trace = Trace()
    trace.report(0, A, B)
    if not copies:
        trace.records = [
            records[~np.isin(records["kind"], (Kind.COPY, Kind.COPY_END))]
            for records in trace.records
        ]
    store, episodes = told(trace)
    begin = ["NOTIFY", "COPY"] if copies else ["NOTIFY"]
    expected = [*begin, "MAP", "READ", "UNMAP", "INV_PAGE"]
    assert kinds(store, episodes[1])[: len(expected)] == expected


@pytest.mark.parametrize("cut", range(1, 12))
def test_events_outlive_their_batch(cut: int) -> None:
    """A live source's witness would lack what came in the batch before."""
    trace = race()
    whole, cut_up = told(trace), told(trace, cut)
    for (store, one), (other, same) in zip(
        [(whole[0], episode) for episode in whole[1]],
        [(cut_up[0], episode) for episode in cut_up[1]],
        strict=True,
    ):
        assert store.of(one).tolist() == other.of(same).tolist()


def test_an_episode_has_no_events_without_end() -> None:
    """A foreign file can claim any number of reads in one episode: its witness would eat all
    memory, and the report be unreadable."""
    trace = Trace()
    trace.add(0, Kind.NOTIFY)
    trace.add(0, Kind.MAP, phys=A, slot=0)
    for _ in range(500):
        trace.add(0, Kind.READ, addr=V)
    trace.add(0, Kind.UNMAP, slot=0)
    trace.add(0, Kind.NOTIFY_END)
    store, [episode] = told(trace, *range(10, 500, 10))
    assert len(store.of(episode)) == MOST_EVENTS


def test_luck_stands_between_the_two_episodes() -> None:
    """What saved y would stand after its read, where it saves nothing."""
    store, [x, y] = told(race())
    lines = steps(plan(), x, store.of(x), y, store.of(y), luck="an unrelated flush")
    at = next(i for i, step in enumerate(lines) if step.event == "luck")
    assert {step.side for step in lines[:at] if step.ts is not None} == {"x"}
    assert {step.side for step in lines[at:]} == {"y"}
    assert lines[at].text == "an unrelated flush"
