# SPDX-License-Identifier: Apache-2.0
"""This turns what was judged of one capture into rows of the data set (tables.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from ghesrace import __version__
from ghesrace.checker.findings import Step
from ghesrace.checker.model import Class, class_word
from ghesrace.checker.report import SlotCounts
from ghesrace.fleet.manifest import hest_hash
from ghesrace.fleet.stores import Item
from ghesrace.plan import Plan
from ghesrace.render.diff.side import SlotShare
from ghesrace.render.faults import Fault, faults, wording
from ghesrace.render.findings import title
from ghesrace.render.judgement import Failure, Judgement

from .tables import Rows

_FLUSH = "inv"  # begins the words of invalidations (checker/patterns)


def run_id(url: str, tag: str, judged: datetime) -> str:
    """Return the name of the run of the capture at *url*, of that *tag*, by this version, *judged*
    at that time.

    >>> now = datetime.now(UTC)
    >>> run_id("file:///a", "1", now) == run_id("file:///a", "1", now) != run_id("b", "1", now)
    True
    """
    whole = "\0".join((url, tag, __version__, judged.isoformat()))
    return hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()[:32]


def rows(item: Item, manifest: dict[str, Any], judged: Judgement | Failure) -> Rows:
    """Return the rows of the capture *item*, beside which stands that *manifest* (or an empty one).

    rows(item, {}, judge_file(path, How()))["runs"]
    """
    now = datetime.now(UTC)
    run = run_id(item.url, item.tag, now)
    row: dict[str, Any] = {
        "run": run,
        "url": item.url,
        "tag": item.tag,
        "bytes": item.bytes,
        "recorded": _recorded(manifest) or item.modified,
        "judged": now,
        "host": _text(manifest, "host") or item.folder,
        "firmware": firmware(manifest),
        "microcode": _text(manifest, "microcode"),
        "hest": _text(manifest, "hest"),
        "truncated": False,
        "reasons": [],
        "qualified_by": [],
        "summary": False,
    }
    if isinstance(judged, Failure):
        row |= {"error": judged.kind, "what": judged.what}
        return {"runs": [row], "slots": [], "findings": [], "losses": []}
    report, plan, host = judged.report, judged.plan, judged.host
    hashed = hest_hash(host.get("hest"))
    found = faults(report.findings)
    slots = [_slot(run, slot) for slot in report.slots]
    row |= {
        "host": _text(manifest, "host") or _text(host, "nodename") or item.folder,
        "arch": plan.arch or None,
        "kernel": _text(host, "release") or plan.release or None,
        "firmware": row["firmware"] or (f"HEST {hashed[:8]}" if hashed else None),
        "hest": row["hest"] or hashed,
        "backend": None if "source" in host else plan.backend,
        "summary": plan.summary,
        "verdict": report.verdict.word,
        "truncated": report.truncated,
        "reasons": report.reasons,
        "qualified_by": list(report.qualified_by),
        "assumed_clock_ns": report.assumed_clock_ns,
        "implications": implications(plan),
        "contradicted": sum(one.state == "contradicted" for one in plan.implications),
        "events": report.events,
        "lost": report.lost,
        "episodes": sum(slot["episodes"] for slot in slots),
        "handoffs": sum(slot["handoffs"] for slot in slots),
        "findings": len(found),
    }
    return {
        "runs": [row],
        "slots": slots,
        "findings": [_finding(run, fault) for fault in found],
        "losses": [
            {"run": run, "cause": cause, "count": count} for cause, count in report.losses.items()
        ],
    }


def _slot(run: str, slot: SlotCounts) -> dict[str, Any]:
    classes = {class_word(cls): slot.classes[cls] for cls in Class}
    share = SlotShare(slot.name, slot.episodes, slot.handoffs, slot.latent, classes)
    return {
        "run": run,
        "slot": slot.name,
        "mechanism": mechanism(share),
        "episodes": slot.episodes,
        "handoffs": slot.handoffs,
        "latent": slot.latent,
        **{word.replace("-", "_"): count for word, count in classes.items()},
    }


def mechanism(slot: SlotShare) -> str:
    """Return what the episodes of a *slot* rested on, as `diff` says it, but for `same-frame`,
    which is a matter of the traffic and not of the kernel.

    >>> mechanism(SlotShare("irq", 7, 1, 1, {class_word(cls): 1 for cls in Class}))
    'broadcast, map-flush, incidental, none'
    """
    return ", ".join(word for word in slot.protection if word != class_word(Class.SAME_FRAME))


def _finding(run: str, fault: Fault) -> dict[str, Any]:
    worst = fault.worst
    return {
        "run": run,
        "name": fault.name,
        "pattern": worst.pattern,
        "severity": worst.severity,
        "access": worst.access,
        "slot": worst.slot,
        "title": title(fault),
        "witness": witness(worst.steps),
        "observed": fault.counts.get("observed", 0),
        "predicted": fault.counts.get("predicted", 0),
        "variants": len(fault.variants),
        "explanation": wording(worst.explanation),
    }


def witness(steps: Sequence[Step]) -> str:
    """Return the shape of a witness: what x did, then what y did, in which context, without CPUs,
    stamps and addresses. What can't be traced is left out, and so is what comes behind a side's
    last numbered step, but for the flushes that follow it directly.

    >>> witness([Step("x", 2, 1, 0, "irq", "map", ""), Step("y", 7, 2, 1, "nmi", "map", ""),
    ...          Step("x", 5, 3, 0, "irq", "unmap", ""), Step("x", None, 4, 0, "irq", "copy", ""),
    ...          Step("y", 8, None, 1, "nmi", "read", "")])
    'x irq: map unmap; y nmi: map'
    """
    return "; ".join(
        f"{side} {context}: {' '.join(step.event for step in part)}"
        for side in ("x", "y")
        for context, part in groupby(_until_it_counts(side, steps), lambda step: step.context)
    )


def _until_it_counts(side: str, steps: Sequence[Step]) -> list[Step]:
    """Return the traced steps of a *side*, to its last numbered one and the flushes behind it."""
    mine = [step for step in steps if step.side == side and step.ts is not None]
    end = max((at for at, step in enumerate(mine, 1) if step.n is not None), default=len(mine))
    while end < len(mine) and mine[end].event.startswith(_FLUSH):
        end += 1
    return mine[:end]


def implications(plan: Plan) -> str:
    """Return in a word what the implications of a *plan* rest on.

    >>> implications(Plan("arm64", "6.12", (), ()))
    'none'
    """
    states = {one.state for one in plan.implications}
    assumed = "assumed" in states or "implications" in plan.unknowns
    if "proven" in states:
        return "partly" if assumed else "proven"
    return "assumed" if assumed else "none"


def firmware(manifest: dict[str, Any]) -> str | None:
    """Return board and BIOS of a *manifest* in one line, or None if it names neither.

    >>> firmware({"board": "X11", "bios": "3.4"})
    'X11, BIOS 3.4'
    """
    board, bios = _text(manifest, "board"), _text(manifest, "bios")
    return ", ".join([*([board] if board else []), *([f"BIOS {bios}"] if bios else [])]) or None


def _recorded(manifest: dict[str, Any]) -> datetime | None:
    try:
        when = datetime.fromisoformat(str(manifest.get("recorded")))
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # A stranger's, of the year 1 or 9999.
        return None


def _text(facts: dict[str, Any], name: str) -> str | None:
    """Return a text of *facts*, which a stranger may have made; null if it is none."""
    value = facts.get(name)
    return value[:200] if isinstance(value, str) and value else None
