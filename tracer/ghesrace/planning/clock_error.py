# SPDX-License-Identifier: Apache-2.0
"""This puts the measured error of this host's clocks into a plan, and names what is assumed."""

from __future__ import annotations

from dataclasses import replace

from ghesrace.host import clocks
from ghesrace.plan import UNPROVEN_NS, Plan, Unseen


def with_clock_error(plan: Plan) -> Plan:
    """Return *plan* with the error of the order of two CPUs' stamps, as this host shows it now.

    Where the error could not be measured, or not be proven to be small, the plan's `unseen` says
    that it is assumed, and its `clock_proven_ns` what is proven. The measurement takes about 0.6 s
    at most.

        plan = with_clock_error(make_plan("auto", read_facts()))
        print(plan.clock_error_ns)
    """
    try:
        measured = clocks.compare()
    except OSError as error:
        return _assumed(plan, UNPROVEN_NS, f"it could not be measured: {error.strerror}")
    plan = replace(plan, clock_error_ns=measured.error_ns)
    if measured.bound_ns > measured.error_ns:
        why = f"this host is too busy or too slow to prove less than {measured.bound_ns:,} ns"
        return _assumed(plan, measured.bound_ns, why)
    return plan


def _assumed(plan: Plan, proven_ns: int, why: str) -> Plan:
    what = f"the clocks' error between CPUs: {plan.clock_error_ns:,} ns is assumed"
    unseen = (*plan.unseen, Unseen(what, why))
    return replace(plan, clock_proven_ns=max(proven_ns, plan.clock_error_ns), unseen=unseen)
