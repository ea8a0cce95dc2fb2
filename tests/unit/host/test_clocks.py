# SPDX-License-Identifier: Apache-2.0
"""The comparison of the CPUs' clocks."""

from __future__ import annotations

import os
import time

import pytest

from ghesrace.host import clocks


@pytest.mark.parametrize(
    ("stamps", "bound", "warp"),
    [
        ([(0, 50, 100)], 50, 0),
        ([(0, 50, 100), (1000, 1010, 1030)], 20, 0),  # the tightest round counts
        ([(0, -40, 100)], 140, 40),  # received before it was sent
        ([(0, 150, 100)], 150, 50),  # answered before it was received
        ([], 10**6, 0),
    ],
)
def test_judge(stamps, bound: int, warp: int):
    """A clock that is wrong would pass, or a right one be called wrong."""
    assert clocks.judge(stamps, 10**6) == clocks.Comparison(bound, warp)


def test_error():
    """A busy host would make every order uncertain; a seen warp would be forgotten."""
    assert clocks.Comparison(300, 0).error_ns == 300
    assert clocks.Comparison(5_000_000, 0).error_ns == clocks.ASSUMED_NS
    assert clocks.Comparison(5_000_000, 4_000).error_ns == 4_000


def test_running_host():
    """It would take too long, or leave this process pinned to one CPU."""
    home = os.sched_getaffinity(0)
    begin = time.monotonic()
    found = clocks.compare()
    assert time.monotonic() - begin < 2
    assert os.sched_getaffinity(0) == home
    assert found.warp_ns <= found.bound_ns
    assert (found.bound_ns == 0) == (len(home) == 1)


@pytest.mark.slow
def test_a_cpu_that_is_not_there():
    """The failure of the other side would look like a measured bound."""
    with pytest.raises(OSError, match="cannot run on CPU 4095"):
        clocks.compare([min(os.sched_getaffinity(0)), 4095])
