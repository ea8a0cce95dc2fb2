# SPDX-License-Identifier: Apache-2.0
"""This makes the HTML page of a survey."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

from ghesrace import __version__
from ghesrace.render.survey.answers import (
    VERDICTS,
    Period,
    Survey,
    mechanism_text,
    verdict_text,
)
from ghesrace.render.survey.text import counted, head, implied, lost, place
from ghesrace.render.words import WORDS

from .page import environment, hash_of, resource

_WIDTH = 1000  # of a bar in the picture's units
_MOST = 500  # rows of a table: a page with more is none


def survey_page(survey: Survey, now: datetime | None = None) -> str:
    """Return the page of a *survey*: one file, which loads nothing. *now* is its date.

    survey_page(Survey())
    """
    style = resource("style.css")
    words = {word for group in survey.groups for slot in group.mechanisms.values() for word in slot}
    used = {one for word in words for one in word.split(", ")} | {"episode", "hand-off", "slot"}
    used |= {shape.pattern.replace("_", "-") for shape in survey.findings}
    return (
        environment()
        .get_template("survey.html.j2")
        .render(
            survey=survey,
            title=head(survey),
            colour=next((word for word in VERDICTS if survey.verdicts.get(word)), "inconclusive"),
            verdicts=VERDICTS,
            bars=[(period, _bar(period, _busiest(survey))) for period in survey.trend],
            most=_MOST,
            words=[w for w in WORDS if w.name in used and w.sort in ("class", "pattern", "term")],
            style=Markup(style),
            style_hash=hash_of(style),
            version=__version__,
            now=(now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
            counted=counted,
            implied=implied,
            lost=lost,
            mechanism_text=mechanism_text,
            place=place,
            verdict_text=verdict_text,
        )
    )


def _busiest(survey: Survey) -> int:
    return max((period.captures for period in survey.trend), default=1)


def _bar(period: Period, most: int) -> list[tuple[str, float, float]]:
    """Return the verdict, begin and width of each part of a period's bar."""
    at, parts = 0.0, []
    for word in VERDICTS:
        width = period.verdicts.get(word, 0) * _WIDTH / most
        if width:
            parts.append((word, at, width))
        at += width
    return parts
