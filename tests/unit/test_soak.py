# SPDX-License-Identifier: Apache-2.0
"""The soak's replay in small: its traffic is clean, its accounts are exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak import replay
from tests.soak.__main__ import floors


@pytest.mark.slow
def test_replay_is_clean_and_accounts_for_everything(tmp_path: Path) -> None:
    """If this fails, an hour of soak proves nothing: a finding or a gap is the traffic's own."""
    outcome = replay.run(60_000, tmp_path)
    assert outcome.findings == 0
    assert outcome.counted == outcome.events >= 60_000
    assert outcome.lost == outcome.lost_expected
    assert outcome.memory <= 32 << 20
    assert list(tmp_path.iterdir()) == []


def test_floors_show_a_leak_and_not_a_breath() -> None:
    """If this fails, the soak fails where memory comes back, or passes where it never does."""
    breath = [50, 60, *(100 + 15 * (i % 3) for i in range(30))]
    assert floors(breath) == (100, 100)
    leak = [high + i for i, high in enumerate(breath)]
    first, last = floors(leak)
    assert last - first >= 15
    assert floors([70]) == (70, 70)
