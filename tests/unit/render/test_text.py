# SPDX-License-Identifier: Apache-2.0
"""The text of a report: what it says, in 80 columns."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from ghesrace.checker.engine import Engine
from ghesrace.checker.report import Report
from ghesrace.events import Events
from ghesrace.plan import UNPROVEN_NS, Plan
from ghesrace.render.text import new_console, print_report
from tests.build.captures import capture, check
from tests.build.trace import STEP, bounce, plan


def judge(p: Plan, stream: Events) -> Report:
    """What the rule written anew says of a stream."""
    engine = Engine(p)
    engine.feed(stream)
    engine.finish()
    return engine.report()


def test_two_contexts_of_one_cpu_are_two_columns(
    everything: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who interrupted whom is the whole point, and must fit an 80-column terminal."""
    check(everything)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    heads = [line for line in out.splitlines() if "CPU 0 = x, task" in line]
    assert any("CPU 0 = y, nmi" in line.partition("= x")[2] for line in heads)
    assert "CPU 0 = x, irq" in out
    assert "any other CPU = y" in out
    assert "overlaps that are no hazard: 2 of same table" in " ".join(out.split())


def test_text_fits_80_columns(
    observed: Path, predicted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """People read this in a terminal and paste it into mails; no colour codes in a file."""
    for path in (observed, predicted):
        check(path)
        out = capsys.readouterr().out
        assert max(len(line) for line in out.splitlines()) <= 80
        assert "\x1b" not in out
    target = tmp_path / "report.txt"
    check(observed, "-o", target)
    text = target.read_text()
    assert text.startswith("race-observed")
    assert "does not prove" in " ".join(text.split())
    assert "CPU 0 = x" in text


def test_unseen_and_unchecked_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was not seen stands in the report, or the reader takes silence for safety."""
    blind = replace(plan(), not_checked={"stale": "no symbol unmaps a slot"})
    path = capture(tmp_path / "blind.arrows", bounce(flush=True), blind)
    assert check(path) == 3
    assert "stale: not checked: no symbol unmaps a slot" in capsys.readouterr().out


def told(report: Report) -> str:
    """The text of a report, on one line."""
    out = io.StringIO()
    print_report(new_console(out), report, {})
    return " ".join(out.getvalue().split())


def test_an_assumed_clock_error_is_told_with_the_verdict() -> None:
    """A reader would take for proven what rests on clocks that nobody could measure."""
    busy = replace(plan(), clock_proven_ns=UNPROVEN_NS)
    text = told(judge(busy, bounce().stream()))
    assert text.startswith("race-observed, assuming that clocks agree within 1,000 ns")
    assert "It assumes that the clocks of two CPUs agree within 1,000 ns." in text
    assert "clocks" not in told(judge(plan(), bounce().stream()))


def test_uses_that_the_clocks_can_not_order_are_counted_in_the_text() -> None:
    """Whoever looks for a lock that fails could not see how many uses nothing could compare."""
    report = judge(plan(error=STEP * 6), bounce(flush=True).stream())
    assert "overlap: 0 observed, 0 predicted; not ordered by the clocks: 6 of 6 uses" in told(
        report
    )
