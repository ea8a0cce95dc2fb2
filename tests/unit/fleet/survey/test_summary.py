# SPDX-License-Identifier: Apache-2.0
"""The answers of a data set: what is counted, once, and for whom."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ghesrace.checker.report import Verdict
from ghesrace.fleet.survey.dataset import Dataset
from ghesrace.fleet.survey.summary import summarised
from ghesrace.fleet.survey.tables import arrow
from ghesrace.render.survey.answers import Survey

START = datetime(2026, 1, 2, tzinfo=UTC)
CODES = {Verdict.CLEAN: 0, Verdict.INCONCLUSIVE: 3, Verdict.PREDICTED: 1, Verdict.OBSERVED: 1}


def code(verdict: Verdict, in_doubt: bool, _qualified: list[str]) -> int:
    return 3 if in_doubt and not CODES[verdict] else CODES[verdict]


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Dataset]:
    with Dataset(tmp_path) as made:
        yield made


def add(
    data: Dataset,
    url: str,
    mechanism: str = "map-flush",
    finding: str | None = None,
    lost: int | None = 0,
    **run: Any,
) -> None:
    """One capture with ten episodes and five hand-offs at one slot."""
    name = f"{url} {run.get('judged')} {run.get('tag')}"
    row = {
        "run": name, "url": url, "tag": "1", "bytes": 1, "recorded": START, "judged": START,
        "host": url, "arch": "x86_64", "kernel": "6.1", "firmware": "B1", "verdict": "clean",
        "truncated": False, "reasons": [], "qualified_by": [], "implications": "proven",
        "episodes": 10, "handoffs": 5, "lost": lost, "findings": int(finding is not None),
    } | run  # fmt: skip
    slot = {"run": name, "slot": "GHES_IRQ", "mechanism": mechanism, "episodes": 10, "handoffs": 5}
    found = {
        "run": name, "name": "1", "pattern": "stale", "severity": "observed", "title": "stale read",
        "witness": finding, "observed": 2, "predicted": 0, "explanation": "why",
    }  # fmt: skip
    losses = [{"run": name, "cause": "overrun", "count": lost}] if lost else []
    rows = {"runs": [row], "slots": [slot], "losses": losses}
    data.write(arrow(rows | {"findings": [found] if finding is not None else []}))


def answers(data: Dataset, unread: int = 0) -> Survey:
    return summarised(data, code, unread)


def test_captures_of_a_kernel_and_firmware_are_one_group(data: Dataset) -> None:
    """If this fails, the table of kernels says of one what is another's."""
    add(data, "a", lost=3)
    add(data, "b", host="a", verdict="inconclusive", implications="assumed")
    add(data, "c", firmware="B2", mechanism="none", verdict="race-observed", lost=None)
    found = answers(data)
    worst, other = found.groups
    assert (worst.firmware, worst.worst, worst.lost) == ("B2", "race-observed", None)
    assert worst.mechanisms == {"GHES_IRQ": {"none": 1}}
    assert (other.hosts, other.captures, other.handoffs, other.lost) == (1, 2, 10, 3)
    assert other.implications == {"proven": 1, "assumed": 1}
    assert other.mechanisms == {"GHES_IRQ": {"map-flush": 2}}
    assert (found.captures, found.judged, found.hosts) == (3, 3, 2)
    assert found.verdicts == {"clean": 1, "inconclusive": 1, "race-observed": 1}
    assert found.losses == {"overrun": (1, 3)}


def test_a_capture_that_was_judged_twice_counts_once(data: Dataset) -> None:
    """If this fails, a capture that was replaced counts with what it no longer holds."""
    add(data, "a", verdict="race-observed", mechanism="none", finding="x irq: map", lost=9)
    add(data, "a", tag="2", judged=START + timedelta(days=1))
    found = answers(data)
    assert (found.captures, found.verdicts) == (1, {"clean": 1})
    assert found.groups[0].mechanisms == {"GHES_IRQ": {"map-flush": 1}}
    assert (found.findings, found.losses, found.exit_code) == ([], {}, 0)


