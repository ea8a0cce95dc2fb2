# SPDX-License-Identifier: Apache-2.0
"""Documents as `check --format json` writes them, without a recording."""

from __future__ import annotations

from typing import Any

from ghesrace.render.as_json import SCHEMA, SCHEMA_VERSION
from ghesrace.render.diff.document import side_of
from ghesrace.render.diff.side import CLASSES, Side

PATTERNS = ("stale", "torn_edit", "shootdown", "overlap")


def finding(
    pattern: str = "stale",
    severity: str = "observed",
    slot: str | None = "GHES_IRQ",
    access: str | None = None,
    why: str = "no invalidation on CPU 1 between the unmap on CPU 0 and its read: frame 0x1000",
    count: int = 1,
) -> dict[str, Any]:
    access = "read" if pattern == "stale" and access is None else access
    return {
        "group": "1",
        "name": "1.1",
        "pattern": pattern,
        "severity": severity,
        "access": access,
        "slot": slot,
        "cpus": [0, 1],
        "frames": None,
        "sources": [],
        "count": count,
        "reordered": False,
        "assumed_clock_ns": None,
        "explanation": why,
        "occurrences": [],
        "steps": [],
    }


def slot(name: str = "GHES_IRQ", **classes: int) -> dict[str, Any]:
    """A slot with so many episodes of each class; map_flush stands for map-flush."""
    counts = dict.fromkeys(CLASSES, 0)
    counts |= {word.replace("_", "-"): n for word, n in classes.items()}
    episodes = sum(counts.values())
    handoffs = episodes // 2
    named = {"name": name, "address": None, "sources": [], "episodes": episodes}
    return {**named, "handoffs": handoffs, "latent": 0, "classes": counts}


def report(
    *findings: dict[str, Any],
    slots: tuple[dict[str, Any], ...] = (slot(map_flush=4),),
    reasons: tuple[str, ...] = (),
    unchecked: tuple[str, ...] = (),
    **other: Any,
) -> dict[str, Any]:
    """A document with these *findings*, and the verdict that they lead to."""
    patterns = {}
    for name in PATTERNS:
        counts = {
            severity: sum(
                f["count"] for f in findings if (f["pattern"], f["severity"]) == (name, severity)
            )
            for severity in ("observed", "predicted")
        }
        checked = name not in unchecked
        because = None if checked else "nothing can be probed"
        patterns[name] = {
            "checked": checked,
            **counts,
            "not_checked_because": because,
            "harmless": {},
            "uncertain": [],
        }
    severities = {f["severity"] for f in findings}
    verdict = "inconclusive" if reasons else "clean"
    if severities:
        verdict = "race-observed" if "observed" in severities else "race-predicted"
    return {
        "schema": {"id": SCHEMA, "version": SCHEMA_VERSION},
        "tool": {"name": "ghesrace", "version": "0"},
        "redacted": False,
        "file": "host.arrows",
        "exit_code": 0,
        "error": None,
        "host": {"arch": "x86_64", "release": "6.1.0-test"},
        "recording": {
            "backend": "ftrace",
            "summary": False,
            "clock": "mono",
            "clock_error_ns": 0,
            "contexts": True,
        },
        "verdict": verdict,
        "qualified_by": [],
        "reasons": list(reasons),
        "assumed_clock_ns": None,
        "truncated": False,
        "events": 100,
        "lost": 0,
        "losses": {},
        "slots": list(slots),
        "patterns": patterns,
        "findings": list(findings),
        "unseen": [],
        **other,
    }


def side(*findings: dict[str, Any], **other: Any) -> Side:
    """The side of a comparison that such a `report` is."""
    return side_of(report(*findings, **other), "host.arrows")
