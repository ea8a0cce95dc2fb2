# SPDX-License-Identifier: Apache-2.0
"""This prints a report as text, in the order in which a reader asks: the verdict and what it rests
on, each fault once, what protected the episodes, and what could change the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console

from ghesrace.checker.model import Class, class_word
from ghesrace.checker.report import PatternResult, Report, SlotCounts, Verdict
from ghesrace.plan import Unseen
from ghesrace.unknowns import UNKNOWNS

from .faults import faults
from .findings import counts, print_fault
from .judgement import Judgement
from .layout import Page
from .names import slot_sources
from .words import meanings

_STYLE = {
    Verdict.OBSERVED: "bold red",
    Verdict.PREDICTED: "bold yellow",
    Verdict.INCONCLUSIVE: "bold magenta",
    Verdict.CLEAN: "bold green",
}
_CLEAN_AS_FAR = (
    "As far as the file tells, every access was protected by the kernel's own invalidations. That "
    "rests on what it can't tell:"
)
_SHORT = 3  # things unseen that are listed without --all
_REDACTED = (
    "Redacted: addresses are relative to numbered regions of 2 MiB, and names of host and file are "
    "left out."
)
_LEGEND = "x unmapped p, which y may still use for q. Words: ghesrace explain WORD"


def print_report(console: Console, judged: Judgement, every: bool = False) -> None:
    """Print what was *judged* to *console* (`layout.new_console`). *every* leaves nothing out.

    print_report(new_console(), Judgement("host.arrows", engine.report(), plan))
    """
    page = Page(console)
    result, host = judged.report, judged.host
    found = faults(result.findings)
    _verdict(page, result, host, judged.file or "live")
    if judged.redacted:
        page.say(_REDACTED, style="dim")
    for fault in found:
        page.line()
        print_fault(page, fault, len(found), host, every)
    page.line()
    _slots(page, result, host, every)
    page.line()
    _patterns(page, result)
    _unseen(page, result, every)
    page.line()
    page.say(_LEGEND, style="dim")


def print_short(console: Console, judged: Judgement) -> None:
    """Print what was *judged* as one line: print_short(new_console(), judged)."""
    result = judged.report
    found = faults(result.findings)
    parts = [head(result), judged.file or "live"]
    parts += [f"{counts(fault)} at {fault.worst.slot or fault.worst.pattern}" for fault in found]
    if not found:
        parts += result.reasons[:1]
    Page(console).line("  ".join(parts), _STYLE[result.verdict])


def matter(unseen: Iterable[Unseen], slots: Iterable[SlotCounts]) -> list[Unseen]:
    """Return those things *unseen* that could change a verdict, in the order of how much: those
    that name the pattern `stale`, those that touch everything, those of other patterns. What only
    names slots is true of every recording, and what names slots without traffic changes nothing.

    >>> always = Unseen("fills", "no event exists", (), ("irq",))
    >>> flush = Unseen("a flush", "it is inlined", ("stale",), ("irq",))
    >>> [one.what for one in matter([always, flush], [SlotCounts("irq", None, episodes=1)])]
    ['a flush']
    """
    used = {slot.name for slot in slots if slot.episodes}
    found = [u for u in unseen if not u.slots or used & set(u.slots)]
    found = [u for u in found if u.patterns or not u.slots]
    return sorted(found, key=lambda u: ("stale" not in u.patterns, bool(u.patterns)))


def head(result: Report) -> str:
    """Return the verdict of *result*, with what it rests on and assumes.

    >>> from ghesrace.checker.engine import Engine
    >>> from ghesrace.plan import Plan
    >>> head(Engine(Plan("x86_64", "6.12", (), (), unknowns=("clock",))).report())
    'inconclusive, resting on clock'
    """
    text = result.verdict.word
    if result.qualified_by:
        text += f", resting on {', '.join(result.qualified_by)}"
    if result.assumed_clock_ns is not None:
        text += f", assuming that clocks agree within {result.assumed_clock_ns:,} ns"
    return text


def _verdict(page: Page, result: Report, host: dict[str, Any], title: str) -> None:
    page.say(f"{head(result)}  {title}", style=_STYLE[result.verdict])
    lost = "an unknown number" if result.lost is None else f"{result.lost:,}"
    release = f"{host.get('arch') or ''} Linux {host['release']}, " if host.get("release") else ""
    page.say(f"{release.strip()} {result.events:,} events, {lost} lost".strip(), style="dim")
    meaning = meanings(result.verdict.word)[0].what
    if result.verdict is Verdict.CLEAN and result.qualified_by:
        meaning = _CLEAN_AS_FAR
    page.say(meaning)
    for name in result.qualified_by:
        page.say(f"{name}: {UNKNOWNS[name]}", "  - ")
    for reason in result.reasons:
        page.say(reason, "- ")
    if result.truncated:
        page.say("The file is truncated: only its intact prefix was judged.")


def _slots(page: Page, result: Report, host: dict[str, Any], every: bool) -> None:
    used = [slot for slot in result.slots if slot.episodes or every]
    idle = [slot.name for slot in result.slots if slot not in used]
    if used:
        page.line("Episodes by what protected them:", "bold")
    for part in _that_fit(used, page.width):
        _table(page, part, every)
    for slot in used:
        where = "address unknown" if slot.address is None else f"{slot.address:#x}"
        sources = "".join(f", {source}" for source in slot_sources(host, slot.name))
        page.say(f"{slot.name}: {where}{sources}", "  ", "    ", style="dim")
    if idle:
        page.say(f"no episodes: {', '.join(idle)}", "  ", "    ", style="dim")


def _that_fit(slots: list[SlotCounts], width: int) -> Iterable[list[SlotCounts]]:
    """Yield the slots in parts whose columns fit beside each other."""
    part: list[SlotCounts] = []
    taken = start = 2 + len("same-frame")
    for slot in slots:
        wide = 2 + max(len(_short(slot.name, width)), len(f"{slot.episodes:,}"))
        if part and taken + wide > width:
            yield part
            part, taken = [], start
        part.append(slot)
        taken += wide
    if part:
        yield part


def _short(name: str, width: int) -> str:
    most = width - 16
    return name if len(name) <= most else name[: most - 3] + "..."


def _table(page: Page, slots: list[SlotCounts], every: bool) -> None:
    rows = [["class", *(_short(slot.name, page.width) for slot in slots)]]
    for cls in Class:
        numbers = [slot.classes[cls] for slot in slots]
        if every or any(numbers):
            rows.append([class_word(cls), *(f"{n:,}" if n else "." for n in numbers)])
    rows.append(["episodes", *(f"{slot.episodes:,}" for slot in slots)])
    rows.append(["hand-offs", *(f"{slot.handoffs:,}" for slot in slots)])
    rows.append(["latent", *(f"{slot.latent:,}" for slot in slots)])
    page.table(rows, right=set(range(1, len(slots) + 1)))


def _patterns(page: Page, result: Report) -> None:
    page.line("Patterns:", "bold")
    for name, pattern in result.patterns.items():
        page.say(f"{name.replace('_', ' ')}: {pattern_text(pattern)}", "  ", "    ")


def pattern_text(pattern: PatternResult) -> str:
    """Return what one *pattern* found, in a line.

    >>> pattern_text(PatternResult(True, 1, 0, None, {"uses": 9, "not ordered": 2}, []))
    '1 observed, 0 predicted; not ordered by the clocks: 2 of 9 uses'
    """
    if not pattern.checked:
        return f"not checked: {pattern.not_checked_because}"
    text = f"{pattern.observed:,} observed, {pattern.predicted:,} predicted"
    counts = dict(pattern.harmless)
    uses, open_ones = counts.pop("uses", 0), counts.pop("not ordered", 0)
    if open_ones:
        of = f" of {uses:,}" if uses else ""
        text += f"; not ordered by the clocks: {open_ones:,}{of} uses"
    harmless = [f"{n:,} of {what}" for what, n in counts.items() if n]
    if harmless:
        text += f"; overlaps that are no hazard: {', '.join(harmless)}"
    return text


def _unseen(page: Page, result: Report, every: bool) -> None:
    if not result.unseen:
        return
    page.line()
    first = matter(result.unseen, result.slots)
    shown = first if every else first[:_SHORT]
    if shown:
        page.line("Could change this verdict:", "bold")
        _listed(page, shown)
    others = [u for u in result.unseen if u not in shown]
    if every and others:
        page.line("Not seen either:", "bold")
        _listed(page, others)
    elif others:
        count = f"{len(others):,} more thing{'s' * (len(others) > 1)}"
        page.say(f"Not seen: {count}; --all lists {'them' if len(others) > 1 else 'it'}.")


def _listed(page: Page, unseen: list[Unseen]) -> None:
    for one in unseen:
        affected = ", ".join((*one.patterns, *one.slots))
        affects = f" (affects {affected})" if affected else ""
        page.say(f"{one.what}: {one.why}{affects}", "  - ")
