# SPDX-License-Identifier: Apache-2.0
"""This makes the JSON report of `ghesrace check`; check.schema.json documents its shape."""

from __future__ import annotations

from typing import Any

from ghesrace import __version__
from ghesrace.checker.findings import Finding, Occurrence
from ghesrace.checker.model import Class, class_word
from ghesrace.checker.report import SlotCounts
from ghesrace.plan import Plan

from .faults import faults
from .judgement import Failure, Judgement
from .names import frame_source, slot_sources

# check.schema.json has the same `$id`. The first number grows when something goes or changes its
# meaning, the second when something comes.
SCHEMA = "urn:ghesrace:check:2"
SCHEMA_VERSION = "2.0"


def document(judged: Judgement | Failure) -> dict[str, Any]:
    """Return the JSON-ready form of what was *judged*, with times in ns, and addresses and frames
    as hexadecimal strings.

    >>> from ghesrace.checker.engine import Engine
    >>> plan = Plan("x86_64", "6.12", (), ())
    >>> document(Judgement(None, Engine(plan).report(), plan))["verdict"]
    'inconclusive'
    """
    head = {
        "schema": {"id": SCHEMA, "version": SCHEMA_VERSION},
        "tool": {"name": "ghesrace", "version": __version__},
        "redacted": judged.redacted,
        "file": judged.file,
        "exit_code": judged.code,
    }
    if isinstance(judged, Failure):
        return {**head, "error": {"what": judged.what, "hint": judged.hint}}
    return {**head, "error": None, **_report(judged)}


def _report(judged: Judgement) -> dict[str, Any]:
    result, host = judged.report, judged.host
    names = {
        id(finding): (fault.name, f"{fault.name}.{number}")
        for fault in faults(result.findings)
        for number, finding in enumerate(fault.variants, 1)
    }
    return {
        "host": host,
        "recording": _recording(judged.plan, host),
        "verdict": result.verdict.word,
        "qualified_by": list(result.qualified_by),
        "reasons": result.reasons,
        "assumed_clock_ns": result.assumed_clock_ns,
        "truncated": result.truncated,
        "events": result.events,
        "lost": result.lost,
        "losses": result.losses,
        "slots": [_slot(slot, host) for slot in result.slots],
        "patterns": {
            name: {
                "checked": p.checked,
                "observed": p.observed,
                "predicted": p.predicted,
                "not_checked_because": p.not_checked_because,
                "harmless": p.harmless,
                "uncertain": p.uncertain,
            }
            for name, p in result.patterns.items()
        },
        "findings": [_finding(f, host, *names[id(f)]) for f in result.findings],
        "unseen": [
            {
                "what": u.what,
                "why": u.why,
                "affects": {"patterns": list(u.patterns), "slots": list(u.slots)},
            }
            for u in result.unseen
        ],
    }


def _slot(slot: SlotCounts, host: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": slot.name,
        "address": None if slot.address is None else f"{slot.address:#x}",
        "sources": slot_sources(host, slot.name),
        "episodes": slot.episodes,
        "handoffs": slot.handoffs,
        "latent": slot.latent,
        "classes": {class_word(c): slot.classes[c] for c in Class},
    }


def _recording(plan: Plan, host: dict[str, Any]) -> dict[str, Any]:
    return {
        "backend": None if "source" in host else plan.backend,
        "summary": plan.summary,
        "clock": plan.clock,
        "clock_error_ns": plan.clock_error_ns,
        "contexts": plan.contexts,
    }


def _finding(finding: Finding, host: dict[str, Any], group: str, name: str) -> dict[str, Any]:
    return {
        "group": group,
        "name": name,
        "pattern": finding.pattern,
        "severity": finding.severity,
        "access": finding.access,
        "slot": finding.slot,
        "cpus": list(finding.cpus),
        "frames": _frames(finding.frames),
        "sources": [frame_source(host, f) for f in finding.frames or ()],
        "count": finding.count,
        "reordered": finding.reordered,
        "assumed_clock_ns": finding.assumed_clock_ns,
        "explanation": finding.explanation,
        "occurrences": [_occurrence(o) for o in finding.occurrences],
        "steps": [
            {
                "n": s.n,
                "ts": s.ts,
                "cpu": s.cpu,
                "context": s.context,
                "event": s.event,
                "text": s.text,
            }
            for s in finding.steps
        ],
    }


def _occurrence(o: Occurrence) -> dict[str, Any]:
    return {
        "ts": o.ts,
        "ts_map": o.ts_map,
        "ts_read": o.ts_read,
        "ts_unmap": o.ts_unmap,
        "cpus": list(o.cpus),
        "frames": _frames(o.frames),
    }


def _frames(frames: tuple[int, int] | None) -> list[str] | None:
    return None if frames is None else [f"{frame:#x}" for frame in frames]
