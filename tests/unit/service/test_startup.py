# SPDX-License-Identifier: Apache-2.0
"""The daemon's start on a host, step by step."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from ghesrace.errors import HostError
from ghesrace.plan import Unseen
from ghesrace.service.health import (
    Health,
    missing_points,
)
from ghesrace.service.journal import Log
from ghesrace.service.startup import check_coverage
from tests.build.trace import plan


def test_strict_refuses_what_only_warns_otherwise() -> None:
    """If this fails, strict starts blind, or a host with a blind spot can't be watched at all."""
    lacking = Unseen("the read", "no symbol", ("stale",), ("irq",))
    always = Unseen("page walks", "no event", ("stale",), ("irq",))
    p = replace(plan(), unseen=(lacking, always))
    health = Health(missing=missing_points(p, frozenset({"the read"})))
    assert health.missing == (lacking,)
    log = io.StringIO()
    check_coverage(p, health, False, Log("info", log))
    assert "the read" in log.getvalue()
    with pytest.raises(HostError, match="the read"):
        check_coverage(p, health, True, Log("info", log))
    check_coverage(plan(), Health(), True, Log("info", log))


def test_what_a_verdict_rests_on_is_logged() -> None:
    """If this fails, a daemon that can't read the kernel's code takes its flushes for proven."""
    log = io.StringIO()
    check_coverage(replace(plan(), unknowns=("implications",)), Health(), True, Log("info", log))
    assert "verdict-rests-on" in log.getvalue()
    assert "it was not read" in log.getvalue()
