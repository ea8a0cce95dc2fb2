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

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np

from ghesrace.checker.findings import (
    Collection,
    Finding,
    Occurrence,
    Severity,
    Step,
    groups,
    ranked,
    step_of,
)
from ghesrace.checker.losses import hides
from ghesrace.checker.model import Table, What
from ghesrace.checker.patterns import Contexts, Evidence
from ghesrace.events import Bools, Context, Events, Flag, Ints, Kind
from ghesrace.plan import Plan


@dataclass(slots=True)
class Shootdown:
    """This finds shootdowns that are sent where none may be; the module says what counts.

    >>> Shootdown(Plan("x86_64", "6.12", (), ())).observed
    0
    """

    name: ClassVar[str] = "shootdown"
    essential: ClassVar[bool] = False
    needs: ClassVar[tuple[Kind, ...]] = (Kind.SHOOTDOWN,)
    contexts: ClassVar[Contexts] = "not needed"
    plan: Plan
    all_occurrences: bool = False
    harmless: dict[str, int] = field(default_factory=dict)
    observed: int = 0
    predicted: int = 0
    _found: Collection = field(init=False)
    _hidden: bool = False

    def __post_init__(self) -> None:
        self._found = Collection(self.all_occurrences)

    @property
    def happened(self) -> bool:
        """This is true if it is observed or predicted."""
        return bool(self.observed or self.predicted)

    def step(self, evidence: Evidence) -> None:
        """Look at the shootdowns of one step, and at the handlers that they were sent from."""
        losses = evidence.chunk.losses
        self._hidden |= bool(hides(self.plan, losses, (Kind.SHOOTDOWN,)).any())
        sent = evidence.chunk.fresh
        sent = sent[(sent["kind"] == Kind.SHOOTDOWN) & _forbidden(sent)]
        if not len(sent) or len(self.plan.cpus) == 1:
            return
        calls = np.concatenate([evidence.spans.over, evidence.spans.open])
        calls = calls[calls["what"] == What.CALL]
        caller = _callers(sent, calls)
        inside = caller >= 0
        self.observed += int(inside.sum())
        self.predicted += int((~inside).sum())
        off = (sent["flags"] & Flag.IRQS_OFF) != 0
        point = np.where(inside, np.append(calls["point"], 0)[caller], -1)
        for members in groups(sent["cpu"], sent["ctx"], off, point):
            first = members[0]
            event = sent[first]
            call = calls[caller[first]] if inside[first] else None
            key = (int(event["cpu"]), int(event["ctx"]), bool(off[first]), int(point[first]))
            self._found.add(
                key,
                members,
                partial(self._finding, event, call),
                lambda k: _occurrence(sent[k]),
            )

    def _finding(self, event: np.void, call: np.void | None) -> Finding:
        cpu, context = int(event["cpu"]), Context(int(event["ctx"])).name.lower()
        where = f"in {context} context" if event["ctx"] > Context.SOFTIRQ else "with interrupts off"
        why = (
            f"CPU {cpu} sent a TLB shootdown to other CPUs and waited for them {where}: it can't "
            "answer theirs meanwhile, and two such senders wait for each other for ever"
        )
        text = "sends IPIs to invalidate other TLBs, and waits for them all"
        steps = [step_of("x", event, int(event["ts"]), "shootdown", text)]
        slot = None
        if call is not None:
            begin = step_of("x", call, int(call["t"]), "notify", "takes a GHES notification")
            steps.insert(0, begin)
            slot = self._slot(int(call["point"]))
            why += "; a GHES handler sent it"
        answer = f"must answer; if it waits for CPU {cpu} likewise, it never does"
        steps.append(Step("y", None, None, cpu, "any", "ipi", answer))
        severity: Severity = "predicted" if call is None else "observed"
        return Finding(self.name, severity, None, slot, (cpu, cpu), None, why, steps)

    def _slot(self, point: int) -> str | None:
        number = self.plan.probes[point].slot if point < len(self.plan.probes) else None
        return None if number is None else self.plan.slots[number].name

    def findings(self) -> list[Finding]:
        """Return all findings, the worst first."""
        return ranked(list(self._found.found.values()))

    def hidden(self) -> bool:
        """Return whether a loss may have hidden a shootdown."""
        return self._hidden

    def doubts(self) -> list[str]:
        """Return [], as all that was seen is in one CPU, whose order is known."""
        return []


def _forbidden(events: Events) -> Bools:
    """Return a mask of those events which are in a hard interrupt or an NMI, or have interrupts
    off."""
    hard = (events["ctx"] == Context.IRQ) | (events["ctx"] == Context.NMI)
    return np.asarray(hard | ((events["flags"] & Flag.IRQS_OFF) != 0))


def _callers(sent: Events, calls: Table) -> Ints:
    """Return, for each shootdown, the row of *calls* (SPAN) that it is in, which is a handler's run
    in its own CPU and context, or -1."""
    caller = np.full(len(sent), -1, np.int64)
    for cpu, ctx in np.unique(np.stack([sent["cpu"], sent["ctx"]]), axis=1).T.tolist():
        mine = np.flatnonzero((sent["cpu"] == cpu) & (sent["ctx"] == ctx))
        runs = np.flatnonzero((calls["cpu"] == cpu) & (calls["ctx"] == ctx) & ~calls["touched"])
        runs = runs[np.argsort(calls["seq"][runs], kind="stable")]
        if not len(runs):
            continue
        # A handler can call another, so of those begun before this takes the one that ends last.
        end = np.maximum.accumulate(calls["seq_end"][runs])
        longest = np.maximum.accumulate(
            np.where(calls["seq_end"][runs] == end, np.arange(len(runs)), 0)
        )
        seq = sent["seq"][mine].astype(np.int64)
        last = np.searchsorted(calls["seq"][runs], seq, side="left") - 1
        run = runs[longest[np.maximum(last, 0)]]
        here = (last >= 0) & (seq < calls["seq_end"][run])
        here &= sent["ts"][mine].astype(np.int64) <= calls["t_end"][run]
        caller[mine[here]] = run[here]
    return caller


def _occurrence(event: np.void) -> Occurrence:
    cpu = int(event["cpu"])
    return Occurrence(int(event["ts"]), None, None, None, (cpu, cpu), None)
