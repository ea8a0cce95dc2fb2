# SPDX-License-Identifier: Apache-2.0
"""The words of reports, and that each is explained."""

from __future__ import annotations

from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Class, Why, class_word
from ghesrace.checker.report import Verdict
from ghesrace.events import Cause
from ghesrace.plan import Plan
from ghesrace.render.words import SORTS, WORDS, by_sort, meanings, spelled
from ghesrace.unknowns import UNKNOWNS


def sorts(name: str) -> set[str]:
    return {word.sort for word in meanings(name)}


def test_every_word_that_a_report_uses_is_explained() -> None:
    """If this fails, a new class, cause or pattern has no meaning that a reader can look up."""
    for verdict in Verdict:
        assert "verdict" in sorts(verdict.word)
    for cls in Class:
        assert "class" in sorts(class_word(cls))
    for why in Why:
        assert why == Why.CERTAIN or "uncertainty" in sorts(why.name)
    for cause in Cause:
        assert "loss" in sorts(cause.name)
    for name in UNKNOWNS:
        assert "rests on" in sorts(name)
    for pattern in Engine(Plan("x86_64", "6.12", (), ())).report().patterns:
        assert "pattern" in sorts(pattern)
    for reason in ("no-traffic", "truncated", "probe-failed", "not-checked", "losses", "uncertain"):
        assert "reason" in sorts(reason)


def test_no_word_is_explained_twice_in_one_sort() -> None:
    """If this fails, two explanations contradict each other sooner or later."""
    names = [(word.name, word.sort) for word in WORDS]
    assert len(names) == len(set(names))
    assert all(word.name == spelled(word.name) for word in WORDS)
    assert all(word.what and word.do.endswith(".") for word in WORDS)
    assert {word.sort for word in WORDS} == set(SORTS)
    assert sum(len(names) for _, names in by_sort()) == len(WORDS)
