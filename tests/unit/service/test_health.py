# SPDX-License-Identifier: Apache-2.0
"""What the daemon notices of itself and of its host."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.service.health import (
    Clocks,
    Health,
    threads_with_capabilities,
)


def test_suspend_and_clock_steps_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a night asleep looks like a night watched."""
    readings = iter([(0.0, 100.0), (0.0, 100.2), (3600.0, 3700.2), (3600.0, 3640.0)])
    monkeypatch.setattr(Clocks, "_read", staticmethod(lambda: next(readings)))
    clocks, health = Clocks(), Health()
    assert clocks.look(health) == []
    assert clocks.look(health) == [("suspended", 3600.0)]
    [(event, moved)] = clocks.look(health)
    assert (event, round(moved)) == ("clock-step", -60)
    assert (health.suspends, health.clock_steps) == (1, 1)


def test_threads_with_capabilities(tmp_path: Path) -> None:
    """If this fails, a thread that kept root's powers goes unnoticed."""
    for thread, held in ((1, 0), (2, 1 << 21)):
        (tmp_path / str(thread)).mkdir()
        (tmp_path / str(thread) / "status").write_text(f"Name:\tx\nCapPrm:\t{held:016x}\n")
    assert threads_with_capabilities(tmp_path) == [2]
