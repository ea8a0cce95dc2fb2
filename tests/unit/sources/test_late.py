# SPDX-License-Identifier: Apache-2.0
"""Late events, told alike by live and foreign sources."""

from __future__ import annotations

import pytest

from ghesrace.events import Cause, Events, Kind, empty, joined, loss, select
from ghesrace.sources.late import is_late, late_losses


def stamped(cpu: int, *stamps: int) -> Events:
    events = empty(len(stamps))
    events["kind"], events["cpu"], events["ts"] = Kind.MAP, cpu, stamps
    return events


def test_each_cpu_loses_from_its_own_first_late_event() -> None:
    """If this fails, what was judged without late events counts as complete."""
    events = joined([stamped(3, 70, 40, 110), stamped(1, 100, 101), stamped(0, 99, 200)])
    lost = select(late_losses(events, 100), Kind.LOSS)
    told = [lost[name].tolist() for name in ("cpu", "begin", "end", "count", "cause")]
    assert told == [[0, 3], [99, 40], [100, 100], [0, 0], [Cause.CLOCK] * 2]
    assert is_late(events, 100).tolist() == [True, True, False, False, False, True, False]


@pytest.mark.parametrize("events", [empty(), stamped(1, 100, 5000), loss(1, 2, Cause.MISSED)])
def test_what_is_in_time_is_not_late(events: Events) -> None:
    """If this fails, every run loses something, or a loss that is told late is one more loss."""
    assert not len(late_losses(events, 100))


def test_stamps_beyond_a_signed_number_are_not_late() -> None:
    """If this fails, a damaged stamp is taken for one from before all others."""
    assert not is_late(stamped(0, 2**63 + 5), 100).any()
