# SPDX-License-Identifier: Apache-2.0
"""How far the stamps of two CPUs may differ (docs/rules.md, "Clocks")."""

from __future__ import annotations

from ghesrace.plan import Plan


class Clocks:
    """A plan's bounds of the clock error, in ns: `general`, those of pairs that have one of their
    own, and `largest`, which bounds every pair. With *proven* the general one is what was proven,
    where the plan assumes less.

    Whatever compares the stamps of two CPUs asks `error`. What has to hold for all CPUs at once,
    such as how far the mark must have passed, takes `largest`.

    >>> plan = Plan("x86_64", "6.12", (), (), clock_error_ns=900, pair_errors_ns=((1, 2, 50),))
    >>> clocks = Clocks(plan)
    >>> clocks.error(2, 1), clocks.error(0, 2), clocks.error(0, 0), clocks.largest
    (50, 900, 0, 900)
    """

    def __init__(self, plan: Plan, proven: bool = False) -> None:
        self.general = plan.clock_error_ns
        if proven and plan.clock_proven_ns is not None:
            self.general = plan.clock_proven_ns
        self.own = {x << 16 | y: error for x, y, error in plan.pair_errors_ns}
        self.pairs = bool(self.own)
        self.largest = max(self.general, max(self.own.values(), default=0))

    def error(self, cpu: int, other: int) -> int:
        """Return by how many ns the stamps of two CPUs may differ; 0 of one CPU, the largest where
        one of them (-1) may be any."""
        if cpu == other and cpu >= 0:
            return 0
        if not self.pairs:
            return self.general
        if cpu < 0 or other < 0:
            return self.largest
        if cpu > other:
            cpu, other = other, cpu
        found: int = self.own.get(cpu << 16 | other, self.general)
        return found
