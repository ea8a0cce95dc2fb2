# SPDX-License-Identifier: Apache-2.0
"""The forms of one run, judged."""

from __future__ import annotations

import pytest

from lab.forms.judging import Judged
from lab.forms.printing import Form


@pytest.mark.slow
def test_every_form_has_the_findings_of_the_live_run_or_says_why_not(judged: list[Judged]) -> None:
    """Somebody who sends a text would get another verdict than who sends the capture."""
    assert [one for one in judged if not one.honest] == []
    assert all(one.verdict != "clean" for one in judged)
    # A reason that fits every file is none.
    assert not [one for one in judged if "neither a capture nor" in one.refused]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tool", "command"),
    [
        ("ftrace", "`cat trace`"),
        ("ftrace", "`cat trace`, option `latency-format`"),
        ("ftrace", "`cat per_cpu/*/trace`"),
        ("ftrace", "`cat trace_pipe`"),
        ("trace-cmd 3.1", "`trace-cmd report`"),
        ("trace-cmd 3.1", "`trace-cmd report -l`"),
        ("trace-cmd 3.4", "`trace-cmd report`"),
        ("perf", "`perf script`"),
        ("perf", "`perf script --ns`"),
    ],
)
def test_what_people_use_most_is_read(judged: list[Judged], tool: str, command: str) -> None:
    """The test above would pass if everything was refused."""
    [one] = [j for j in judged if j.form.tool.startswith(tool) and j.form.command == command]
    assert one.same
    assert one.verdict == "race-observed"


def test_a_form_that_is_clean_or_gives_no_reason_is_not_honest() -> None:
    """The table would be full of answers that nobody can use."""
    form = Form("tool", "command", "file")
    assert not Judged(form, "clean", reasons=("losses",)).honest
    assert not Judged(form, "inconclusive").honest
    assert not Judged(form, "inconclusive", reasons=("uncertain: torn_edit",)).honest
    assert Judged(form, "inconclusive", reasons=("losses: overrun",)).honest
    assert Judged(form, "race-observed", same=True).honest
    assert Judged(form, refused="it is none").honest
