# SPDX-License-Identifier: Apache-2.0
"""The table of forms."""

from __future__ import annotations

import pytest

from lab.forms.__main__ import PAGE
from lab.forms.judging import Judged
from lab.forms.page import BEGIN, END, with_table
from lab.forms.printing import Form


@pytest.mark.slow
def test_the_committed_table_is_what_is_said_today(judged: list[Judged]) -> None:
    """The page would promise what is no longer so: `python -m lab.forms --judge` writes it."""
    page = PAGE.read_text()
    assert page == with_table(page, judged)


def test_only_the_table_is_written() -> None:
    """What is written by hand would be lost."""
    page = f"before\n{BEGIN}\nold\n{END}\nbehind\n"
    one = Judged(Form("perf", "`a | b`", "file"), "race-observed", ("clock",), same=True)
    other = Judged(Form("perf", "`c`", "file"), "inconclusive", reasons=("losses: overrun",))
    made = with_table(page, [one, other])
    assert made.startswith("before\n")
    assert made.endswith(f"\n{END}\nbehind\n")
    assert "old" not in made
    assert "| perf | `a / b` | the same | race-observed, resting on clock |" in made
    assert "| perf | `c` | not all: losses: overrun | inconclusive |" in made
