# SPDX-License-Identifier: Apache-2.0
"""The witness of a stale read: the eight steps, out of raw events."""

from __future__ import annotations

import numpy as np
import pytest

from ghesrace.checker.findings import Finding, Step
from ghesrace.checker.model import EPISODE, Mark
from ghesrace.checker.witness import EventStore, episode_key, steps
from ghesrace.events import Context, Events, Kind
from tests.build.judging import judge
from tests.build.trace import STEP, A, B, Trace, plan


def found(trace: Trace) -> Finding:
    return judge(plan(), trace.stream()).findings[0]


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


def row(cpu: int, entry: int, at: int, close: int) -> np.void:
    made = np.zeros(1, EPISODE)
    made["cpu"], made["ctx"], made["seq_entry"] = cpu, Context.IRQ, entry
    made["seq_map"], made["seq_close"], made["frame"] = at, close, A
    return made[0]


def sorted_events(trace: Trace) -> Events:
    events = np.concatenate(trace.records)
    return events[np.lexsort((events["seq"], events["cpu"]))]


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
    last = trace.seq[0]
    trace.report(0, B)
    store = EventStore(sorted_events(trace))
    kinds = [Kind(int(k)).name for k in store.of(row(0, 1, 3, last))["kind"]]
    assert kinds == ["NOTIFY", "COPY", "MAP", "UNMAP", "INV_PAGE"]


@pytest.mark.parametrize("copies", [True, False])
def test_the_second_page_has_not_the_first_ones_unmap(copies: bool) -> None:
    """The first page's flush, which in another order is long ago, would seem to precede the map."""
    trace = Trace()
    trace.report(0, A, B)
    events = sorted_events(trace)
    if not copies:
        events = events[~np.isin(events["kind"], (Kind.COPY, Kind.COPY_END))]
    at = int(events["seq"][events["kind"] == Kind.MAP][1])
    close = int(events["seq"][events["kind"] == Kind.UNMAP][1]) + 1
    kinds = [Kind(int(k)).name for k in EventStore(events).of(row(0, 1, at, close))["kind"]]
    begin = ["NOTIFY", "COPY"] if copies else ["NOTIFY"]
    assert kinds == [*begin, "MAP", "READ", "UNMAP", "INV_PAGE"]


def test_kept_events_outlive_their_chunk_and_others_do_not() -> None:
    """A threat's witness would be lost at the next batch, or memory grow with the run."""
    trace = race()
    events = sorted_events(trace)
    x, y = row(0, 1, 3, 6), row(1, 1, 3, 6)
    store = EventStore(events)
    wanted = store.of(x)
    assert len(wanted) > 3
    store.keep(np.array([x], EPISODE))
    store.events = events[:0]
    assert np.array_equal(store.of(x), wanted)
    assert len(store.of(y)) == 0
    store.keep(np.array([y], EPISODE))
    assert set(store.kept) == {episode_key(y)}
    assert len(store.of(x)) == 0


def test_luck_stands_between_the_two_episodes() -> None:
    """What saved y would stand after its read, where it saves nothing."""
    trace = race()
    events = sorted_events(trace)
    x, y = row(0, 1, 3, 6), row(1, 1, 3, 6)
    y["marks"] = Mark.UNMAPPED
    store = EventStore(events)
    told = steps(plan(), x, store.of(x), y, store.of(y), luck="an unrelated flush")
    at = next(i for i, step in enumerate(told) if step.event == "luck")
    assert {step.side for step in told[:at] if step.ts is not None} == {"x"}
    assert {step.side for step in told[at:]} == {"y"}
    assert told[at].text == "an unrelated flush"
