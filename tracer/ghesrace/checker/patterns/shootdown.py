# SPDX-License-Identifier: Apache-2.0
"""An IPI-and-wait TLB shootdown that is sent where none may be can wait for ever.

Its sender waits until every other CPU has answered. In an NMI, in a hard interrupt or with
interrupts off it can't answer others meanwhile, and two such senders wait for each other
(kernel/smp.c, smp_call_function_many_cond: "Can deadlock when called with interrupts disabled").
A shootdown that was sent there is *predicted*. If it was sent from inside a GHES handler, GHES is
the cause, and it is *observed*.

What the kernel allows never becomes a SHOOTDOWN event: INVLPGB and arm64's TLBI invalidate
other CPUs without an IPI (those are broadcasts, and no matter of this pattern); early boot is
over before anything is recorded, and after a panic nothing is. With one CPU there is nobody to
wait for.
"""

from __future__ import annotations

from typing import ClassVar

from ghesrace.checker.core.decided import Decided
from ghesrace.checker.core.reader import Sent
from ghesrace.checker.findings import Finding, Occurrence, Severity, Step
from ghesrace.checker.patterns import Pattern, context
from ghesrace.events import Context, Kind
from ghesrace.plan import Plan


class Shootdown(Pattern):
    """This finds IPI-and-wait TLB shootdowns where none may be sent.

    >>> Shootdown(Plan("x86_64", "6.12", (), ())).observed
    0
    """

    name: ClassVar[str] = "shootdown"
    needs: ClassVar[tuple[Kind, ...]] = (Kind.SHOOTDOWN,)
    hidden: ClassVar[tuple[Kind, ...]] = (Kind.SHOOTDOWN,)

    def __init__(self, plan: Plan, all_occurrences: bool = False) -> None:
        super().__init__(plan, all_occurrences)
        self._predicted = 0

    @property
    def predicted(self) -> int:
        """This is how many were sent by anybody but GHES."""
        return self._predicted

    def take(self, decided: Decided) -> None:
        """Take the shootdowns that were sent where none may be."""
        if len(self.plan.cpus) == 1:
            return  # there is nobody to wait for
        for sent in decided.sent:
            self._add(sent)

    def _add(self, sent: Sent) -> None:
        severity: Severity = "predicted" if sent.call is None else "observed"
        if sent.call is None:
            self._predicted += 1
        else:
            self.observed += 1
        point = -1 if sent.call is None else sent.call[1]
        key = (sent.cpu, sent.ctx, sent.off, point)
        self.found.add(key, lambda: self._finding(sent, severity, point), lambda: _occurrence(sent))

    def _finding(self, sent: Sent, severity: Severity, point: int) -> Finding:
        cpu, where = sent.cpu, context(sent.ctx)
        place = f"in {where} context" if sent.ctx > Context.SOFTIRQ else "with interrupts off"
        why = (
            f"CPU {cpu} sent a TLB shootdown to other CPUs and waited for them {place}: it can't "
            "answer theirs meanwhile, and two such senders wait for each other for ever"
        )
        text = "sends IPIs to invalidate other TLBs, and waits for them all"
        steps = [Step("x", None, sent.t, cpu, where, "shootdown", text)]
        slot = None
        if sent.call is not None:
            text = "takes a GHES notification"
            steps.insert(0, Step("x", None, sent.call[0], cpu, where, "notify", text))
            number = self.plan.probes[point].slot if point < len(self.plan.probes) else None
            slot = None if number is None else self.plan.slots[number].name
            why += "; a GHES handler sent it"
        answer = f"must answer; if it waits for CPU {cpu} likewise, it never does"
        steps.append(Step("y", None, None, cpu, "any", "ipi", answer))
        return Finding(self.name, severity, None, slot, (cpu, cpu), None, why, steps)


def _occurrence(sent: Sent) -> Occurrence:
    return Occurrence(sent.t, None, None, None, (sent.cpu, sent.cpu), None)
