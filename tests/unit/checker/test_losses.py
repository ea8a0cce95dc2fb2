# SPDX-License-Identifier: Apache-2.0
"""What a loss may have hidden, and which episodes it leaves open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ghesrace.checker.losses import Windows, hides, touched
from ghesrace.checker.report import Verdict
from ghesrace.events import ALL_CPUS, Cause, Kind, empty, loss, select
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


def of(*losses: np.ndarray) -> np.ndarray:
    """LOSS records under their own columns' names."""
    return select(np.concatenate([empty(), *losses]), Kind.LOSS)


def some_losses() -> np.ndarray:
    return of(
        loss(100, 200, Cause.MISSED, point=POINTS.index("MAP")),
        loss(100, 200, Cause.MISSED, point=POINTS.index("READ")),
        loss(100, 200, Cause.OVERRUN),
        loss(100, 200, Cause.NMI_UNMATCHED, point=POINTS.index("READ")),
    )


def test_a_loss_hides_what_its_probe_sees() -> None:
    """A lost read would make an unmap uncertain, or a lost map nothing."""
    assert hides(plan(), some_losses(), (Kind.MAP, Kind.UNMAP)).tolist() == [
        True,
        False,
        True,
        True,
    ]
    assert hides(plan(), some_losses(), (Kind.READ,)).tolist() == [False, True, True, True]
    assert not hides(plan(), some_losses(), (Kind.UNMAP,))[0]
    both = plan()  # fixmap's setter: one probe is map and unmap
    setter = tuple(replace(p, clear_kind="UNMAP") if p.kind == "MAP" else p for p in both.probes)
    hidden = hides(replace(both, probes=setter), some_losses(), (Kind.UNMAP,))
    assert hidden.tolist() == [True, False, True, True]


def test_windows_touch_what_they_meet() -> None:
    """A loss would blame what lies outside of it, or miss what lies at its edge or within."""
    lost = of(loss(500, 600, Cause.OVERRUN), loss(100, 900, Cause.OVERRUN))
    windows = Windows.of(lost, np.array([True, True]), error=10)
    begin = np.array([0, 0, 910, 911, 700, 650])
    end = np.array([89, 90, 950, 950, 800, 2000])
    assert windows.touch(begin, end).tolist() == [False, True, True, False, True, True]
    first = Windows.of(lost, np.array([True, False]), error=0, older_end=50)
    assert first.touch(np.array([0, 50, 51]), np.array([0, 60, 60])).tolist() == [True, True, False]
    nothing = Windows.of(of(), np.zeros(0, bool), error=10)
    assert nothing.touch(begin, end).tolist() == [False] * 6


def test_a_loss_touches_its_own_cpu_or_all() -> None:
    """One CPU's loss would make all CPUs' episodes uncertain, or one of unknown CPU none."""
    mine = of(loss(100, 200, Cause.OVERRUN, cpu=1))
    cpus, begin, end = np.array([0, 1, 2]), np.array([150] * 3), np.array([160] * 3)
    p = plan(error=0)
    assert touched(p, mine, cpus, begin, end).tolist() == [False, True, False]
    mine["cpu"] = ALL_CPUS
    assert touched(p, mine, cpus, begin, end).tolist() == [True, True, True]
    late = np.array([205] * 3)
    assert not touched(p, mine, cpus, late, late).any()
    assert touched(plan(error=10), mine, cpus, late, late).all()