def test_findings_with_one_witness_are_one_whatever_the_host(data: Dataset) -> None:
    """If this fails, one fault of two hundred hosts is two hundred lines."""
    for number in range(15):
        add(data, f"h{number:02}", kernel=f"6.{number:02}", finding="x irq: map")
    add(data, "other", finding="x nmi: map")
    many, one = answers(data).findings
    assert (many.hosts, many.captures, many.observed) == (15, 15, 30)
    assert many.kernels == [*(f"6.{number:02}" for number in range(10)), "5 more"]
    assert (one.witness, one.example, one.name) == ("x nmi: map", "other", "1")


def test_a_host_that_differs_from_most_of_its_like_is_named(data: Dataset) -> None:
    """If this fails, the one board that is not protected hides among two hundred."""
    for number in range(3):
        add(data, f"h{number}", mechanism="" if number == 2 else "map-flush")
    add(data, "odd", mechanism="map-flush, none")
    add(data, "newer", kernel="6.2", mechanism="broadcast")
    [odd] = answers(data).outliers
    assert (odd.host, odd.mechanism, odd.usual) == ("odd", "map-flush, none", "map-flush")
    # The host where nothing had to be protected says nothing.
    assert (odd.like, odd.hosts, odd.example) == (2, 3, "odd")


def test_of_two_hosts_neither_is_the_odd_one(data: Dataset) -> None:
    """If this fails, a difference is blamed on a host at random."""
    add(data, "a")
    add(data, "b", mechanism="broadcast")
    assert answers(data).outliers == []


@pytest.mark.slow
def test_the_trend_is_by_day_and_by_month_if_it_is_long(data: Dataset) -> None:
    """If this fails, years make a page without end, or a week makes one line."""
    for number in range(3):
        add(data, f"a{number}", host="a", recorded=START + timedelta(days=number // 2))
    found = answers(data).trend
    assert [(p.name, p.captures, p.hosts) for p in found] == [
        ("2026-01-02", 2, 1),
        ("2026-01-03", 1, 1),
    ]
    add(data, "untimed", recorded=None)
    for number in range(32):
        add(data, f"b{number}", recorded=START + timedelta(days=10 + number))
    found = answers(data).trend
    assert [(p.name, p.captures, p.hosts) for p in found] == [
        ("2026-01", 23, 21),
        ("2026-02", 12, 12),
    ]


def test_broken_captures_are_told_by_what_is_wrong(data: Dataset) -> None:
    """If this fails, a thousand cut files are a thousand lines, or none."""
    for url, what in (("/s/a", "cut at 17"), ("/s/b", "cut at 99"), ("/s/c", "is empty")):
        add(data, url, verdict=None, error="InputError", what=f"{url}: {what}")
    cut, empty = answers(data).broken
    assert (cut.captures, cut.what, empty.what) == (2, "/s/a: cut at 17", "/s/c: is empty")


@pytest.mark.parametrize(
    ("runs", "unread", "expected"),
    [
        ([{}], 0, 0),
        ([{}, {"verdict": "inconclusive"}], 0, 3),
        ([{}, {"reasons": ["losses"]}], 0, 3),
        ([{}], 1, 3),
        ([{"verdict": "inconclusive"}, {"verdict": "race-predicted"}], 0, 1),
        ([{"verdict": "race-observed"}, {"error": "InputError"}], 0, 2),
        ([{"error": "InputError"}, {"error": "WorkerKilled"}], 0, 4),
        ([], 0, 3),
    ],
)
def test_the_exit_code_is_that_of_the_gravest(
    data: Dataset, runs: list[dict[str, Any]], unread: int, expected: int
) -> None:
    """Scripts branch on it: a fleet with one race, or one unread capture, must not pass."""
    for number, run in enumerate(runs):
        add(data, str(number), **run)
    assert answers(data, unread).exit_code == expected
