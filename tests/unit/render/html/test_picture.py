# SPDX-License-Identifier: Apache-2.0
"""What a finding's picture shows, before it is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ghesrace.checker.findings import Finding
from ghesrace.render.html.picture import Picture, picture
from ghesrace.sources.files import open_file
from tests.build.judging import judge_source
from tests.build.paths import EXAMPLES


@pytest.fixture(scope="module")
def found() -> list[Finding]:
    return judge_source(open_file(EXAMPLES / "control.arrows")).findings


def by_number(made: Picture) -> dict[int | None, float]:
    return {dot.n: dot.x for dot in made.dots}


def test_the_eight_steps_stand_in_order(found: list[Finding]) -> None:
    """If this fails, the picture tells another story than the witness."""
    for finding in found:
        made = picture(finding, 1000)
        numbers = [dot.n for dot in made.dots if dot.n]
        assert numbers == [1, 2, 3, 4, 5, 6, 7, 8]
        assert [dot.x for dot in made.dots] == sorted(dot.x for dot in made.dots)
        assert [lane.label[:9] for lane in made.lanes] == [
            f"CPU {finding.cpus[0]} = x",
            f"CPU {finding.cpus[1]} = y",
        ]
        assert made.left + max(dot.x for dot in made.dots) < made.width


def test_the_stale_translation_reaches_from_the_map_to_its_use(found: list[Finding]) -> None:
    """If this fails, the one thing that the picture is about is missing, or on the wrong CPU."""
    made = picture(found[0], 1000)
    at = by_number(made)
    [stale] = [bar for bar in made.bars if bar.stale]
    assert (stale.x, stale.x + stale.width) == pytest.approx((at[2], at[8]))
    assert stale.y == next(dot.y for dot in made.dots if dot.n == 8)
    frames = {bar.frame: bar for bar in made.bars if not bar.stale}
    assert (frames["p"].x, frames["p"].x + frames["p"].width) == pytest.approx((at[2], at[5]))
    assert frames["q"].x == at[7]
    assert frames["q"].y != frames["p"].y


def test_whiskers_are_where_time_is_open(found: list[Finding]) -> None:
    """If this fails, a time that nobody knows looks as if it were known."""
    steps = picture(found[0], 1000).dots
    at = {dot.n: dot.x for dot in steps}
    whiskers = {dot.n: dot.whisker for dot in steps if dot.n}
    assert whiskers[4] == pytest.approx((at[2], at[5]))
    assert whiskers[1] is whiskers[2] is whiskers[5] is None
    assert whiskers[8] is not None
    assert whiskers[8][0] < at[8] < whiskers[8][1]
    assert all(dot.whisker is None for dot in picture(found[0], 0).dots if dot.n in (6, 7, 8))
    exact = replace(found[0], steps=[s for s in found[0].steps if s.n != 8])
    read = replace(next(s for s in found[0].steps if s.n == 8), ts=None)
    exact.steps.insert(-2, read)
    untraced = next(dot for dot in picture(exact, 0).dots if dot.n == 8)
    assert untraced.mark == "unseen"
    assert untraced.whisker == pytest.approx((at[7], picture(exact, 0).dots[-1].x), rel=0.2)


def test_another_order_has_no_scale(found: list[Finding]) -> None:
    """If this fails, distances are shown that never were."""
    made = picture(replace(found[0], reordered=True), 1000)
    assert made.scale == []
    gaps = [b.x - a.x for a, b in zip(made.dots, made.dots[1:], strict=False)]
    assert gaps == pytest.approx([gaps[0]] * len(gaps))
    assert all("us;" not in dot.tip for dot in made.dots)


def test_tips_have_absolute_stamps(found: list[Finding]) -> None:
    """If this fails, what is seen in the picture can't be found in the trace."""
    dot = picture(found[0], 1000).dots[0]
    assert dot.tip == "93.488573810 s, 0.000 us; CPU 0, irq: takes a GHES notification"


def test_every_pattern_has_a_picture(everything: Path) -> None:
    """If this fails, a finding of another pattern ends in a traceback, or its edit has no bar."""
    report = judge_source(open_file(everything))
    assert {finding.pattern for finding in report.findings} == {
        *("stale", "torn_edit", "shootdown", "overlap"),
    }
    for finding in report.findings:
        made = picture(finding, 1000)
        assert len(made.dots) == len(finding.steps)
        assert all(bar.x >= 0 and bar.width >= 0 for bar in made.bars)
        if any(step.event == "edit" for step in finding.steps):
            assert made.bars[0].frame == "other"
            assert made.bars[0].width > 100
    assert picture(Finding("stale", "observed", "read", "a", (0, 1), None, "", []), 9).dots == []
