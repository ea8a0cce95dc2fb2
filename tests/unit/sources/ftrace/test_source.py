# SPDX-License-Identifier: Apache-2.0
"""The ftrace source: what needs no kernel. The rest is in tests/lab/test_ftrace.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.errors import HostError
from ghesrace.plan import Plan, Probe
from ghesrace.sources.ftrace.source import FtraceSource


def test_host_without_tracefs_is_told_so(tmp_path: Path) -> None:
    """If this fails, a host that can't trace gets a traceback instead of exit 3."""
    plan = Plan("x86_64", "t", (), (Probe("x", "MAP", "f", "kprobe"),))
    source = FtraceSource(plan, {}, root=str(tmp_path))
    with pytest.raises(HostError, match="no tracefs"):
        source.__enter__()
    with pytest.raises(HostError, match="not attached"):
        next(source.batches())


def test_clock_that_user_space_lacks_is_refused_before_anything_is_attached() -> None:
    """If this fails, the marks of a capture are on another clock than its events."""
    with pytest.raises(HostError, match="x86-tsc"):
        FtraceSource(Plan("x86_64", "t", (), (), clock="x86-tsc"), {})
