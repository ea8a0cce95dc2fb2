# SPDX-License-Identifier: Apache-2.0
"""Captures of earlier releases, as they were in examples/: they are read and judged as then."""

from __future__ import annotations

import json

import pytest

from ghesrace import cli
from ghesrace.errors import HostError
from ghesrace.plan import Text
from ghesrace.render.plan import render_plan_text
from ghesrace.sources.capture.file import CaptureSource
from ghesrace.sources.tracefs_text import body, condition
from tests.build.paths import FIXTURES

CAPTURES = FIXTURES / "captures"
SAFE = ("fresh", "broadcast", "map-flush", "same-frame")


@pytest.mark.parametrize(
    ("name", "code", "verdict", "events", "episodes", "unsafe"),
    [
        ("stock", 0, "clean", 1738, {"GHES_IRQ": 95, "GHES_NMI": 115}, 0),
        (
            "control",
            1,
            "race-observed",
            284,
            {"ghes2015:irq": 20, "ghes2015:nmi": 0, "GHES_IRQ": 4, "GHES_NMI": 0},
            11,
        ),
    ],
)
def test_it_is_judged_as_then(
    capsys: pytest.CaptureFixture[str],
    name: str,
    code: int,
    verdict: str,
    events: int,
    episodes: dict[str, int],
    unsafe: int,
) -> None:
    """If this fails, somebody's evidence of last year says something else today, or nothing."""
    path = CAPTURES / f"0.1.0-{name}.arrows"
    assert cli.main(["check", "--format", "json", str(path)]) == code
    report = json.loads(capsys.readouterr().out)
    assert (report["verdict"], report["events"], report["lost"]) == (verdict, events, 0)
    assert {slot["name"]: slot["episodes"] for slot in report["slots"]} == episodes
    counts = [slot["classes"] for slot in report["slots"]]
    assert sum(n for count in counts for word, n in count.items() if word not in SAFE) == unsafe


@pytest.mark.parametrize("name", ["stock", "control"])
def test_its_plan_is_text_that_is_shown_and_not_attached(name: str) -> None:
    """If this fails, text of a file is taken for something to hand to the kernel."""
    plan = CaptureSource(CAPTURES / f"0.1.0-{name}.arrows").plan
    fetched = [fetch for probe in plan.probes for fetch in probe.fields.values()]
    assert fetched
    assert {type(fetch) for fetch in fetched} == {Text}
    filtered = next(probe for probe in plan.probes if probe.filter is not None)
    assert isinstance(filtered.filter, Text)
    assert filtered.filter.text.split()[0] in render_plan_text(plan)
    with pytest.raises(HostError, match="version 1"):
        condition(filtered)
    with pytest.raises(HostError, match="version 1"):
        body(plan, next(p for p in plan.probes if p.fields))
