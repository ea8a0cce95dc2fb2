# SPDX-License-Identifier: Apache-2.0
"""This makes the JSON of `ghesrace diff`; diff.schema.json documents its shape."""

from __future__ import annotations

from typing import Any

from ghesrace import __version__

from .compare import Change, Comparison, Outcome
from .shares import SlotChange, slot_changes
from .side import Seen, Side, SlotShare

# diff.schema.json has the same `$id`. The first number grows when something goes or changes its
# meaning, the second when something comes.
SCHEMA = "urn:ghesrace:diff:1"
SCHEMA_VERSION = "1.0"

_OUTCOMES = {
    Outcome.WORSE: "worse",
    Outcome.UNKNOWN: "unknown",
    Outcome.BETTER: "better",
    Outcome.SAME: "same",
}


def document(compared: Comparison) -> dict[str, Any]:
    """Return the JSON-ready form of what was *compared*.

    >>> from ghesrace.checker.engine import Engine
    >>> from ghesrace.plan import Plan
    >>> from ghesrace.render.as_json import document as report
    >>> from ghesrace.render.judgement import Judgement
    >>> from .compare import compare
    >>> from .document import side_of
    >>> plan = Plan("x86_64", "6.12", (), ())
    >>> side = side_of(report(Judgement("a", Engine(plan).report(), plan)), "a")
    >>> document(compare(side, side))["outcome"]
    'unknown'
    """
    return {
        "schema": {"id": SCHEMA, "version": SCHEMA_VERSION},
        "tool": {"name": "ghesrace", "version": __version__},
        "exit_code": compared.outcome.exit_code,
        "outcome": _OUTCOMES[compared.outcome],
        "because": compared.because,
        "notes": compared.notes,
        "a": _side(compared.a),
        "b": _side(compared.b),
        "findings": [_change(change) for change in compared.changes],
        "slots": [_slot(change) for change in slot_changes(compared)],
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "file": side.file,
        "redacted": side.redacted,
        "host": side.host,
        "verdict": side.verdict.word,
        "qualified_by": list(side.qualified_by),
        "assumed_clock_ns": side.assumed_clock_ns,
        "open": [reason for _, reason in side.open],
        "truncated": side.truncated,
        "events": side.events,
        "lost": side.lost,
        "losses": side.losses,
        "patterns": {
            name: {
                "checked": state.checked,
                "observed": state.observed,
                "predicted": state.predicted,
                "not_checked_because": state.because,
            }
            for name, state in side.patterns.items()
        },
    }


def _change(change: Change) -> dict[str, Any]:
    pattern, slot, _ = change.seen.shape
    return {
        "fate": change.fate.name.lower(),
        "why": change.why or None,
        "pattern": pattern,
        "slot": slot,
        "explanation": change.seen.explanation,
        "a": _seen(change.a),
        "b": _seen(change.b),
    }


def _seen(seen: Seen | None) -> dict[str, Any] | None:
    if seen is None:
        return None
    return {
        "severity": seen.severity,
        "access": seen.access,
        "observed": seen.counts.get("observed", 0),
        "predicted": seen.counts.get("predicted", 0),
        "variants": seen.variants,
    }


def _slot(change: SlotChange) -> dict[str, Any]:
    return {
        "a": None if change.pair.a is None else _share(change.a),
        "b": None if change.pair.b is None else _share(change.b),
        "matched_by": change.pair.how or None,
        "protection_changed": change.changed,
    }


def _share(slot: SlotShare) -> dict[str, Any]:
    return {
        "name": slot.name,
        "episodes": slot.episodes,
        "handoffs": slot.handoffs,
        "latent": slot.latent,
        "classes": slot.classes,
        "protected_by": list(slot.protection),
    }
