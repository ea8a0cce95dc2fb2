# SPDX-License-Identifier: Apache-2.0
"""A survey as text."""

from __future__ import annotations

import io
from dataclasses import replace

from ghesrace.render.layout import new_console
from ghesrace.render.survey.answers import Broken, Group, Survey
from ghesrace.render.survey.text import print_survey

from .test_answers import FULL


def text(survey: Survey, every: bool = False) -> str:
    out = io.StringIO()
    print_survey(new_console(out), survey, every)
    return out.getvalue()


def test_it_tells_each_answer() -> None:
    """If this fails, a question of the fleet has no answer on the terminal."""
    shown = text(FULL)
    for told in (
        "3 captures of 2 hosts: 1 race-observed, 1 clean, 1 broken",
        "  6.1 arm64, B: 1 race-observed",
        "    GHES_IRQ: none",
        "  kernel unknown, firmware unknown: 1 clean",
        "lost unknown",
        "  stale read: 2 observed, in 1 capture of 1 host",
        "    x irq: map",
        "  h: none at GHES_IRQ, where 2 of 3 hosts",
        "  2026-01          2          5         0          0             0      2",
        "  overrun         1       7",
        "  InputError: a is cut",
    ):
        assert told in shown, told
    assert max(map(len, shown.splitlines())) <= 80


def test_nothing_is_said_in_words() -> None:
    """If this fails, an empty table looks like a forgotten one."""
    shown = text(Survey(unread=2))
    for told in ("nothing was judged", "2 could not be read now", "No findings.", "No host"):
        assert told in shown


def test_long_tables_are_cut_and_say_so() -> None:
    """If this fails, hundreds of kernels scroll the findings away, or rows are cut in silence."""
    groups = [Group(f"6.{n}", "arm64", "B", verdicts={"clean": 1}) for n in range(25)]
    many = replace(FULL, groups=groups)
    assert "  5 more: --all shows them" in text(many)
    assert "more: --all" not in text(many, every=True)
    assert "6.24" in text(many, every=True)


def test_hostile_names_are_only_text() -> None:
    """A store's names come from whoever can write it."""
    evil = replace(FULL, broken=[Broken("InputError", "\x1b[2J is cut", 1, "a")])
    assert "\x1b" not in text(evil)
