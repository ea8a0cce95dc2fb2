# SPDX-License-Identifier: Apache-2.0
"""This prints a comparison as text: the outcome and what decided it, then what changed."""

from __future__ import annotations

from rich.console import Console

from ghesrace.render.layout import Page

from .compare import Comparison, Fate, Outcome, describe
from .shares import head, loss_rows, pattern_rows, percent, slot_changes
from .side import Side

_STYLES = {
    Outcome.WORSE: "bold red",
    Outcome.UNKNOWN: "bold magenta",
    Outcome.BETTER: "bold green",
    Outcome.SAME: "bold green",
}
_FATES = {
    Fate.NEW: "bold red",
    Fate.GRAVER: "bold red",
    Fate.UNCLEAR: "bold magenta",
    Fate.SAME: "bold yellow",
    Fate.MILDER: "bold green",
    Fate.GONE: "bold green",
}
REDACTED = "Redacted: addresses are relative, and names of host and file are left out."


def title(compared: Comparison) -> str:
    """Return the outcome in a line: "B is worse: ...".

    title(compare(a, b))
    """
    who = "" if compared.outcome is Outcome.UNKNOWN else "B is "
    return f"{who}{compared.outcome.value}: {compared.because[0]}"


def print_diff(console: Console, compared: Comparison) -> None:
    """Print all of what was *compared* to *console* (`layout.new_console`).

    print_diff(new_console(), compare(a, b))
    """
    page = Page(console)
    page.say(title(compared), rest="  ", style=_STYLES[compared.outcome])
    for told in compared.because[1:]:
        page.say(told, "- ")
    for told in compared.notes:
        page.say(f"note: {told}", "- ", style="dim")
    page.line()
    _side(page, "A", compared.a)
    _side(page, "B", compared.b)
    if compared.a.redacted or compared.b.redacted:
        page.say(REDACTED, style="dim")
    _changes(page, compared)
    _slots(page, compared)
    page.line()
    page.line("Patterns:", "bold")
    for name, one, other in pattern_rows(compared):
        told = one if one == other else f"{one} -> {other}"
        page.say(f"{name}: {told}", "  ", "    ")
    page.line()
    page.table([["", "A", "B"], *map(list, loss_rows(compared))], right={1, 2})


def print_diff_short(console: Console, compared: Comparison) -> None:
    """Print what was *compared* in one line: print_diff_short(new_console(), compare(a, b))."""
    Page(console).line(title(compared), _STYLES[compared.outcome])


def _side(page: Page, letter: str, side: Side) -> None:
    page.say(f"{side.file or 'live'}  {side.kernel}".rstrip(), f"{letter}  ")
    page.say(head(side), "   ")


def _changes(page: Page, compared: Comparison) -> None:
    if not compared.changes:
        return
    page.line()
    page.line("Findings:", "bold")
    for change in compared.changes:
        page.say(
            f"{change.fate.value}: {describe(change)}", "  ", "    ", style=_FATES[change.fate]
        )
        if change.why:
            page.say(change.why, "    ")
        page.say(change.seen.explanation, "    ", style="dim")


def _slots(page: Page, compared: Comparison) -> None:
    for slot in slot_changes(compared):
        page.line()
        one, other = slot.protection
        told = f"{one} -> {other}" if slot.changed else f"{one}, unchanged"
        page.say(f"{slot.pair.name}: {told}", rest="  ", style="bold")
        rows = [["class", "A", "", "B", "", "points"]]
        for share in slot.shares:
            rows.append(
                [
                    share.word,
                    f"{share.a:,}",
                    f"{percent(share.a, share.of_a):.1f}%",
                    f"{share.b:,}",
                    f"{percent(share.b, share.of_b):.1f}%",
                    f"{share.points:+.1f}" if share.of_a and share.of_b else ".",
                ]
            )
        for name in ("episodes", "handoffs", "latent"):
            a, b = getattr(slot.a, name), getattr(slot.b, name)
            word = {"handoffs": "hand-offs"}.get(name, name)
            rows.append([word, f"{a:,}", "", f"{b:,}", "", ""])
        page.table(rows, right={1, 2, 3, 4, 5})
