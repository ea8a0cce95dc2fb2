# SPDX-License-Identifier: Apache-2.0
"""The text of a report: what it says, in which order, in 60 to 200 columns."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ghesrace.checker.engine import Engine
from ghesrace.checker.report import Report, SlotCounts
from ghesrace.plan import UNPROVEN_NS, Slot, Unseen
from ghesrace.render.judgement import Judgement
from ghesrace.render.layout import new_console
from ghesrace.render.text import matter, print_report, print_short
from tests.build.captures import HOST, capture, check
from tests.build.judging import judge
from tests.build.paths import CORPUS
from tests.build.trace import STEP, Trace, V, bounce, plan


def text(result: Report, width: int = 80, every: bool = False) -> str:
    out = io.StringIO()
    judged = Judgement("host.arrows", result, plan(), HOST)
    print_report(new_console(out, width=width), judged, every)
    return out.getvalue()


def test_two_contexts_of_one_cpu_are_two_columns(
    everything: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who interrupted whom is the whole point, and must fit an 80-column terminal."""
    check(everything)
    out = capsys.readouterr().out
    heads = [line for line in out.splitlines() if "CPU 0 = x, task" in line]
    assert any("CPU 0 = y, nmi" in line.partition("= x")[2] for line in heads)
    assert "CPU 0 = x, irq" in out
    assert "any other CPU = y" in out
    assert "overlaps that are no hazard: 2 of same table" in " ".join(out.split())


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("every", [True, False])
def test_every_width_and_no_blanks_at_line_ends(width: int, every: bool) -> None:
    """If this fails, a terminal wraps the report, or a mail of it has blanks at line ends."""
    names = ["GHES_IRQ", *(f"module_{i}:{'long' * 30}" for i in range(3)), "x"]
    slots = [Slot(name, 644 + i, V + 4096 * i, "report") for i, name in enumerate(names)]
    trace = Trace()
    for i in range(len(slots)):
        bounce(into=trace, slot=i, address=V + 4096 * i)
    unseen = (Unseen("w" * 300, "why " * 60, ("stale",), tuple(names)),)
    result = judge(replace(plan(*slots), unseen=unseen), trace.stream())
    assert len(result.findings) == 2 * len(slots)
    out = text(replace(result, reasons=["r" * 250], qualified_by=("losses",)), width, every)
    for line in out.splitlines():
        assert len(line) <= width
        assert line == line.rstrip()
    assert max(map(len, out.splitlines())) > width - 15
    assert "\x1b" not in out


def test_findings_come_before_the_table_and_what_was_not_seen_last() -> None:
    """If this fails, the reader has to scroll past a wall to what was found."""
    unseen = (
        Unseen("fills", "no event exists", (), ("irq",)),
        *(Unseen(f"thing {i}", "why", ("stale",), ("irq",)) for i in range(5)),
    )
    result = judge(replace(plan(), unseen=unseen), bounce().stream())
    out = text(result)
    parts = ("race-observed", "Finding 1 of 1", "Episodes by", "Patterns:", "Could change this")
    assert sorted(parts, key=out.index) == list(parts)
    assert "thing 2" in out
    assert "thing 3" not in out
    assert "Not seen: 3 more things; --all lists them." in out
    every = text(result, every=True)
    assert all(f"thing {i}" in every for i in range(5))
    assert "fills: no event exists" in every


def test_what_matters_comes_first() -> None:
    """If this fails, what is true of every recording hides what could change this verdict."""
    other = Unseen("an edit", "", ("torn_edit",), ("irq",))
    idle = Unseen("a flush of an idle slot", "", ("stale",), ("nmi",))
    clock, fill = Unseen("the clock", ""), Unseen("fills", "", (), ("irq",))
    flush = Unseen("a flush", "", ("stale", "overlap"), ("nmi", "irq"))
    slots = [SlotCounts("irq", None, episodes=1), SlotCounts("nmi", None)]
    assert matter([other, idle, clock, fill, flush], slots) == [flush, clock, other]


