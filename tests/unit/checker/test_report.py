# SPDX-License-Identifier: Apache-2.0
"""The report's words and their order."""

from __future__ import annotations

import json
from importlib import resources

from ghesrace.checker.model import Class, Why
from ghesrace.checker.report import SlotCounts, Verdict


def test_the_worst_verdict_is_the_greatest() -> None:
    """Of several reasons for a verdict the harmless one would win."""
    assert sorted(Verdict) == [
        Verdict.CLEAN,
        Verdict.INCONCLUSIVE,
        Verdict.PREDICTED,
        Verdict.OBSERVED,
    ]
    assert max(Verdict.CLEAN, Verdict.INCONCLUSIVE) is Verdict.INCONCLUSIVE


def test_the_words_are_those_of_the_schema() -> None:
    """Scripts that wait for a word would wait for ever."""
    text = resources.files("ghesrace").joinpath("check.schema.json").read_text()
    words = json.loads(text)["properties"]["verdict"]["enum"]
    assert {verdict.word for verdict in Verdict} == set(words)
    assert Verdict.OBSERVED.word == "race-observed"


def test_counts_of_two_slots_are_apart() -> None:
    """Each slot would count the episodes of all."""
    one, other = SlotCounts("a", None), SlotCounts("b", None)
    one.classes[Class.NONE] += 1
    one.uncertain[Why.LOSS] += 1
    assert sum(other.classes) == sum(other.uncertain) == 0
    assert (len(one.classes), len(one.uncertain)) == (len(Class), len(Why))
