# SPDX-License-Identifier: Apache-2.0
"""The bound of two CPUs' stamps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ghesrace.checker.core import clocks
from tests.build.trace import plan
from tests.build.uncompiled import uncompiled

PAIRS = ((0, 1, 50), (1, 3, 5_000))


@pytest.mark.parametrize(
    ("cpu", "other", "error"),
    [
        (0, 0, 0),
        (0, 1, 50),
        (1, 0, 50),
        (3, 1, 5_000),
        (0, 2, 900),
        (0, 3, 900),
        (-1, 0, 5_000),  # any CPU
        (0, -1, 5_000),
        (-1, -1, 5_000),
    ],
)
def test_the_bound_of_a_pair(cpu: int, other: int, error: int) -> None:
    """Two stamps would be ordered that are not, or the reverse."""
    made = uncompiled(clocks).Clocks(replace(plan(error=900), pair_errors_ns=PAIRS))
    assert made.error(cpu, other) == error
    assert (made.largest, made.pairs) == (5_000, True)


def test_without_pairs_one_bound_is_for_all() -> None:
    """The proven one only if it is asked for."""
    for proven, error in ((False, 900), (True, 7_000)):
        made = uncompiled(clocks).Clocks(replace(plan(error=900), clock_proven_ns=7_000), proven)
        assert {made.error(a, b) for a, b in ((0, 1), (-1, 0), (-1, -1))} == {error}
        assert (made.largest, made.pairs, made.error(2, 2)) == (error, False, 0)
    assert uncompiled(clocks).Clocks(plan(error=900), True).largest == 900