def test_a_file_has_no_colours_and_80_columns(
    observed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """People read this in a terminal and paste it into mails; no colour codes in a file."""
    target = tmp_path / "report.txt"
    check(observed, "-o", target)
    out = target.read_text()
    assert out.startswith("race-observed")
    assert "does not prove" in " ".join(out.split())
    assert "CPU 0 = x" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    check(observed, "--color", "always")
    assert capsys.readouterr().out.startswith("\x1b[1;31mrace-observed")


def test_unseen_and_unchecked_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was not seen stands in the report, or the reader takes silence for safety."""
    blind = replace(plan(), not_checked={"stale": "no symbol unmaps a slot"})
    path = capture(tmp_path / "blind.arrows", bounce(flush=True), blind)
    assert check(path) == 3
    assert "stale: not checked: no symbol unmaps a slot" in capsys.readouterr().out


def test_a_verdict_that_rests_on_something_says_so_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If this fails, clean looks like clean though a lost event would not have been noticed."""
    result = replace(judge(plan(), bounce(flush=True).stream()), qualified_by=("losses", "clock"))
    first = text(result).splitlines()[0]
    assert first == "clean, resting on losses, clock  host.arrows"
    assert "As far as the file tells" in text(result)
    out = io.StringIO()
    print_short(new_console(out), Judgement("a.txt", result, plan()))
    assert out.getvalue() == "clean, resting on losses, clock  a.txt\n"


def test_an_assumed_clock_error_is_told_with_the_verdict() -> None:
    """A reader would take for proven what rests on clocks that nobody could measure."""
    busy = replace(plan(), clock_proven_ns=UNPROVEN_NS)
    result = judge(busy, bounce().stream())
    told = " ".join(text(result).split())
    assert told.startswith("race-observed, assuming that clocks agree within 1,000 ns")
    assert "It assumes that the clocks of two CPUs agree within 1,000 ns." in told
    assert "clocks" not in text(judge(plan(), bounce().stream()))


def test_uses_that_the_clocks_can_not_order_are_counted_in_the_text() -> None:
    """Whoever looks for a lock that fails could not see how many uses nothing could compare."""
    report = judge(plan(error=STEP * 6), bounce(flush=True).stream())
    told = " ".join(text(report).split())
    assert re.search(
        r"overlap: 0 observed, 0 predicted; not ordered by the clocks: 6 (of 6 )?uses", told
    )


def test_quiet_is_one_line_per_file(
    observed: Path, clean: Path, quiet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a hundred files can't be looked over, or exit codes depend on -q."""
    assert check(clean, quiet, observed, "-q") == 1
    assert capsys.readouterr().out.splitlines() == [
        f"clean  {clean}",
        f"inconclusive  {quiet}  no-traffic",
        f"race-observed  {observed}  observed 5 times at irq",
    ]
    assert check(quiet, "--quiet") == 3


def test_slots_and_classes_without_episodes_are_one_line() -> None:
    """If this fails, a table of empty columns hides the one that matters, or a slot vanishes."""
    slots = [Slot(f"s{i}", 644 + i, V + 4096 * i, "report") for i in range(9)]
    result = judge(plan(*slots), bounce(flush=True).stream())
    short, every = text(result), text(result, every=True)
    assert "no episodes: s1, s2, s3, s4, s5, s6, s7, s8" in short
    assert "incidental" not in short
    assert "incidental" in every
    assert "no episodes" not in every


def test_nothing_recorded_at_all() -> None:
    """If this fails, the emptiest report ends in a traceback."""
    out = text(Engine(plan()).report())
    assert out.startswith("inconclusive  host.arrows")
    assert "no-traffic" in out


def test_a_foreign_trace_of_one_fault_is_one_page(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, 14 findings of two missing flushes are 14 pages again."""
    check(CORPUS / "v7-zstd.dat")
    out = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("Finding ") for line in out) == 2
    assert len(out) < 140
