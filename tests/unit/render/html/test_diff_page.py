# SPDX-License-Identifier: Apache-2.0
"""A comparison as a page."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

from ghesrace.render.diff.compare import compare
from ghesrace.render.html.diff_page import diff_page
from tests.build.reports import finding, side, slot

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
EVIL = "<script>alert(1)</script>"
A = side(slots=(slot(fresh=3, map_flush=1),))
B = side(finding(), slots=(slot(fresh=1, none=3),))


class Elements(HTMLParser):
    """The elements of a page that are open at its end, and all their names."""

    VOID = ("meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_it_is_whole_and_tells_what_changed() -> None:
    """If this fails, a browser has to guess, or the page lacks what the text has."""
    text = diff_page(compare(A, B), NOW)
    elements = Elements(text)
    assert elements.open == []
    assert "script" not in elements.names
    assert "default-src 'none'" in text
    for told in (
        "B is worse: new in B: stale read at slot GHES_IRQ, observed once",
        "map-flush → none",
        "2026-01-02 03:04 UTC",
        "the kernels' releases",
    ):
        assert told in text


def test_bars_are_as_wide_as_their_shares() -> None:
    """If this fails, the picture shows something else than the table below it."""
    text = diff_page(compare(A, B), NOW)
    found = re.findall(r'<rect class="class-(\S+)" x="(\S+)" y="\d+" width="(\S+)"', text)
    assert found == [
        ("fresh", "30.0", "750.0"),
        ("map-flush", "780.0", "250.0"),
        ("fresh", "30.0", "250.0"),
        ("none", "280.0", "750.0"),
    ]


def test_hostile_names_are_only_text() -> None:
    """A capture's names come from whoever made it."""
    evil = side(
        finding("torn_edit", slot=EVIL, why=EVIL),
        slots=(slot(EVIL, none=1),),
        file=EVIL,
        host={"arch": EVIL, "release": EVIL},
        reasons=(EVIL,),
        losses={EVIL: 1},
    )
    text = diff_page(compare(A, evil), NOW)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert Elements(text).open == []


def test_a_redacted_one_says_so() -> None:
    """Who gets it must know what is in it."""
    one = side(redacted=True)
    assert "Redacted: addresses are relative" in diff_page(compare(one, one), NOW)
    assert "Redacted: addresses are relative" not in diff_page(compare(A, one), NOW)
