# SPDX-License-Identifier: Apache-2.0
"""This prints a report as text: the verdict, the episodes by class, what was not seen, and each
finding once."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ghesrace.checker.findings import Finding
from ghesrace.checker.model import Class, class_word
from ghesrace.checker.report import Report, Verdict
from ghesrace.unknowns import UNKNOWNS

from .names import frame_source, slot_sources

WIDTH = 80
_STYLE = {
    Verdict.OBSERVED: "bold red",
    Verdict.PREDICTED: "bold yellow",
    Verdict.INCONCLUSIVE: "bold magenta",
    Verdict.CLEAN: "bold green",
}
_MEANING = {
    Verdict.OBSERVED: (
        '"Observed" means that the unprotected window was observed: a CPU accessed the slot '
        "while nothing had dropped an older translation that it may have held. It does not "
        "prove that junk was read: whether the CPU had loaded that translation cannot be traced."
    ),
    Verdict.PREDICTED: (
        '"Predicted" means that the unprotected window did not occur here, but would in another '
        "order of these very notifications, or without an invalidation that came by luck."
    ),
    Verdict.INCONCLUSIVE: "Nothing unsafe was seen, but that proves nothing: see the reasons.",
    Verdict.CLEAN: (
        "Every access was protected by the kernel's own invalidations, and nothing that could "
        "have said otherwise was lost."
    ),
}
_CLEAN_AS_FAR = (
    "As far as the file tells, every access was protected by the kernel's own invalidations. That "
    "rests on what it can't tell:"
)


def print_report(
    console: Console, result: Report, host: dict[str, Any], title: str | None = None
) -> None:
    """Print the report *result* to *console* (see `new_console`). *host* holds the facts of a
    capture's metadata, and *title* goes beside the verdict.

        print_report(new_console(), engine.report(), source.host, "host.arrows")
    """
    head = Text(result.verdict.word, style=_STYLE[result.verdict])
    if result.qualified_by:
        head.append(f", resting on {', '.join(result.qualified_by)}")
    if title:
        head.append(f"  {title}", style="default")
    if result.assumed_clock_ns is not None:
        ns = result.assumed_clock_ns
        head.append(f", assuming that clocks agree within {ns:,} ns", style="default")
    console.print(head)
    if host.get("release"):
        console.print(f"{host.get('arch', '')} Linux {host['release']}".strip(), style="dim")
    meaning = _MEANING[result.verdict]
    if result.verdict is Verdict.CLEAN and result.qualified_by:
        meaning = _CLEAN_AS_FAR
    console.print(meaning)
    for name in result.qualified_by:
        console.print(Padding(f"- {name}: {UNKNOWNS[name]}", (0, 0, 0, 2)))
    for reason in result.reasons:
        console.print(f"- {reason}")
    if result.truncated:
        console.print("The file is truncated: only its intact prefix was judged.")
    console.print()
    _slots(console, result, host)
    _patterns(console, result)
    _unseen(console, result)
    for i, finding in enumerate(result.findings, 1):
        _finding(console, finding, i, len(result.findings), host)


def new_console(file: Any = None) -> Console:
    """Return a console of at most 80 columns that writes to *file* (by default to stdout), in
    colour only on a terminal.

    >>> new_console().print("race-observed")
    race-observed
    """
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console


def _slots(console: Console, result: Report, host: dict[str, Any]) -> None:
    lost = "an unknown number" if result.lost is None else f"{result.lost:,}"
    console.print(f"{result.events:,} events, {lost} lost. Episodes by what protected them:")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("class")
    for slot in result.slots:
        table.add_column(slot.name, justify="right")
    for cls in Class:
        numbers = [slot.classes[cls] for slot in result.slots]
        table.add_row(class_word(cls), *(f"{n:,}" if n else "." for n in numbers))
    table.add_section()
    table.add_row("episodes", *(f"{slot.episodes:,}" for slot in result.slots))
    table.add_row("hand-offs", *(f"{slot.handoffs:,}" for slot in result.slots))
    table.add_row("latent", *(f"{slot.latent:,}" for slot in result.slots))
    console.print(table)
    for slot in result.slots:
        where = "address unknown" if slot.address is None else f"{slot.address:#x}"
        sources = slot_sources(host, slot.name)
        used_by = f", {', '.join(sources)}" if sources else ""
        console.print(Padding(f"{slot.name}: {where}{used_by}", (0, 0, 0, 2)), style="dim")
    latent = sum(slot.latent for slot in result.slots)
    if latent:
        console.print(
            f"\n{latent:,} episodes began while their CPU might still hold another frame's "
            "translation (latent: an unmap that only flushes its own CPU leaves them behind); "
            "the class says what protected each."
        )
    console.print()


def _patterns(console: Console, result: Report) -> None:
    console.print("Patterns:")
    for name, pattern in result.patterns.items():
        if not pattern.checked:
            text = f"not checked: {pattern.not_checked_because}"
        else:
            text = f"{pattern.observed:,} observed, {pattern.predicted:,} predicted"
            counts = dict(pattern.harmless)
            uses, open_ones = counts.pop("uses", 0), counts.pop("not ordered", 0)
            if open_ones:
                text += f"; not ordered by the clocks: {open_ones:,} of {uses:,} uses"
            harmless = [f"{n:,} of {what}" for what, n in counts.items() if n]
            if harmless:
                text += f"; overlaps that are no hazard: {', '.join(harmless)}"
        console.print(Padding(f"{name.replace('_', ' ')}: {text}", (0, 0, 0, 2)))
    console.print()


def _unseen(console: Console, result: Report) -> None:
    if not result.unseen:
        return
    console.print("Not seen:")
    for unseen in result.unseen:
        affected = ", ".join((*unseen.patterns, *unseen.slots))
        affects = f" (affects {affected})" if affected else ""
        console.print(Padding(f"- {unseen.what}: {unseen.why}{affects}", (0, 0, 0, 2)))
    console.print()


def _finding(
    console: Console, finding: Finding, number: int, of: int, host: dict[str, Any]
) -> None:
    style = _STYLE[Verdict.OBSERVED if finding.severity == "observed" else Verdict.PREDICTED]
    console.print(
        Text(
            f"Finding {number} of {of}: {_title(finding)}, {finding.severity}",
            style,
        )
    )
    times = "once" if finding.count == 1 else f"{finding.count:,} times"
    where = f" at slot {finding.slot}" if finding.slot is not None else ""
    console.print(f"{times}{where}: {finding.explanation}.")
    if finding.assumed_clock_ns is not None:
        ns = finding.assumed_clock_ns
        console.print(f"It assumes that the clocks of two CPUs agree within {ns:,} ns.")
    for name, frame in zip("pq", finding.frames or (), strict=False):
        source = frame_source(host, frame)
        console.print(f"  {name} = {frame:#x}{f' of {source}' if source else ''}", style="dim")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("")
    table.add_column("us", justify="right", no_wrap=True)
    for heading in _headings(finding):
        table.add_column(heading, ratio=1)
    begins = [s.ts for s in finding.steps if s.ts is not None]
    begin = begins[0] if begins else 0
    for step in finding.steps:
        when = "" if step.ts is None or finding.reordered else f"{(step.ts - begin) / 1000:,.1f}"
        columns = (step.text, "") if step.side == "x" else ("", step.text)
        table.add_row("" if step.n is None else str(step.n), when, *columns)
    console.print(table)


def _title(finding: Finding) -> str:
    words = finding.pattern.replace("_", " ")
    return f"{words} {finding.access}" if finding.access else words


def _headings(finding: Finding) -> tuple[str, str]:
    """Return the heads of the columns: the CPU, its letter in the explanation, and its context."""
    x, y = finding.cpus
    another = " (another CPU)" if x == y and finding.reordered else ""
    contexts = _context(finding, "x"), _context(finding, "y")
    if x == y and contexts[1] == "any":  # Nothing of y was traced, so it is any other CPU.
        return f"CPU {x} = x, {contexts[0]}", "any other CPU = y"
    return f"CPU {x} = x{another}, {contexts[0]}", f"CPU {y} = y, {contexts[1]}"


def _context(finding: Finding, side: str) -> str:
    """Return the context of one column, which all traced steps of an episode share."""
    return next((s.context for s in finding.steps if s.side == side and s.ts is not None), "any")
