# SPDX-License-Identifier: Apache-2.0
"""The engine as a whole: from a stream to the verdict, whatever it is cut into."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ghesrace.checker import engine as module
from ghesrace.checker.engine import Engine
from ghesrace.checker.report import Verdict
from ghesrace.errors import InputError
from ghesrace.events import Cause, empty, joined, loss, mark
from tests.build.judging import judge
from tests.build.trace import A, Trace, batches, bounce, plan


def test_start_is_forgiven_only_if_a_later_episode_was_judged() -> None:
    """A capture of one notification proves nothing about what its CPU held before."""
    trace = Trace()
    trace.report(0, A)
    assert judge(plan(), trace.stream()).verdict is Verdict.INCONCLUSIVE
    trace.report(0, A)
    assert judge(plan(), trace.stream()).verdict is Verdict.CLEAN
    trace.report(1, A)
    assert "1 start" in judge(plan(), trace.stream()).reasons[0]


def test_nothing_seen_is_not_clean() -> None:
    """Quiet and blind must not look the same."""
    report = judge(plan(), Trace().stream())
    assert (report.verdict, report.reasons) == (Verdict.INCONCLUSIVE, ["no-traffic"])


def test_an_unchecked_pattern_is_not_clean() -> None:
    """A plan without its probe points can't vouch for anything."""
    blind = replace(plan(), not_checked={"stale": "no symbol unmaps a slot"})
    report = judge(blind, bounce(flush=True).stream())
    assert report.verdict is Verdict.INCONCLUSIVE
    assert not report.patterns["stale"].checked
    # The plan's own reason says more than that the points are missing.
    because = judge(replace(blind, probes=()), mark(1_000)).patterns["stale"].not_checked_because
    assert because == "no symbol unmaps a slot"


def test_a_stream_without_marks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that claims events without end, and never a MARK, would eat all memory."""
    monkeypatch.setattr(module, "MAX_UNMARKED", 100)
    stream = bounce(20).stream()[:-1]  # without its MARK
    engine = Engine(plan())
    engine.feed(stream[:90])
    with pytest.raises(InputError, match="without a MARK"):
        engine.feed(stream[90:])


def test_a_follower_reports_on_what_it_followed() -> None:
    """A window of a daemon would be empty, or tell of what came before it."""
    parts = batches(bounce(12).stream(), 20, 60)
    leader = Engine(plan())
    window = leader.follower()
    for part in parts[:2]:
        leader.feed(part)
        window.follow(leader, part)
    later = leader.follower()
    leader.feed(parts[2])
    for one in (window, later):
        one.follow(leader, parts[2])
    leader.finish()
    for one in (window, later):
        one.follow(leader, empty())
    assert repr(window.report()) == repr(leader.report())
    whole, rest = leader.report().slots[0].episodes, later.report().slots[0].episodes
    assert 0 < rest < whole
    assert later.found
    assert later.report().events == len(parts[2]) - 1


def test_a_file_that_ends_early_is_told_beside_other_losses() -> None:
    """The end of what was recorded may have been a race."""
    engine = Engine(plan())
    engine.feed(bounce(flush=True).stream())
    engine.feed(joined([loss(1, 2, Cause.OVERRUN), loss(1, 2, Cause.TRUNCATED)]))
    engine.finish()
    assert engine.report().truncated
    assert "truncated" in engine.report().reasons


@pytest.mark.parametrize("cause", [Cause.PROBE_GONE, Cause.UNWATCHED, Cause.OVERRUN])
def test_a_probe_that_failed_is_told(cause: Cause) -> None:
    """Nobody would know that a probe point must be mended, or all look for one."""
    report = judge(plan(), joined([bounce(flush=True).stream(), loss(1, 2, cause)]))
    assert ("probe-failed" in report.reasons) is (cause == Cause.PROBE_GONE)


@pytest.mark.parametrize(
    ("kind", "blind"),
    [
        ("MAP", {"stale", "overlap"}),
        ("UNMAP", {"stale", "overlap"}),
        ("EDIT", {"torn_edit"}),
        ("EDIT_END", set()),
        ("SHOOTDOWN", {"shootdown"}),
        ("READ", set()),
    ],
)
def test_what_each_pattern_needs(kind: str, blind: set[str]) -> None:
    """A pattern would be called checked where nothing shows what it looks for."""
    probes = tuple(probe for probe in plan().probes if probe.kind != kind)
    patterns = judge(replace(plan(), probes=probes), Trace().stream()).patterns
    assert {name for name, of in patterns.items() if not of.checked} == blind
