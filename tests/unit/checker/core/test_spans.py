# SPDX-License-Identifier: Apache-2.0
"""What lasts: where it ends, that it comes once, and how little is remembered of it."""

from __future__ import annotations

import numpy as np
import pytest

from ghesrace.checker.core.spans import Tracker
from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Spans, What
from ghesrace.events import NEVER, Context, Events, Kind
from ghesrace.plan import Slot
from tests.build.trace import STEP, A, B, Trace, V, batches, plan

SECOND = 1_000_000_000


def spans(trace: Trace, *, watermark: int = NEVER) -> Spans:
    stream = trace.stream()
    events = stream[stream["kind"] < Kind.LOSS]
    return Tracker(plan()).step(events, stream[:0], watermark)


def of(found: Spans, what: What) -> Events:
    return found.over[found.over["what"] == what]


def test_a_use_lasts_to_the_end_of_its_unmap() -> None:
    """A slot would look free while its entry is being cleared, or taken long after."""
    trace = Trace()
    trace.report(0, A)
    (use,) = of(spans(trace), What.USE)
    times = {Kind(int(e["kind"])): int(e["ts"]) for e in trace.records[2:6] for e in e}
    assert (use["t"], use["t_sure"]) == (times[Kind.MAP], times[Kind.UNMAP])
    assert use["t_end"] == times[Kind.UNMAP] + STEP  # its flush, in the same context
    assert use["ended"]


def test_an_unmap_without_a_trace_of_its_end_is_over_when_it_begins() -> None:
    """The next event, a whole handler later, would make each hand-off undecidable."""
    trace = Trace()
    trace.add(0, Kind.NOTIFY)
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.add(0, Kind.UNMAP, slot=0)
    trace.add(0, Kind.NOTIFY_END)
    (use,) = of(spans(trace), What.USE)
    assert use["t_end"] == use["t_sure"] == use["t"] + STEP


def test_a_use_without_its_unmap_has_no_end_that_was_seen() -> None:
    """The slot would be taken for used until the next map, and another CPU's use for a race."""
    trace = Trace()
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.add(0, Kind.NMI_REF, Context.TASK)
    (use,) = of(spans(trace), What.USE)
    assert not use["ended"]


def test_an_edit_of_a_preempted_task_ends_where_the_task_goes_on() -> None:
    """Another task's end would be taken for it, or its own on another CPU be missed."""
    trace = Trace()
    for cpu, kind, pid in (
        (0, Kind.EDIT, 7),
        (0, Kind.EDIT, 8),
        (0, Kind.EDIT_END, 8),
        (1, Kind.EDIT_END, 7),
    ):
        trace.add(cpu, kind, Context.TASK, pid=pid, addr=V, size=4096)
    first, second = sorted(of(spans(trace), What.EDIT), key=lambda s: int(s["t"]))
    assert (first["pid"], first["t_end"] - first["t"]) == (7, 3 * STEP)
    assert (second["pid"], second["t_end"] - second["t"]) == (8, STEP)
    assert first["ended"]
    assert second["ended"]


def test_the_end_of_an_edit_that_was_filtered_out_ends_nothing() -> None:
    """A return probe can't be filtered by the function's arguments: most ends have no begin."""
    trace = Trace()
    trace.add(0, Kind.EDIT_END, Context.TASK)
    trace.add(0, Kind.EDIT, Context.TASK, addr=V, size=4096)
    trace.add(0, Kind.EDIT_END, Context.TASK)
    trace.add(0, Kind.EDIT_END, Context.TASK)
    (edit,) = of(spans(trace), What.EDIT)
    assert edit["t_end"] - edit["t"] == STEP


def test_what_never_ends_is_given_up_after_a_second() -> None:
    """One lost end would be remembered for ever, and meet all that comes."""
    trace = Trace()
    trace.add(0, Kind.EDIT, Context.TASK, addr=V, size=4096)
    begin = trace.now
    waiting = spans(trace, watermark=begin + SECOND)
    assert (len(waiting.over), len(waiting.open)) == (0, 1)
    (edit,) = of(spans(trace, watermark=begin + SECOND + 1), What.EDIT)
    assert not edit["ended"]
    assert edit["t_end"] == begin + SECOND


@pytest.mark.slow
def test_the_state_does_not_grow_with_the_run() -> None:
    """A daemon that watches for months would eat all memory."""
    slots = (Slot("irq", 644, V, "report"), Slot("nmi", 645, V - 4096, "report"))
    trace = Trace()
    for i in range(600):
        trace.add(i % 3, Kind.EDIT, Context.TASK, addr=V, size=4096)
        trace.report(i % 3, (A, B)[i % 2], flush=True)
        trace.add(i % 3, Kind.EDIT_END, Context.TASK)
    stream = trace.stream()
    engine = Engine(plan(*slots, cpus=3))
    most = 0
    for batch in batches(stream, *range(0, len(stream), 23)):
        engine.feed(batch)
        kept = [m._kept for p in engine.patterns for m in _meetings(p)]
        most = max(most, len(engine.tracker._open) + sum(map(len, kept)))
    assert 0 < most < 40
    engine.finish()
    assert np.isin(engine.report().patterns["torn_edit"].observed, (1200,))


def _meetings(pattern: object) -> list[object]:
    found = [getattr(pattern, name, None) for name in ("_writes", "_calls", "_meetings")]
    return [m for f in found if f is not None for m in (f if isinstance(f, list) else [f])]
