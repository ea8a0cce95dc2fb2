# SPDX-License-Identifier: Apache-2.0
"""The plan as text."""

from __future__ import annotations

import pytest

from ghesrace.plan import Plan
from ghesrace.render.plan import render_plan_text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_text_fits_its_columns(x86: Plan, arm64: Plan, width: int):
    """The plan would wrap on a terminal, or leave out a probe or a blind spot."""
    for plan in (x86, arm64):
        text = render_plan_text(plan, width)
        assert max(map(len, text.splitlines())) <= width
        text = " ".join(text.split())
        assert all(probe.symbol in text for probe in plan.probes)
        assert all(u.what.split()[0] in text for u in plan.unseen)
