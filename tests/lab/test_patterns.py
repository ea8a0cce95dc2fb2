# SPDX-License-Identifier: Apache-2.0
"""Each pattern fires on the control module, live, and none on the stock kernel's storm.

A backend is one way to record: `capture --backend NAME`. Every test here runs on each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ghesrace.checker.model import Class
from ghesrace.checker.report import Report, Verdict
from ghesrace.sources.files import open_file
from lab.inside.recording import capture_while, storm
from lab.module.device import JUNK, Outcome, Parameters
from lab.module.run import inserted, run
from tests.build.judging import judge_source
from tests.oracle.witness import reaches_stale

ROUNDS = 25
BACKENDS = {name: ("--backend", name) for name in ("ftrace", "bpf")}

Record = Callable[[str, Callable[[], None]], Report]


@pytest.fixture(params=BACKENDS, ids=str)
def record(request: pytest.FixtureRequest, share: Path) -> Record:
    """Records while something runs, and judges it."""

    def recorded(name: str, traffic: Callable[[], None]) -> Report:
        path = share / f"{name}-{request.param}.arrows"
        assert capture_while(traffic, path, *BACKENDS[request.param]) == 0
        source = open_file(path)
        return judge_source(source)

    return recorded


def control(record: Record, name: str, parameters: Parameters) -> tuple[Report, Outcome]:
    """What was said of one run of the control module, and what really happened."""
    outcomes: list[Outcome] = []
    with inserted():
        report = record(name, lambda: outcomes.append(run(parameters)))
    return report, outcomes[0]


@pytest.mark.parametrize(("torn", "severity"), [(1, "observed"), (2, "predicted")])
def test_an_nmi_inside_an_edit_is_a_torn_edit(record: Record, torn: int, severity: str) -> None:
    """The edit, the NMI or their order is not seen: the pattern would never fire."""
    report, outcome = control(
        record, f"torn-{torn}", Parameters(rounds=ROUNDS, torn=torn, fix="flush-on-map")
    )
    assert outcome.summary["nmi_taken"] == outcome.summary["edits"] > 0
    result = report.patterns["torn_edit"]
    # A map and an unmap of each NMI; an unmap allocates no table. But for what a loss touched.
    edits = outcome.summary["edits"] * (2 if torn == 1 else 1)
    assert 0 < getattr(result, severity) <= edits
    assert getattr(result, severity) == edits or report.losses
    assert {(f.pattern, f.severity) for f in report.findings} == {("torn_edit", severity)}
    x, y = report.findings[0].cpus
    assert x == y


@pytest.mark.parametrize(("shootdown", "severity"), [(2, "predicted"), (3, "observed")])
def test_a_shootdown_with_interrupts_off_is_unsafe(
    record: Record, shootdown: int, severity: str
) -> None:
    """The IPI, its callback, the interrupts' state or the handler around it is not seen."""
    report, outcome = control(
        record,
        f"shootdown-{shootdown}",
        Parameters(rounds=ROUNDS, shootdown=shootdown, fix="flush-on-map"),
    )
    result = report.patterns["shootdown"]
    assert outcome.summary["shootdowns"] == ROUNDS * outcome.summary["cpus"]
    assert getattr(result, severity) == outcome.summary["shootdowns"] or report.losses
    assert getattr(result, severity) > 0
    assert {(f.pattern, f.severity) for f in report.findings} == {("shootdown", severity)}


def test_a_shootdown_with_interrupts_on_is_none(record: Record) -> None:
    """Every vunmap of the kernel would be called a hazard."""
    report, outcome = control(
        record, "shootdown-1", Parameters(rounds=ROUNDS, shootdown=1, fix="flush-on-map")
    )
    assert outcome.summary["shootdowns"] > 0
    assert report.patterns["shootdown"].checked
    assert report.findings == []


def test_an_nmi_in_the_same_slot_is_an_overlap(record: Record) -> None:
    """Two contexts of one CPU in one slot would go unnoticed."""
    report, outcome = control(record, "window-2", Parameters(rounds=ROUNDS, window=2))
    assert outcome.summary["windows"] > 0
    result = report.patterns["overlap"]
    assert 0 < result.observed <= outcome.summary["windows"]
    assert result.observed == outcome.summary["windows"] or report.losses
    assert all(f.cpus[0] == f.cpus[1] for f in report.findings if f.pattern == "overlap")


def test_an_nmi_in_its_own_slot_is_no_overlap(record: Record) -> None:
    """Every NMI that hits the irq slot's window would be called a failed lock."""
    report, outcome = control(
        record, "window-1", Parameters(rounds=ROUNDS, window=1, fix="flush-on-map")
    )
    assert outcome.summary["windows"] > 0
    assert report.patterns["overlap"].observed == 0
    # Until 4.14 both pages' maps might allocate, and so get in each other's way.
    assert {(f.pattern, f.severity) for f in report.findings} <= {("torn_edit", "predicted")}


def test_two_blocks_of_one_report_race_as_one_does(record: Record) -> None:
    """With two frames a report, threats would be matched to the wrong one."""
    report, outcome = control(record, "buffers", Parameters(rounds=ROUNDS, buffers=2, turns="free"))
    assert outcome.summary["reads"] == 2 * ROUNDS * outcome.summary["cpus"]
    assert report.patterns["overlap"].observed == 0
    assert report.verdict is Verdict.OBSERVED
    assert {f.pattern for f in report.findings} == {"stale"}


def test_luck_between_turns_is_predicted_and_the_witness_is_real(record: Record) -> None:
    """A lucky flush would hide the race, or its witness be no order that reaches a stale read."""
    report, outcome = control(record, "lucky", Parameters(rounds=ROUNDS, shootdown=1))
    assert not (outcome.truth["flags"] & JUNK).any()
    irq = next(slot for slot in report.slots if slot.name.endswith(":irq"))
    assert irq.classes[Class.NONE] == 0
    assert irq.classes[Class.INCIDENTAL] > 0
    assert report.verdict is Verdict.PREDICTED
    stale = [finding for finding in report.findings if finding.pattern == "stale"]
    assert stale
    assert all(reaches_stale(finding.steps) for finding in stale)


def test_nothing_fires_on_the_stock_kernel(record: Record) -> None:
    """A pattern that finds something on a healthy kernel is worth nothing."""
    report = record("stock", storm("mixed", 20))
    assert all(pattern.checked for pattern in report.patterns.values())
    assert report.findings == []
    assert sum(slot.handoffs for slot in report.slots) > 100
    assert not any(pattern.uncertain for pattern in report.patterns.values()), report.reasons
