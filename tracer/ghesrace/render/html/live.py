# SPDX-License-Identifier: Apache-2.0
"""This makes the page of a running daemon: state, verdict and why, findings with their pictures,
health, captures."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment
from markupsafe import Markup

from ghesrace import __version__
from ghesrace.render.faults import Fault, faults
from ghesrace.render.findings import counts, explained, title
from ghesrace.render.live import Told, headline, runbook
from ghesrace.render.words import meanings
from ghesrace.unknowns import UNKNOWNS

from .page import Variant, environment, hash_of, resource, variant

_UNWATCHED = "Nothing on this host is watched: that nothing is found here means nothing."
_MOST = 12  # faults on the page; what is worst comes first
_PICTURES = 2  # of one fault


def live_page(told: Told) -> str:
    """Return the page that says what *told* does. It has no script, and loads nothing.

    >>> "No finding" in live_page(Told())
    True
    """
    found = faults(told.findings)
    latest = {id(f): when for f, when in zip(told.findings, told.latest, strict=False)}
    shown = [(fault, *_fault(fault, told, latest)) for fault in found[:_MOST]]
    template = _environment().get_template("live.html.j2")
    return template.render(
        told=told,
        headline=headline(told),
        meaning=meanings(told.verdict)[0].what if told.watched else _UNWATCHED,
        style=Markup(_style()),
        shown=shown,
        left_out=len(found) - len(shown),
        runbook=runbook,
        unknowns=UNKNOWNS,
        version=__version__,
    )


def policy() -> str:
    """Return the Content-Security-Policy that the page is sent with: its own style, nothing else.

    >>> policy().startswith("default-src 'none'; style-src 'sha256-")
    True
    """
    return (
        f"default-src 'none'; style-src '{hash_of(_style())}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


@cache
def _environment() -> Environment:
    return environment()


@cache
def _style() -> str:
    return resource("style.css") + resource("live.css")


def _fault(
    fault: Fault, told: Told, latest: dict[int, str]
) -> tuple[str, str, str, str, list[Variant]]:
    """Return what it is, how often, why, when it was found last, and what is drawn of it."""
    drawn = [
        variant({}, told.clock_error_ns, fault, number, finding, draw=True)
        for number, finding in enumerate(fault.variants[:_PICTURES])
    ]
    when = max((latest.get(id(f), "") for f in fault.variants), default="")
    return title(fault), counts(fault), explained(fault.worst), when, drawn
