# SPDX-License-Identifier: Apache-2.0
"""This makes the HTML page of a comparison."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

from ghesrace import __version__
from ghesrace.render.diff.compare import Comparison, Outcome, describe
from ghesrace.render.diff.shares import Share, head, loss_rows, pattern_rows, percent, slot_changes
from ghesrace.render.diff.text import title
from ghesrace.render.words import WORDS

from .page import environment, hash_of, resource

_WIDTH = 1000  # of a bar in the picture's units

# Which of the colours of verdicts an outcome has.
_COLOURS = {
    Outcome.WORSE: "race-observed",
    Outcome.UNKNOWN: "inconclusive",
    Outcome.BETTER: "clean",
    Outcome.SAME: "clean",
}


def diff_page(compared: Comparison, now: datetime | None = None) -> str:
    """Return the page of what was *compared*: one file, which loads nothing. *now* is its date.

    diff_page(compare(a, b))
    """
    style = resource("style.css")
    slots = slot_changes(compared)
    used = {share.word for slot in slots for share in slot.shares}
    used |= {change.seen.shape[0].replace("_", "-") for change in compared.changes}
    used |= {"episode", "hand-off", "latent", "slot"}
    return (
        environment()
        .get_template("diff.html.j2")
        .render(
            compared=compared,
            sides=(("A", compared.a), ("B", compared.b)),
            title=title(compared),
            colour=_COLOURS[compared.outcome],
            slots=[(slot, _bars(slot.shares)) for slot in slots],
            patterns=pattern_rows(compared),
            losses=loss_rows(compared),
            words=[w for w in WORDS if w.name in used and w.sort in ("class", "pattern", "term")],
            redacted=compared.a.redacted and compared.b.redacted,
            style=Markup(style),
            style_hash=hash_of(style),
            version=__version__,
            now=(now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
            describe=describe,
            head=head,
            percent=percent,
        )
    )


def _bars(shares: list[Share]) -> list[tuple[str, list[tuple[str, float, float, str]]]]:
    """Return a bar for each side: its letter, and the class, begin, width and tip of each part."""
    bars = []
    for letter in "AB":
        at, parts = 0.0, []
        for share in shares:
            n, of = (share.a, share.of_a) if letter == "A" else (share.b, share.of_b)
            width = percent(n, of) * _WIDTH / 100
            if n:
                tip = f"{letter}: {n:,} {share.word}, {percent(n, of):.1f}%"
                parts.append((share.word, at, width, tip))
            at += width
        bars.append((letter, parts))
    return bars
