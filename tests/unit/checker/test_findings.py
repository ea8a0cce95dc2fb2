# SPDX-License-Identifier: Apache-2.0
"""Findings: their rank, their groups, and how much of them is kept."""

from __future__ import annotations

from tests.build.judging import judge
from tests.build.trace import A, bounce, plan


def test_writes_rank_above_reads() -> None:
    """A status clear through a stale entry corrupts the old page: it is shown first."""
    trace = bounce()
    trace.report(0, A, write=True)
    findings = judge(plan(), trace.stream()).findings
    assert [f.access for f in findings] == ["write", "read", "read"]
