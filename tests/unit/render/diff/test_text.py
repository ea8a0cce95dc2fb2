# SPDX-License-Identifier: Apache-2.0
"""A comparison as text."""

from __future__ import annotations

import io

import pytest

from ghesrace.render.diff.compare import Comparison, compare
from ghesrace.render.diff.text import print_diff, print_diff_short
from ghesrace.render.layout import new_console
from tests.build.reports import finding, side, slot

A = side(slots=(slot(fresh=3, map_flush=1), slot("a-slot:of-a-long-name-indeed" * 3, fresh=1)))
B = side(finding(), slots=(slot(fresh=1, none=1),), file="b\x1b[31m.arrows", reasons=("truncated",))


def printed(compared: Comparison, width: int = 80) -> str:
    out = io.StringIO()
    print_diff(new_console(out, "never", width), compared)
    return out.getvalue()


def test_it_tells_outcome_findings_protection_and_losses() -> None:
    """Each is asked for by somebody who has two kernels before him."""
    lines = printed(compare(A, B)).splitlines()
    assert lines[0] == "B is worse: new in B: stale read at slot GHES_IRQ, observed once"
    assert "  new: stale read at slot GHES_IRQ, observed once" in lines
    assert "GHES_IRQ: map-flush -> none" in lines
    assert ["none", "0", "0.0%", "1", "50.0%", "+50.0"] in [line.split() for line in lines]
    assert any(line.split() == ["events", "100", "100"] for line in lines)
    assert "  stale: 0 observed, 0 predicted -> 1 observed, 0 predicted" in lines
    # What stands beside an outcome is told as well, though it did not decide it.
    assert any("besides: B leaves something open: truncated" in line for line in lines)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_it_fits_the_width_and_obeys_nothing(width: int) -> None:
    """A name of a file must not command the terminal, and no line may break or end in blanks."""
    text = printed(compare(A, B), width)
    assert "\x1b" not in text
    assert "b\\x1b[31m.arrows" in text
    for line in text.splitlines():
        assert len(line) <= width
        assert line == line.rstrip()


def test_quiet_is_one_line() -> None:
    """If this fails, a script that reads a line per comparison breaks."""
    out = io.StringIO()
    print_diff_short(new_console(out), compare(A, side(reasons=("no-traffic",))))
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().startswith("can't be compared: ")
