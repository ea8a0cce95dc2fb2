# SPDX-License-Identifier: Apache-2.0
"""Lines that stand elsewhere than they were recorded, or twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ghesrace.checker.report import Verdict
from ghesrace.events import Cause
from ghesrace.sources.foreign.text.flags import HARDIRQ, NMI, SOFTIRQ
from ghesrace.sources.foreign.text.steps import Repeats, Steps
from tests.build.paths import CORPUS
from tests.build.texts import judged, losses


def steps(rows: list[tuple[int, int, int]], cut: int) -> tuple[list[tuple[int, int, int]], int]:
    """The gaps of events (CPU, stamp, flags), which come in two parts."""
    table, found = np.array(rows, np.int64), Steps()
    gaps = [g for part in (table[:cut], table[cut:]) for g in found.take(*part.T)]
    assert all(gap.count == 0 for gap in gaps)
    return [(gap.cpu, gap.begin, gap.end) for gap in gaps], found.count


@pytest.mark.parametrize("cut", range(5))
def test_a_step_back_is_a_loss_between_the_two_stamps(cut: int) -> None:
    """What stood there is not known, on that CPU alone; a swap makes two steps."""
    rows = [(0, 10, 0), (0, 40, 0), (1, 20, 0), (0, 30, 0), (0, 20, 0), (0, 50, 0)]
    assert steps(rows, cut) == ([(0, 30, 40), (0, 20, 40)], 2)


@pytest.mark.parametrize("cut", range(4))
@pytest.mark.parametrize(
    ("outer", "inner"), [(0, SOFTIRQ), (0, NMI), (HARDIRQ, NMI), (SOFTIRQ, HARDIRQ)]
)
def test_an_interrupt_in_a_clocks_reading_is_none(cut: int, outer: int, inner: int) -> None:
    """It stands first and is later: that is how kernels before 5.10 record it."""
    assert steps([(0, 10, outer), (0, 30, inner), (0, 20, outer)], cut) == ([], 0)
    assert steps([(0, 10, inner), (0, 30, outer), (0, 20, inner)], cut) == ([(0, 20, 30)], 1)
    # Nothing else is so late: what was interrupted goes on behind the interrupt.
    rows = [(0, 10, outer), (0, 30, inner), (0, 20, outer), (0, 25, outer)]
    assert steps(rows, cut) == ([(0, 25, 30)], 1)


def test_swapped_lines_make_no_race(tmp_path: Path) -> None:
    """The flush that stood before a read stands behind it, and the trace was clean."""
    lines = (CORPUS / "flush-with-address.txt").read_text().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if "[001]" in line)
    lines[at + 1], lines[at + 2] = lines[at + 2], lines[at + 1]
    path = tmp_path / "trace"
    path.write_text("".join(lines))
    report, events = judged(path)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert losses(events, Cause.UNREAD)["size"].tolist() == [0]
    assert any("stamps go back" in unseen.what for unseen in report.unseen)


@pytest.mark.parametrize("cut", range(4))
def test_repeats_are_of_one_cpu_and_whole(cut: int) -> None:
    """An event that differs in its stamp or an argument is another one."""
    cpu = np.array([0, 1, 0, 0, 0, 0])
    ts = np.array([5, 5, 5, 5, 6, 6])
    ident = np.array([1, 1, 1, 2, 2, 2])
    values = np.array([[7], [7], [7], [7], [7], [2**64 - 1]], np.uint64)
    found = Repeats()
    parts = [slice(0, cut), slice(cut, 6)]
    got = [found.take(cpu[p], ts[p], ident[p], values[p]).tolist() for p in parts]
    assert got[0] + got[1] == [False, False, True, False, False, False]


def test_a_map_that_is_there_twice_makes_no_race(tmp_path: Path) -> None:
    """The first of the two has no flush before the second ends it."""
    lines = (CORPUS / "flush-with-address.txt").read_text().splitlines(keepends=True)
    at = [n for n, line in enumerate(lines) if "[001]" in line and " m:" in line][-1]
    path = tmp_path / "trace"
    path.write_text("".join([*lines[: at + 1], *lines[at:]]))
    report, events = judged(path)
    assert report.verdict in (Verdict.CLEAN, Verdict.INCONCLUSIVE)
    assert losses(events, Cause.UNREAD)["size"].tolist() == [1]
