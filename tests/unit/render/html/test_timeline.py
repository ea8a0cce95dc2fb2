# SPDX-License-Identifier: Apache-2.0
"""Classes over time."""

from __future__ import annotations

import numpy as np

from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Class
from ghesrace.events import Kind
from ghesrace.plan import Plan
from ghesrace.render.html.timeline import Timeline
from tests.build.trace import Trace, batches, bounce, plan


def fed(the_plan: Plan, trace: Trace, *cuts: int) -> tuple[Timeline, Engine]:
    timeline, engine = Timeline(), Engine(the_plan)
    for batch in batches(trace.stream(), *cuts):
        judged = engine.feed(batch)
        timeline.note(batch)
        timeline.add(judged)
    timeline.add(engine.finish())
    return timeline, engine


def test_each_episode_is_in_the_piece_of_its_map() -> None:
    """If this fails, a race is shown at a time at which none was."""
    trace = bounce(4, flush=True)
    calm = trace.now
    trace.now += 50_000_000
    bounce(4, into=trace)
    timeline, engine = fed(plan(), trace)
    pieces = timeline.pieces(0)
    total = np.sum([classes for _, classes in pieces], axis=0).tolist()
    assert total == engine.report().slots[0].classes
    racy = [begin for begin, classes in pieces if classes[Class.NONE]]
    assert racy
    assert min(racy) > calm
    assert (timeline.begin, timeline.end) == (1_010_000, trace.now)


def test_time_is_divided_in_120_pieces_at_most() -> None:
    """If this fails, a day's recording makes a page of many megabytes, or loses episodes."""
    trace = Trace()
    for _ in range(40):
        bounce(2, into=trace)
        trace.now *= 2
    timeline, engine = fed(plan(), trace, *range(100, 1000, 100))
    pieces = timeline.pieces(0)
    maps = trace.stream()
    maps = maps[maps["kind"] == Kind.MAP]["ts"].tolist()
    for begin, classes in pieces:
        inside = [ts for ts in maps if begin <= ts < begin + timeline.width]
        assert len(inside) == sum(classes)
    assert len(pieces) <= 120
    assert sum(map(sum, (classes for _, classes in pieces))) == engine.report().slots[0].episodes
    assert len(timeline.classes[0]) == 120


def test_nothing_at_all() -> None:
    """If this fails, a recording without traffic has no page."""
    timeline = Timeline()
    timeline.note(Trace().stream())
    timeline.add([])
    assert timeline.pieces(0) == []
    assert timeline.begin is None
