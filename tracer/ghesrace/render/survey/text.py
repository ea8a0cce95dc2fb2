# SPDX-License-Identifier: Apache-2.0
"""This prints a survey as text: the sums, then a table for each question."""

from __future__ import annotations

from rich.console import Console

from ghesrace.render.layout import Page

from .answers import VERDICTS, Group, Survey, mechanism_text, verdict_text

_STYLES = {
    "race-observed": "bold red",
    "race-predicted": "bold yellow",
    "inconclusive": "bold magenta",
    "clean": "bold green",
}
_MOST = 20  # rows of a table, without --all
_PERIODS = 24


def print_survey(console: Console, survey: Survey, every: bool = False) -> None:
    """Print a *survey* to *console*. With *every* no row is left out.

    print_survey(new_console(), Survey())
    """
    page = Page(console)
    page.say(head(survey), style=_STYLES[_worst(survey)])
    if survey.unread:
        page.say(f"{survey.unread:,} could not be read now: run it again.", style="bold")
    _groups(page, survey, every)
    _findings(page, survey, every)
    _outliers(page, survey, every)
    _trend(page, survey, every)
    _losses(page, survey)
    _broken(page, survey, every)


def head(survey: Survey) -> str:
    """Return the sums of a *survey* in a line.

    >>> head(Survey(captures=3, judged=2, hosts=1, verdicts={"clean": 2}))
    '3 captures of 1 host: 2 clean, 1 broken'
    """
    told = verdict_text(survey.verdicts)
    broken = survey.captures - survey.judged
    if broken:
        told = f"{told}, {broken:,} broken" if told else f"{broken:,} broken"
    many = f"{counted(survey.captures, 'capture')} of {counted(survey.hosts, 'host')}"
    return f"{many}: {told or 'nothing was judged'}"


def counted(n: int, thing: str) -> str:
    """Return *n* with the *thing* that it counts.

    >>> counted(1, "host"), counted(1200, "host")
    ('1 host', '1,200 hosts')
    """
    return f"{n:,} {thing}{'s' * (n != 1)}"


def _worst(survey: Survey) -> str:
    return next((word for word in VERDICTS if survey.verdicts.get(word)), "inconclusive")


def implied(group: Group) -> str:
    """Return on what the implications of a *group* rest, as in "proven" or "assumed (2), proven".

    >>> implied(Group("6.1", "arm64", None, implications={"proven": 3, "assumed": 1}))
    'proven (3), assumed (1)'
    """
    found = sorted(group.implications.items(), key=lambda one: (-one[1], one[0]))
    if len(found) == 1:
        return found[0][0]
    return ", ".join(f"{word} ({n:,})" for word, n in found)


def lost(group: Group) -> str:
    """Return how many events a *group* lost.

    >>> lost(Group("6.1", "arm64", None, lost=None))
    'unknown'
    """
    return "unknown" if group.lost is None else f"{group.lost:,}"


def place(kernel: str | None, arch: str | None, firmware: str | None) -> str:
    """Return kernel, architecture and firmware in a line.

    >>> place("6.1", "arm64", None)
    '6.1 arm64, firmware unknown'
    """
    known = f"{kernel or 'kernel unknown'} {arch or ''}".strip()
    return f"{known}, {firmware or 'firmware unknown'}"


def _groups(page: Page, survey: Survey, every: bool) -> None:
    page.line()
    page.line("Kernel, architecture, firmware:", "bold")
    shown = survey.groups if every else survey.groups[:_MOST]
    for group in shown:
        where = place(group.kernel, group.arch, group.firmware)
        page.line(f"  {where}: {verdict_text(group.verdicts)}", _STYLES[group.worst])
        for slot, counts in group.mechanisms.items():
            page.say(f"{slot}: {mechanism_text(counts)}", "    ")
        page.say(
            f"{counted(group.hosts, 'host')}, {counted(group.handoffs, 'hand-off')} in "
            f"{counted(group.episodes, 'episode')}, "
            f"implications {implied(group)}, lost {lost(group)}",
            "    ",
            style="dim",
        )
    _more(page, len(survey.groups) - len(shown))


def _findings(page: Page, survey: Survey, every: bool) -> None:
    page.line()
    if not survey.findings:
        page.line("No findings.", "bold")
        return
    page.line("Findings, by the shape of their witness:", "bold")
    shown = survey.findings if every else survey.findings[:_MOST]
    for shape in shown:
        seen = " and ".join(
            f"{n:,} {word}"
            for n, word in ((shape.observed, "observed"), (shape.predicted, "predicted"))
            if n
        )
        where = f"{counted(shape.captures, 'capture')} of {counted(shape.hosts, 'host')}"
        page.line(f"  {shape.title}: {seen}, in {where}", _STYLES[f"race-{shape.severity}"])
        page.say(shape.witness, "    ")
        page.say(f"kernels {', '.join(shape.kernels)}", "    ", style="dim")
        page.say(f"such as finding {shape.name} of {shape.example}", "    ", style="dim")
    _more(page, len(survey.findings) - len(shown))


def _outliers(page: Page, survey: Survey, every: bool) -> None:
    page.line()
    if not survey.outliers:
        page.line("No host differs from its like.", "bold")
        return
    page.line("Hosts that differ from their like:", "bold")
    shown = survey.outliers if every else survey.outliers[:_MOST]
    for one in shown:
        where = place(one.kernel, one.arch, one.firmware)
        page.say(
            f"{one.host}: {one.mechanism} at {one.slot}, where {one.like:,} of {one.hosts:,} hosts "
            f"({where}) have {one.usual}",
            "  ",
        )
    _more(page, len(survey.outliers) - len(shown))


def _trend(page: Page, survey: Survey, every: bool) -> None:
    shown = survey.trend if every else survey.trend[-_PERIODS:]
    if not shown:
        return
    page.line()
    page.line("Over time:", "bold")
    words = [word.removeprefix("race-") for word in VERDICTS]
    rows = [["recorded", "captures", "hand-offs", *words]]
    for period in shown:
        counts = [f"{period.verdicts.get(word, 0):,}" for word in VERDICTS]
        numbers = (period.captures, period.handoffs)
        rows.append([period.name, *(f"{n:,}" for n in numbers), *counts])
    page.table(rows, set(range(1, len(rows[0]))))
    _more(page, len(survey.trend) - len(shown))


def _losses(page: Page, survey: Survey) -> None:
    if not survey.losses:
        return
    page.line()
    page.line("Losses:", "bold")
    rows = [["cause", "captures", "events"]]
    rows += [[cause, f"{c:,}", f"{n:,}"] for cause, (c, n) in survey.losses.items()]
    page.table(rows, {1, 2})


def _broken(page: Page, survey: Survey, every: bool) -> None:
    if not survey.broken:
        return
    page.line()
    page.line("Not judged:", "bold")
    shown = survey.broken if every else survey.broken[:_MOST]
    for one in shown:
        many = f"{one.captures:,} captures, such as " if one.captures > 1 else ""
        page.say(f"{one.error}: {many}{one.what}", "  ", "    ")
    _more(page, len(survey.broken) - len(shown))


def _more(page: Page, left: int) -> None:
    if left > 0:
        page.line(f"  {left:,} more: --all shows them", "dim")
