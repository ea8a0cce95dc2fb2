# SPDX-License-Identifier: Apache-2.0
"""The plan as text."""

from __future__ import annotations

from ghesrace.plan import Plan
from ghesrace.render.plan import WIDTH, render_plan_text


def test_text_fits_80_columns(x86: Plan, arm64: Plan):
    """The plan would wrap on a terminal, or leave out a probe or a blind spot."""
    for plan in (x86, arm64):
        text = render_plan_text(plan)
        assert max(map(len, text.splitlines())) <= WIDTH
        assert all(probe.symbol in text for probe in plan.probes)
        assert all(u.what.split()[0] in text for u in plan.unseen)
