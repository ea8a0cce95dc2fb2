# SPDX-License-Identifier: Apache-2.0
"""This prints one fault: what was found, how often, its variants, and the witness of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ghesrace.checker.findings import Finding

from .faults import Fault
from .layout import Page, side_by_side, wrapped
from .lines import seconds
from .names import frame_source

_TWO_COLUMNS = 76  # A witness has two columns where the page is at least as wide.
_SHORT = 5  # variants that are listed without --all

STYLES = {"observed": "bold red", "predicted": "bold yellow"}


def title(fault: Fault) -> str:
    """Return what was found and where, as in "stale read at slot GHES_IRQ".

    >>> title(Fault("1", (Finding("torn_edit", "observed", None, "irq", (0, 0), None, "", []),)))
    'torn edit at slot irq'
    """
    worst = fault.worst
    words = worst.pattern.replace("_", " ")
    if worst.access:
        words = f"{words} {worst.access}"
    return f"{words} at slot {worst.slot}" if worst.slot is not None else words


def counts(fault: Fault) -> str:
    """Return how often a *fault* was seen, as in "observed 4 times, predicted once".

    >>> counts(Fault("1", (Finding("overlap", "observed", None, "a", (0, 0), None, "", [],
    ...                            count=2),)))
    'observed 2 times'
    """
    return ", ".join(f"{severity} {times(n)}" for severity, n in fault.counts.items())


def times(n: int) -> str:
    """Return *n* times in words.

    >>> times(1), times(1200)
    ('once', '1,200 times')
    """
    return "once" if n == 1 else f"{n:,} times"


def heads(finding: Finding) -> tuple[str, str]:
    """Return the heads of the witness's columns: the CPU, its letter in the explanation, and its
    context.

    >>> heads(Finding("overlap", "observed", None, "a", (0, 1), None, "", []))
    ('CPU 0 = x, any', 'CPU 1 = y, any')
    """
    x, y = finding.cpus
    another = " (another CPU)" if x == y and finding.reordered else ""
    contexts = _context(finding, "x"), _context(finding, "y")
    if x == y and contexts[1] == "any":  # Nothing of y was traced, so it is any other CPU.
        return f"CPU {x} = x, {contexts[0]}", "any other CPU = y"
    return f"CPU {x} = x{another}, {contexts[0]}", f"CPU {y} = y, {contexts[1]}"


def explained(finding: Finding) -> str:
    """Return the explanation of a *finding* as sentences, with what it assumes of the clocks.

    >>> explained(Finding("overlap", "observed", None, "a", (0, 1), None, "two at once", []))
    'Two at once.'
    """
    text = f"{finding.explanation[:1].upper()}{finding.explanation[1:]}."
    if finding.assumed_clock_ns is not None:
        ns = finding.assumed_clock_ns
        text += f" It assumes that the clocks of two CPUs agree within {ns:,} ns."
    return text


def print_fault(page: Page, fault: Fault, of: int, host: dict[str, Any], every: bool) -> None:
    """Print the *fault*, one of *of*, to *page*. With *every* each variant's witness is printed and
    each occurrence that was kept, else those of the worst variant.

        print_fault(page, fault, len(found), source.host, every=False)
    """
    worst = fault.worst
    head = f"Finding {fault.name} of {of}: {title(fault)}, {counts(fault)}"
    page.say(head, rest="  ", style=STYLES[worst.severity])
    page.say(explained(worst))
    _variants(page, fault, every)
    for number, finding in enumerate(fault.variants if every else fault.variants[:1], 1):
        _witness(page, finding, f"{fault.name}.{number}", host)
        if every:
            stamps = ", ".join(seconds(o.ts) for o in finding.occurrences)
            page.say(f"at {stamps} s", "  ")
            left = finding.count - len(finding.occurrences)
            if left > 0:
                page.line(f"  and {times(left)} more")


def _variants(page: Page, fault: Fault, every: bool) -> None:
    if len(fault.variants) == 1:
        return
    shown = fault.variants if every else fault.variants[:_SHORT]
    rows = [["variant", "", "CPUs x, y", "frames p, q", "first at (s)"]]
    for number, finding in enumerate(shown, 1):
        frames = ", ".join(f"{frame:#x}" for frame in finding.frames or ())
        first = seconds(finding.occurrences[0].ts) if finding.occurrences else ""
        many = f"{finding.severity} {times(finding.count)}"
        cpus = ", ".join(map(str, finding.cpus))
        rows.append([f"{fault.name}.{number}", many, cpus, frames, first])
    page.line()
    page.table(rows, right=set())
    left = fault.variants[len(shown) :]
    if left:
        also = times(sum(finding.count for finding in left))
        page.say(f"and {len(left):,} more variants, {also} (--all lists them)", "  ")


def _witness(page: Page, finding: Finding, name: str, host: dict[str, Any]) -> None:
    page.line()
    order = ", in another order than recorded" if finding.reordered else ""
    page.say(f"Variant {name}, step by step{order}:")
    for letter, frame in zip("pq", finding.frames or (), strict=False):
        source = frame_source(host, frame)
        page.say(f"{letter} = {frame:#x}{f' of {source}' if source else ''}", "  ", style="dim")
    stamps = [step.ts for step in finding.steps if step.ts is not None]
    wide = max((len(seconds(ts)) for ts in stamps), default=0)
    wide = max(wide, len("stamp (s)"))
    two = page.width >= _TWO_COLUMNS
    left, right = heads(finding)
    start = f"  {'stamp (s)':>{wide}} {'us':>10}  "
    if two:
        for line in _beside(left, right, page.width - len(start)):
            page.line(start + line, "dim")
            start = " " * len(start)
    else:
        page.say(f"{left}; {right}", "  ", style="dim")
        page.line(start, "dim")
    for step in finding.steps:
        stamp = "" if step.ts is None else seconds(step.ts)
        since = "" if step.ts is None or finding.reordered else _microseconds(step.ts - stamps[0])
        start = f"{step.n or '':1} {stamp:>{wide}} {since:>10}  "
        room = page.width - len(start)
        texts = (step.text, "") if step.side == "x" else ("", step.text)
        for line in _beside(*texts, room) if two else wrapped(f"{step.side} {step.text}", room):
            page.line(start + line)
            start = " " * len(start)


def _microseconds(ns: int) -> str:
    return f"{ns / 1000:,.1f}"


def _beside(left: str, right: str, room: int) -> Iterator[str]:
    for one, other in side_by_side(left, right, (room - 2) // 2):
        yield f"{one}  {other}"


def _context(finding: Finding, side: str) -> str:
    """Return the context of one column, which all traced steps of an episode share."""
    return next((s.context for s in finding.steps if s.side == side and s.ts is not None), "any")
