# SPDX-License-Identifier: Apache-2.0
"""The checker's verdict on a trace next to the oracle's answer.

At the start of a trace a CPU may hold an unknown frame (DESIGN.md, "Losses"). The oracle has
it as a content of its own, `UNKNOWN`, that only the code's own invalidations remove. An
access that may use nothing else wrong is `start` here and `uncertain` for the checker, and
the trace is inconclusive if no later episode of that CPU and slot was judged.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import NamedTuple

from ghesrace.checker.engine import Engine
from ghesrace.checker.findings import Finding
from ghesrace.checker.model import Class
from ghesrace.checker.report import Report
from ghesrace.plan import Plan

from . import stream
from .machine import Program, Seen, Stale, reachable, replay
from .protocol import PROTOCOLS, Op, Protocol
from .traces import Trace, programs_of


class Answer(NamedTuple):
    """A verdict's word and, per slot, the word of each episode in time order."""

    verdict: str
    episodes: tuple[tuple[str, ...], ...]


def oracle(trace: Trace, protocol: Protocol, cpus: int, slots: int) -> Answer:
    """What the checker should say: per episode none, uncertain, luck or safe."""
    seen = replay(trace, protocol, cpus, slots)
    sober = [op for op in trace if op.what not in ("luck", "tick")]
    unlucky = replay(sober, protocol, cpus, slots) if len(sober) < len(trace) else seen
    episodes: list[list[tuple[int, str]]] = [[] for _ in range(slots)]
    for access, without in zip(seen, unlucky, strict=True):
        episodes[access.slot].append((access.cpu, _word(access, without)))
    words = tuple(tuple(word for _, word in slot) for slot in episodes)
    said = {word for slot in words for word in slot}
    if "none" in said:
        verdict = "race-observed"
    elif "luck" in said or predicted(programs_of(trace, cpus), protocol, slots):
        verdict = "race-predicted"
    elif "maybe" in said or any(_start_counts(slot) for slot in episodes):
        verdict = "inconclusive"
    else:
        verdict = "clean"
    plain = {"maybe": "uncertain", "start": "uncertain"}
    return Answer(verdict, tuple(tuple(plain.get(w, w) for w in slot) for slot in words))


def _word(access: Seen, without_luck: Seen) -> str:
    if access.stale != "no":
        return {"yes": "none", "maybe": "maybe"}[access.stale]
    if without_luck.stale == "yes":
        return "luck"
    return "start" if access.unknown else "safe"


def _start_counts(episodes: list[tuple[int, str]]) -> bool:
    """Whether some CPU was never judged after it may have held an unknown frame."""
    last = dict(episodes)  # the last word on each CPU
    return "start" in last.values()


@lru_cache(maxsize=4096)
def predicted(program: Program, protocol: Protocol, slots: int) -> frozenset[Stale]:
    """Every stale access in another order of the holds of *program*.

    Where one CPU alone took all notifications of a slot, others could have: each of these
    may then run on another CPU, in any order of the holds.
    """
    found = reachable(program, protocol, slots)
    for slot in range(slots):
        mine = [tuple(op for op in ops if op.slot == slot and op.hold) for ops in program]
        if len(program) > 1 and sum(map(bool, mine)) == 1:
            calls: dict[str, tuple[Op, ...]] = {}
            for op in (op for ops in mine for op in ops):
                calls[op.call] = (*calls.get(op.call, ()), op)
            for cpus in product(range(2), repeat=len(calls)):
                runs: list[tuple[Op, ...]] = [(), ()]
                for cpu, ops in zip(cpus, calls.values(), strict=True):
                    runs[cpu] += tuple(op._replace(cpu=cpu) for op in ops)
                found |= reachable(tuple(runs), protocol, slots)
    return found


@lru_cache(maxsize=64)
def _plan(protocol: Protocol, cpus: int, slots: int) -> Plan:
    return stream.plan(protocol, cpus, slots)


def checker(trace: Trace, protocol: Protocol, cpus: int, slots: int) -> tuple[Answer, Report]:
    """What the checker does say, in the oracle's words."""
    engine = Engine(_plan(protocol, cpus, slots))
    judged = engine.feed(stream.stream(trace)) + engine.finish()
    report = engine.report()
    words: list[list[str]] = [[] for _ in range(slots)]
    plain = {Class.NONE: "none", Class.UNCERTAIN: "uncertain", Class.INCIDENTAL: "luck"}
    for batch in judged:
        words[batch.slot] += [plain.get(Class(cls), "safe") for cls in batch.cls]
    return Answer(report.verdict.word, tuple(map(tuple, words))), report


def disagreement(trace: Trace, protocol: Protocol, cpus: int, slots: int) -> str | None:
    """What checker and oracle say differently about *trace*, witnesses included; or None."""
    expected = oracle(trace, protocol, cpus, slots)
    said, report = checker(trace, protocol, cpus, slots)
    if said != expected:
        return f"the oracle says {expected}, the checker {said}"
    reach = predicted(programs_of(trace, cpus), protocol, slots)
    names = ("irq", "nmi")
    for finding in report.findings:
        p, q = finding.frames
        alone = finding.cpus[0] == finding.cpus[1]  # the other CPU is an assumption
        shown = [
            s
            for s in reach
            if names[s.slot] == finding.slot
            and (stream.frame(s.p), stream.frame(s.q)) == (p, q)
            and (alone or (s.x, s.y) == finding.cpus)
        ]
        if finding.reordered and not shown:
            return f"no order reaches the predicted {finding.cpus} {finding.frames}: {reach}"
        if finding.reordered and not witnessed(finding, trace, protocol, cpus, slots):
            return f"the witness of {finding.cpus} {finding.frames} reaches no stale access"
    return None


def witnessed(finding: Finding, trace: Trace, protocol: Protocol, cpus: int, slots: int) -> bool:
    """Whether the witness of *finding*, replayed in its own order, ends in the stale access.

    Of two holds of one CPU the first runs on another, as the finding assumes.
    """
    numbers = {stream.stamp(number): op for number, op in enumerate(trace)}
    x, y = finding.cpus
    other = x if x != y else (y + 1) % cpus
    order = tuple(
        numbers[step.ts]._replace(cpu=other if step.side == "x" else y, call=step.side)
        for step in finding.steps
        if step.ts is not None
    )
    return any(seen.stale == "yes" for seen in replay(order, protocol, cpus, slots, False))


_REPLAYED = {
    "notify": "notify",
    "map": "map",
    "inv_page": "flush",
    "read": "read",
    "write": "read",
    "unmap": "unmap",
}


def witness_reaches_stale(finding: Finding, protocol: Protocol = PROTOCOLS[0]) -> bool:
    """Whether the steps of a stale finding, replayed as they stand under *protocol*, end in the
    stale access. For traces of real kernels: frames are told apart by side only.
    """
    frames = {"x": "A", "y": "B"}
    x, y = finding.cpus
    cpu = {"x": 0 if x != y else 1, "y": 1 if x != y else 0}
    order = tuple(
        Op(
            cpu[step.side],
            _REPLAYED[step.event],
            step.context,
            0,
            frames[step.side] if step.event == "map" else "",
            step.side,
            step.side,
        )
        for step in finding.steps
        if step.event in _REPLAYED and step.context != "any"
    )
    return any(seen.stale == "yes" for seen in replay(order, protocol, 2, 1, False))
