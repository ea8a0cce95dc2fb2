# SPDX-License-Identifier: Apache-2.0
"""This is what a daemon's page says, and the page as plain HTML, for hosts without Jinja2
(render/html/live.py makes the one with pictures)."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace

from ghesrace.checker.findings import Finding
from ghesrace.render.redact import Redactor


@dataclass(frozen=True, slots=True)
class Kept:
    """A capture that the daemon keeps: its file's name, bytes, and when it was written (UTC)."""

    name: str
    size: int
    written: str


@dataclass(frozen=True, slots=True)
class Told:
    """This is all that a daemon's page says, as of one moment.

    Unless it is `watched`, nothing on the host is. `verdict` is the running window's word,
    `rests_on` what it rests on besides (keys of unknowns.UNKNOWNS), `reasons` what keeps it from
    clean, and `since` when the window began. `facts` are (name, value). `health` are (name, value,
    whether that is good). `findings` are those of the run, the worst first, and `latest` says when
    each was found last. `captures` is None where the page may not list them, because
    `captures_refused`. `clock_error_ns` is the plan's. `redacted` says that addresses are relative.
    """

    watched: bool = True
    verdict: str = "inconclusive"
    rests_on: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    since: str = ""
    now: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    health: tuple[tuple[str, str, bool], ...] = ()
    findings: tuple[Finding, ...] = ()
    latest: tuple[str, ...] = ()
    captures: tuple[Kept, ...] | None = None
    captures_refused: str = ""
    clock_error_ns: int = 0
    redacted: bool = False

    def redact(self) -> Told:
        """Return the same without addresses.

        >>> Told(reasons=("losses: at 0xffffffff81000000",)).redact().reasons
        ('losses: at 0xffff800000400000',)
        """
        made = Redactor()
        return replace(
            self,
            reasons=tuple(map(made.text, self.reasons)),
            findings=tuple(map(made.finding, self.findings)),
            redacted=True,
        )


def headline(told: Told) -> str:
    """Return the verdict with what it rests on, or that there is none.

    >>> headline(Told(verdict="clean", rests_on=("implications",)))
    'clean, resting on implications'
    """
    if not told.watched:
        return "not watching"
    return told.verdict + (f", resting on {', '.join(told.rests_on)}" if told.rests_on else "")


def runbook(severity: str) -> str:
    """Return the name of the runbook for a finding of this severity.

    >>> runbook("observed")
    'race-observed'
    """
    return f"race-{severity}"


def plain_page(told: Told) -> str:
    """Return the page without pictures; it has no script and no style sheet.

    >>> "No finding." in plain_page(Told(facts=(("State", "watching"),)))
    True
    """
    rows = [("Running window", headline(told)), *(("Because", why) for why in told.reasons)]
    rows += [*told.facts, *((name, value) for name, value, _ in told.health)]
    table = "".join(
        f"<tr><th align=left>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>\n"
        for name, value in rows
    )
    found = "".join(
        f"<li>{html.escape(_line(finding))} "
        f'(<a href="/runbooks/{html.escape(runbook(finding.severity))}">runbook</a>)</li>\n'
        for finding in told.findings[:20]
    )
    kept = "".join(
        f'<li><a href="/captures/{html.escape(one.name)}">{html.escape(one.name)}</a></li>\n'
        for one in told.captures or ()
    )
    return (
        "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8><title>ghesrace</title></head>"
        f"<body>\n<h1>ghesrace</h1>\n<table>\n{table}</table>\n"
        + (f"<h2>Findings</h2>\n<ul>\n{found}</ul>\n" if found else "<p>No finding.</p>\n")
        + (f"<h2>Captures</h2>\n<ul>\n{kept}</ul>\n" if kept else "")
        + "<p>There are pictures where Jinja2 is installed (Debian: python3-jinja2).</p>\n"
        '<p><a href="/metrics">metrics</a> · <a href="/-/healthy">healthy</a> · '
        '<a href="/-/ready">ready</a></p>\n</body></html>\n'
    )


def _line(f: Finding) -> str:
    at = f"{f.count:,} times at {f.slot or 'no slot'}, CPUs {f.cpus[0]} and {f.cpus[1]}"
    return f"{f.pattern}, {f.severity}: {at}"
