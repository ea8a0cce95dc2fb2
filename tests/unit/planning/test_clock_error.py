# SPDX-License-Identifier: Apache-2.0
"""The clocks' error in a plan: proven, or assumed and named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ghesrace.host import clocks
from ghesrace.host.clocks import ASSUMED_NS, Comparison
from ghesrace.plan import UNPROVEN_NS
from ghesrace.planning.clock_error import with_clock_error
from tests.build.plans import unseen
from tests.build.trace import plan

Measure = Callable[[Comparison | OSError], None]


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Measure:
    def make(outcome: Comparison | OSError) -> None:
        def compare() -> Comparison:
            if isinstance(outcome, OSError):
                raise outcome
            return outcome

        monkeypatch.setattr(clocks, "compare", compare)

    return make


def test_a_proven_error_is_taken_without_a_word(measure: Measure) -> None:
    """Every order within a microsecond would stay open though the clocks can tell it."""
    measure(Comparison(bound_ns=300, warp_ns=0))
    made = with_clock_error(plan(error=5))
    assert (made.clock_error_ns, made.clock_proven_ns, made.unseen) == (300, None, ())


def test_a_host_too_busy_to_prove_it(measure: Measure) -> None:
    """A finding that needs the assumption would not say so."""
    measure(Comparison(bound_ns=5_000_000, warp_ns=0))
    made = with_clock_error(plan(error=5))
    assert (made.clock_error_ns, made.clock_proven_ns) == (ASSUMED_NS, 5_000_000)
    assert f"{ASSUMED_NS:,} ns is assumed: this host is too busy" in unseen(made)
    assert "5,000,000 ns" in unseen(made)


def test_clocks_that_contradict_each_other(measure: Measure) -> None:
    """A warp that was measured would be forgotten: the order of two CPUs would be made up."""
    measure(Comparison(bound_ns=9_000, warp_ns=4_000))
    made = with_clock_error(plan(error=5))
    assert (made.clock_error_ns, made.clock_proven_ns) == (4_000, 9_000)


def test_a_host_that_does_not_let_it_be_measured(measure: Measure) -> None:
    """A container without the right to pin itself to a CPU could not capture at all."""
    measure(OSError(1, "Operation not permitted"))
    made = with_clock_error(plan(error=700))
    assert (made.clock_error_ns, made.clock_proven_ns) == (700, UNPROVEN_NS)
    assert "700 ns is assumed: it could not be measured: Operation not permitted" in unseen(made)
