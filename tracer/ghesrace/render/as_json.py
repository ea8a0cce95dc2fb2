# SPDX-License-Identifier: Apache-2.0
"""This makes the JSON report of `ghesrace check`; check.schema.json documents its shape."""

from __future__ import annotations

from typing import Any

from ghesrace.checker.findings import Finding, Occurrence
from ghesrace.checker.model import Class, class_word
from ghesrace.checker.report import Report, SlotCounts

from .names import frame_source, slot_sources


def report(result: Report, host: dict[str, Any], file: str | None = None) -> dict[str, Any]:
    """Return the JSON-ready form of the report *result*, with times in ns, and addresses and frames
    as hexadecimal strings. *host* holds the facts of a capture's metadata, *file* its name.

    >>> from ghesrace.checker.engine import Engine
    >>> from ghesrace.plan import Plan
    >>> report(Engine(Plan("x86_64", "6.12", (), ())).report(), host={})["verdict"]
    'inconclusive'
    """
    return {
        "file": file,
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
        "findings": [_finding(f, host) for f in result.findings],
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


def _finding(finding: Finding, host: dict[str, Any]) -> dict[str, Any]:
    return {
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
