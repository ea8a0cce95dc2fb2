# SPDX-License-Identifier: Apache-2.0
"""Unsafe shootdowns: who sent one, from where, and what is told; the rules are in tests/litmus."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ghesrace.checker.findings import Finding
from ghesrace.checker.report import Report
from ghesrace.events import NO_POINT, Context, Flag, Kind
from ghesrace.plan import Probe, Slot
from tests.build.judging import judge
from tests.build.trace import POINTS, A, Trace, V, plan


def shootdowns(report: Report) -> list[Finding]:
    return [f for f in report.findings if f.pattern == "shootdown"]


def traffic() -> Trace:
    trace = Trace()
    trace.report(0, A, flush=True)
    return trace


@pytest.mark.parametrize(
    ("context", "flags", "where"),
    [
        (Context.NMI, 0, "in nmi context"),
        (Context.IRQ, 0, "in irq context"),
        (Context.TASK, Flag.IRQS_OFF, "with interrupts off"),
        (Context.SOFTIRQ, Flag.IRQS_OFF, "with interrupts off"),
        (Context.SOFTIRQ, 0, None),
        (Context.TASK, 0, None),
        (Context.TASK, Flag.WRITE, None),
    ],
)
def test_where_none_may_be_sent(context: Context, flags: int, where: str | None) -> None:
    """An allowed one would be a hazard, or one from an NMI none."""
    trace = traffic()
    trace.add(1, Kind.SHOOTDOWN, context, flags=flags)
    found = shootdowns(judge(plan(), trace.stream()))
    assert [f.severity for f in found] == ([] if where is None else ["predicted"])
    assert all(str(where) in f.explanation for f in found)


def test_a_handler_that_sends_one_is_the_cause() -> None:
    """GHES' own hazard would look like somebody else's."""
    slots = (Slot("nmi", 645, V, "report"),)
    base = plan(*slots)
    probes = list(base.probes)
    at = POINTS.index("NOTIFY")
    probes[at] = Probe("notify", "NOTIFY", "f", "kprobe", slot=0)
    made = replace(base, probes=tuple(probes))
    trace = traffic()
    trace.add(1, Kind.NOTIFY, Context.NMI)
    trace.add(1, Kind.SHOOTDOWN, Context.NMI)
    trace.add(1, Kind.NOTIFY_END, Context.NMI)
    trace.add(1, Kind.SHOOTDOWN, Context.NMI)  # behind it: not the handler's
    observed, predicted = shootdowns(judge(made, trace.stream()))
    assert (observed.severity, observed.slot, observed.cpus) == ("observed", "nmi", (1, 1))
    assert [step.event for step in observed.steps] == ["notify", "shootdown", "ipi"]
    assert (predicted.severity, predicted.slot) == ("predicted", None)
    assert [step.event for step in predicted.steps] == ["shootdown", "ipi"]


def test_a_handler_on_another_cpu_or_in_another_context_is_not_the_sender() -> None:
    """Whoever happened to run beside it would be blamed."""
    trace = traffic()
    trace.add(0, Kind.NOTIFY, Context.NMI)
    trace.add(1, Kind.SHOOTDOWN, Context.IRQ)
    trace.add(0, Kind.NOTIFY_END, Context.NMI)
    trace.add(1, Kind.NOTIFY, Context.IRQ)
    trace.add(1, Kind.SHOOTDOWN, Context.NMI)
    trace.add(1, Kind.NOTIFY_END, Context.IRQ)
    assert judge(plan(), trace.stream()).patterns["shootdown"].observed == 0


def test_the_inner_of_two_handlers_ends_before_the_outer() -> None:
    """ghes_proc called by ghes_irq_func: what comes behind its end is still in a handler."""
    inner = len(POINTS)
    more = (
        Probe("proc", "NOTIFY", "proc", "kprobe"),
        Probe("proc", "NOTIFY_END", "proc", "kprobe"),
    )
    made = replace(plan(), probes=(*plan().probes, *more))
    trace = traffic()
    trace.add(1, Kind.NOTIFY, Context.IRQ)
    trace.add(1, Kind.NOTIFY, Context.IRQ, point=inner)
    trace.add(1, Kind.NOTIFY_END, Context.IRQ, point=inner + 1)
    trace.add(1, Kind.SHOOTDOWN, Context.IRQ)
    trace.add(1, Kind.NOTIFY_END, Context.IRQ)
    trace.add(1, Kind.SHOOTDOWN, Context.IRQ)
    result = judge(made, trace.stream()).patterns["shootdown"]
    assert (result.observed, result.predicted) == (1, 1)


def test_one_cpu_has_nobody_to_wait_for() -> None:
    """Every virtual machine of one CPU would have a hazard."""
    trace = traffic()
    trace.add(0, Kind.SHOOTDOWN, Context.NMI)
    assert judge(plan(cpus=1), trace.stream()).patterns["shootdown"].predicted == 0
    assert judge(plan(cpus=2), trace.stream()).patterns["shootdown"].predicted == 1


def test_a_handler_of_no_known_probe_is_of_no_slot() -> None:
    """A trace whose handlers no probe point names would end the check in an IndexError."""
    trace = traffic()
    trace.add(0, Kind.NOTIFY, Context.NMI, point=NO_POINT)
    trace.add(0, Kind.SHOOTDOWN, Context.NMI)
    trace.add(0, Kind.NOTIFY_END, Context.NMI, point=NO_POINT)
    (found,) = shootdowns(judge(plan(), trace.stream()))
    assert (found.severity, found.slot) == ("observed", None)
