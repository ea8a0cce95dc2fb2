# SPDX-License-Identifier: Apache-2.0
"""What the kernel filters before an event is recorded."""

from __future__ import annotations

from pathlib import Path

from ghesrace.plan import AllOf, AnyOf, Compare, InContext, Plan
from ghesrace.sources.tracefs_text import condition
from tests.build import trees
from tests.build.plans import names, one, plan_of


def test_shootdowns_are_filtered_by_callback_and_context(x86: Plan):
    """Every IPI of the system would be recorded, or called a hazard."""
    probe = one(x86, "shootdown")
    assert isinstance(probe.filter, AllOf)
    wait, callbacks, context = probe.filter.all
    assert wait == Compare("wait", "&", 1)
    assert context == InContext(("interrupts-off", "irq", "nmi"))
    assert isinstance(callbacks, AnyOf)
    assert len(callbacks.any) == 3  # of the six, those that this kernel has
    text = condition(probe) or ""
    assert text.startswith("(wait & 1) && (func == 0x")
    assert text.endswith(") && (common_flags & 0x49)")


def test_hidden_addresses_leave_shootdowns_unchecked(tmp_path: Path):
    """Without the callbacks' addresses every IPI would pass, or none."""
    plan = plan_of(tmp_path, vmlinux_btf=trees.x86_btf(), hidden=True)
    assert "kptr_restrict" in plan.not_checked["shootdown"]
    assert "shootdown" not in names(plan)
