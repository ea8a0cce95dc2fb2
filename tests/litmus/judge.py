# SPDX-License-Identifier: Apache-2.0
"""What ghesrace says of a litmus case, beside what it must say."""

from __future__ import annotations

import numpy as np

from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Class, Why
from ghesrace.checker.report import Report
from ghesrace.events import Events, Kind, mark

from .parse import Case


def judged(case: Case) -> Report:
    """The report of the engine. The stream comes in one piece."""
    engine = Engine(case.plan)
    engine.feed(case.stream)
    engine.finish()
    return engine.report()


def classes(report: Report) -> dict[str, dict[str, int]]:
    """Slot name -> class -> episodes, of each slot that has any."""
    names = [cls.name.lower().replace("_", "-") for cls in Class]
    return {
        slot.name: {name: n for name, n in zip(names, slot.classes, strict=True) if n}
        for slot in report.slots
        if slot.episodes
    }


def causes(report: Report) -> dict[str, dict[str, int]]:
    """Slot name -> cause -> uncertain episodes, of each slot that has any episode."""
    names = [why.name.lower() for why in Why]
    return {
        slot.name: {name: n for name, n in zip(names, slot.uncertain, strict=True) if n}
        for slot in report.slots
        if slot.episodes
    }


def differences(case: Case, report: Report) -> list[str]:
    """What the report says otherwise than the case, one line each; empty if nothing.

    Example: `differences(case, judged(case)) == []`.
    """
    found = []
    if report.verdict.word != case.expect:
        why = "; ".join(report.reasons) or "no reason given"
        found.append(f"verdict {report.verdict.word} ({why}), right is {case.expect}")
    if classes(report) != case.classes:
        found.append(f"classes {classes(report)}, right are {case.classes}")
    for slot, right in case.causes.items():
        if causes(report).get(slot, {}) != right:
            found.append(f"uncertain in {slot} for {causes(report).get(slot)}, right is {right}")
    for reason in case.reasons:
        if not any(reason in given for given in report.reasons):
            found.append(f"reasons {report.reasons} lack {reason!r}")
    return found + _patterns(case, report)


def _patterns(case: Case, report: Report) -> list[str]:
    found = []
    seen = [(f.pattern, f.severity, f.cpus, f.frames, f.access) for f in report.findings]
    for pattern, severity, cpus, frames, access in case.findings:
        fits = [f for f in seen if f[:3] == (pattern, severity, cpus)]
        if not any(frames in (None, f[3]) and access in ("", f[4]) for f in fits):
            found.append(f"findings {seen} lack {severity} {pattern} of CPUs {cpus}")
    untold = {f[0] for f in seen} - {name for name, *_ in case.findings} - {"stale"}
    if untold:
        found.append(f"findings of {', '.join(sorted(untold))}, of which the case says nothing")
    harmless = {n: k for n, k in report.patterns["torn_edit"].harmless.items() if k}
    if harmless != case.harmless:
        found.append(f"harmless {harmless}, right is {case.harmless}")
    unchecked = {name for name, result in report.patterns.items() if not result.checked}
    if case.not_checked and unchecked != set(case.not_checked):
        found.append(f"unchecked {sorted(unchecked)}, right is {sorted(case.not_checked)}")
    return found


def pieces(stream: Events, *stamps: int) -> list[Events]:
    """The *stream*, cut by a MARK at each of these *stamps* (ns), its own MARK at the end.

    A piece has what each CPU's buffer holds up to its last event below the stamp, and every loss
    that began below it: a source delivers a loss before the MARK that passes its begin.
    """
    parts = []
    events = stream[~np.isin(stream["kind"], (Kind.LOSS, Kind.MARK))]
    losses = stream[stream["kind"] == Kind.LOSS]
    for stamp in sorted(stamps):
        now = np.zeros(len(events), np.bool_)
        for cpu in np.unique(events["cpu"]):
            mine = np.flatnonzero(events["cpu"] == cpu)
            below = np.flatnonzero(events["ts"][mine] < stamp)
            now[mine[: below[-1] + 1 if len(below) else 0]] = True
        over = losses["addr"] < stamp
        parts.append(np.concatenate([losses[over], events[now], mark(stamp)]))
        events, losses = events[~now], losses[~over]
    return [*parts, np.concatenate([losses, events, stream[stream["kind"] == Kind.MARK]])]


def judged_in_pieces(case: Case, *stamps: int) -> Report:
    """The report when the stream is cut at these *stamps* (ns)."""
    engine = Engine(case.plan)
    for piece in pieces(case.stream, *stamps):
        engine.feed(piece)
    engine.finish()
    return engine.report()
