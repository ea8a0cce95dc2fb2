# SPDX-License-Identifier: Apache-2.0
"""The kernel's lists of CPUs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ghesrace.host.cpus import parse_cpus


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0\n", (0,)),
        ("0-1\n", (0, 1)),
        ("2,4-6,9\n", (2, 4, 5, 6, 9)),
        ("3-3", (3,)),
        ("", ()),
        ("x,1,-,5-x,7-", (1, 7)),
    ],
)
def test_lists(text: str, cpus: tuple[int, ...]) -> None:
    """A CPU would be missing in the plan: what it did would be nobody's."""
    assert parse_cpus(text) == cpus


def test_this_hosts_own() -> None:
    """The format would be another than that of a real kernel."""
    online = parse_cpus(Path("/sys/devices/system/cpu/online").read_text())
    assert len(online) == os.sysconf("SC_NPROCESSORS_ONLN")
    assert set(os.sched_getaffinity(0)) <= set(online)
