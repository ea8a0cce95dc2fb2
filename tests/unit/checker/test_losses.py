# SPDX-License-Identifier: Apache-2.0
"""What a loss may have hidden, and which episodes it leaves open."""

from __future__ import annotations

import pytest

from ghesrace.checker.report import Verdict
from ghesrace.events import Cause
from tests.build.judging import classes, judge
from tests.build.trace import POINTS, STEP, A, B, Trace, bounce, plan


@pytest.mark.parametrize(
    ("how", "cls"),
    [
        ({"cause": Cause.OVERRUN, "cpu": 1, "count": 3}, "UNCERTAIN"),
        ({"cause": Cause.MISSED, "point": POINTS.index("INV_PAGE"), "count": 1}, "UNCERTAIN"),
        ({"cause": Cause.MISSED, "point": POINTS.index("READ"), "count": 1}, "NONE"),
    ],
)
def test_a_loss_that_may_hide_a_flush_makes_none_uncertain(how: dict[str, int], cls: str) -> None:
    """A lost flush event must not become a false race; a lost read hides no flush."""
    trace = Trace()
    trace.report(0, A)
    trace.report(1, B)
    begin = trace.now
    trace.report(0, A)
    trace.lose(begin, trace.now, **how)
    assert classes(judge(plan(), trace.stream())).get(cls) in (1, 2)


def test_a_loss_that_may_hide_a_map_makes_safe_uncertain() -> None:
    """Another frame may have been mapped unseen; only an own flush on map rules it out."""
    trace = bounce(frames=(A,))
    begin = trace.now
    for i in range(4):
        trace.report(i % 2, A)
    trace.lose(begin, begin + STEP, cause=Cause.OVERRUN, cpu=0, count=9)
    report = judge(plan(), trace.stream())
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.lost == 9
    assert sum(report.slots[0].uncertain) - report.slots[0].uncertain_at_start == 2
    flushed = bounce(flush=True)
    flushed.lose(flushed.now - STEP, flushed.now, cause=Cause.OVERRUN, cpu=0, count=9)
    report = judge(plan(), flushed.stream())
    assert classes(report) == {"MAP_FLUSH": 6}
    assert report.verdict is Verdict.INCONCLUSIVE  # the lost episodes were not judged


def test_an_unmatched_nmi_may_hide_anything() -> None:
    """It names the reference's probe point, but its handler's maps and flushes were missed too."""
    point = POINTS.index("NOTIFY")  # as harmless as the reference's
    lost = {"cause": Cause.NMI_UNMATCHED, "cpu": 0, "count": 1, "point": point}
    safe = bounce(flush=True)
    safe.lose(safe.now - STEP, safe.now, **lost)
    assert judge(plan(), safe.stream()).verdict is Verdict.INCONCLUSIVE
    racy = Trace()
    racy.report(0, A)
    begin = racy.now
    racy.report(1, B)
    racy.lose(begin, racy.now, **lost)
    assert "NONE" not in classes(judge(plan(), racy.stream()))
