# SPDX-License-Identifier: Apache-2.0
"""What the daemon's page says of a watch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ghesrace.events import Cause, loss, mark
from ghesrace.service.health import Health, HealthState
from ghesrace.service.page import LastSeen, told
from ghesrace.service.watch import Watch
from tests.build.trace import plan
from tests.unit.service.metrics.watched import racing, recorder


def test_a_race_is_told_with_when(tmp_path: Path) -> None:
    """If this fails, the page is behind what metrics and log say."""
    watch, seen = racing(), LastSeen()
    seen.note(watch.report.findings, 1e9)
    page = told(watch, Health(HealthState.WATCHING, "bpf"), recorder(tmp_path), seen, None)
    assert page.verdict == "race-observed"
    assert [f.pattern for f in page.findings] == [f.pattern for f in watch.report.findings]
    assert set(page.latest) == {"2001-09-09 01:46:40 UTC"}
    assert page.since
    assert ("Events lost", "3", False) in page.health


def test_the_engine_counts_on_in_its_own(tmp_path: Path) -> None:
    """If this fails, a page is drawn of a finding that changes under the pen."""
    watch = racing()
    page = told(watch, Health(), recorder(tmp_path), LastSeen(), None)
    mine, own = page.findings[0], watch.report.findings[0]
    before = len(mine.occurrences)
    own.count += 1
    own.occurrences.append(own.occurrences[0])
    assert mine.count == own.count - 1
    assert len(mine.occurrences) == before


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("gone", "attached, "),
        ("reload", "the last reload was refused"),
        ("web", "no bcrypt"),
        ("recorder", "can't write"),
        ("stopped", "none yet"),
    ],
)
def test_what_is_not_well_is_marked(tmp_path: Path, what: str, words: str) -> None:
    """If this fails, a blind daemon's page looks like a quiet one's."""
    watch, health = Watch(plan(), 3600), Health(HealthState.WATCHING, "bpf", heartbeat=1.0)
    kept = recorder(tmp_path)
    watch.feed(mark(1000))

    def bad() -> list[str]:
        refused = "no bcrypt" if what == "web" else None
        page = told(watch, health, kept, LastSeen(), refused)
        return [value for _, value, good in page.health if not good]

    if what != "web":
        assert bad() == []
    if what == "gone":
        watch.feed(loss(1000, 2000, Cause.PROBE_GONE, point=0))
    elif what == "reload":
        health.reload_ok = False
    elif what == "recorder":
        kept.healthy = False
    elif what == "stopped":
        health.state, health.heartbeat = HealthState.STOPPING, 0.0
    assert any(words in value for value in bad())


def test_what_the_plan_lacks_is_told(tmp_path: Path) -> None:
    """If this fails, a kernel that hides a point looks fully watched."""
    half = replace(plan(), not_checked={"overlap": "no hook"}, unknowns=("implications",))
    page = told(Watch(half, 3600), Health(), recorder(tmp_path), LastSeen(), None)
    assert ("Patterns not checked", "overlap: no hook", False) in page.health
    assert page.rests_on == ("implications",)
    assert page.verdict == "inconclusive"
