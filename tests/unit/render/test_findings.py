# SPDX-License-Identifier: Apache-2.0
"""One fault as text."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from ghesrace.checker.findings import Finding, Occurrence, Step
from ghesrace.render.faults import faults
from ghesrace.render.findings import counts, heads, print_fault, times, title
from ghesrace.render.layout import Page, new_console


def finding(x: int = 0, y: int = 1, count: int = 1, **more: object) -> Finding:
    steps = [
        Step("x", 1, 5_000_000_000, x, "irq", "notify", "takes a GHES notification"),
        Step("y", 4, None, y, "any", "load", "may load the slot into its TLB"),
        Step("y", 8, 5_000_012_500, y, "nmi", "read", "reads the slot"),
    ]
    at = [Occurrence(6_000_000_000 + i, None, None, None, (x, y), None) for i in range(count)]
    made = Finding(
        *("stale", "observed", "read", "irq", (x, y), (0x1000, 0x2000)),
        *("no invalidation", steps, False, count, at[:10]),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def printed(*found: Finding, width: int = 80, every: bool = False) -> list[str]:
    out = io.StringIO()
    [fault] = faults(found)
    print_fault(Page(new_console(out, width=width)), fault, 1, {}, every)
    return out.getvalue().splitlines()


def test_absolute_stamps_stand_beside_relative_ones() -> None:
    """If this fails, a step can't be found in the trace, or in the kernel's log."""
    lines = [line.split() for line in printed(finding())]
    assert ["1", "5.000000", "0.0"] in [line[:3] for line in lines]
    assert ["8", "5.000013", "12.5"] in [line[:3] for line in lines]
    assert ["4", "may"] in [line[:2] for line in lines]


def test_another_order_has_no_relative_times() -> None:
    """If this fails, times that run backwards are shown as if they had passed."""
    lines = printed(finding(reordered=True))
    assert "in another order than recorded" in "\n".join(lines)
    assert ["8", "5.000013", "reads"] in [line.split()[:3] for line in lines]


def test_variants_are_one_table_and_all_of_them_are_witnessed_if_asked() -> None:
    """If this fails, 28 permutations are 28 pages again, or --all does nothing."""
    many = [finding(x, y, count=12) for x in range(4) for y in range(4) if x != y]
    short, full = printed(*many), printed(*many, every=True)
    assert short[0] == "Finding 1 of 1: stale read at slot irq, observed 144 times"
    assert sum("step by step" in line for line in short) == 1
    assert "  and 7 more variants, 84 times (--all lists them)" in short
    assert sum("step by step" in line for line in full) == 12
    assert sum("and 2 times more" in line for line in full) == 12
    assert "\n".join(full).count("6.000000") > 100


@pytest.mark.parametrize("width", [60, 75, 76, 80, 200])
def test_every_width(width: int) -> None:
    """If this fails, a narrow terminal breaks the columns of the witness."""
    wordy = finding(explanation="because " * 40)
    wordy.steps = [replace(step, text="x" * 90 + " the end") for step in wordy.steps]
    for line in printed(wordy, finding(1, 0), width=width, every=True):
        assert len(line) <= width
        assert line == line.rstrip()


def test_words() -> None:
    """If this fails, the reader is told of one CPU where there are two, or "1 times"."""
    both = faults([finding(count=3), finding(1, 0, severity="predicted")])
    assert counts(both[0]) == "observed 3 times, predicted once"
    assert times(0) == "0 times"
    assert title(faults([finding(slot=None, access=None, pattern="shootdown")])[0]) == "shootdown"
    one = finding(0, 0, reordered=True)
    assert heads(one) == ("CPU 0 = x (another CPU), irq", "CPU 0 = y, nmi")
    one.steps = one.steps[:2]
    assert heads(one) == ("CPU 0 = x, irq", "any other CPU = y")
