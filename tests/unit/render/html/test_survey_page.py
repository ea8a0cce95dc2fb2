# SPDX-License-Identifier: Apache-2.0
"""A survey as a page."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

from ghesrace.render.html.survey_page import survey_page
from ghesrace.render.survey.answers import Broken, Group, Outlier, Period, Shape, Survey
from tests.unit.render.survey.test_answers import FULL

from .test_diff_page import Elements

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
EVIL = "<script>alert(1)</script>"


def test_it_is_whole_and_tells_each_answer() -> None:
    """If this fails, a browser has to guess, or the page lacks what the text has."""
    page = survey_page(FULL, NOW)
    elements = Elements(page)
    assert elements.open == []
    assert "script" not in elements.names
    assert "default-src 'none'" in page
    for told in (
        "3 captures of 2 hosts: 1 race-observed, 1 clean, 1 broken",
        '<strong class="race-observed">1 race-observed</strong>',
        "GHES_IRQ: none",
        "<code>x irq: map</code>",
        "map-flush at 2 of 3 hosts",
        "InputError: a is cut",
        "2026-01-02 03:04 UTC",
    ):
        assert told in page, told


def test_it_is_a_page_where_nothing_was_found() -> None:
    """If this fails, an empty store makes a broken page."""
    page = survey_page(Survey(unread=1), NOW)
    assert Elements(page).open == []
    assert "Nothing was judged." in page
    assert "1 could not be read" in page


def test_bars_are_as_wide_as_their_counts() -> None:
    """If this fails, the picture shows something else than the numbers beside it."""
    trend = [
        Period("2026-01", 4, 1, 0, {"race-observed": 1, "clean": 3}),
        Period("2026-02", 2, 1, 0, {"clean": 2}),
    ]
    page = survey_page(replace(FULL, trend=trend), NOW)
    found = re.findall(r'<rect class="verdict-(\S+)" x="(\S+)" y="0" width="(\S+)"', page)
    assert found == [
        ("race-observed", "0.0", "250.0"),
        ("clean", "250.0", "750.0"),
        ("clean", "0.0", "500.0"),
    ]


def test_hostile_names_are_only_text() -> None:
    """The names come from whoever can write the store."""
    evil = replace(
        FULL,
        groups=[Group(EVIL, EVIL, EVIL, 1, 1, {"clean": 1}, {EVIL: {EVIL: 1}}, {EVIL: 1})],
        findings=[Shape(EVIL, "observed", EVIL, EVIL, EVIL, kernels=[EVIL], example=EVIL)],
        outliers=[Outlier(EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, 2, 3, EVIL)],
        losses={EVIL: (1, 1)},
        broken=[Broken(EVIL, EVIL, 2, EVIL)],
    )
    page = survey_page(evil, NOW)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_page_has_an_end() -> None:
    """If this fails, a store of a million kinds makes a page that no browser opens."""
    groups = [Group(f"6.{n}", "arm64", "B", verdicts={"clean": 1}) for n in range(600)]
    page = survey_page(replace(FULL, groups=groups), NOW)
    assert "6.499" in page
    assert "6.500" not in page
    assert "100 more are in the data set" in page
