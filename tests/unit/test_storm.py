# SPDX-License-Identifier: Apache-2.0
"""Storms (tests/mutate/storm.py): what must hold of records that no oracle can judge."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ghesrace.checker import model
from ghesrace.events import Kind, joined
from tests.build.modes import both
from tests.mutate import storm

SEEDS = range(1000, 1200)


def words(report: Any) -> tuple[object, ...]:
    """A report without its findings: of equal ones the first is shown, and a cut may part them."""
    counts = [(slot.classes, slot.uncertain, slot.latent, slot.handoffs) for slot in report.slots]
    return report.verdict.word, report.reasons, counts


@pytest.mark.slow
def test_no_cut_changes_what_is_said_of_a_storm() -> None:
    """A live check, which gets a stream in pieces, would not say what the file says. A page that
    the plan does not know is learnt from the first piece that shows it; so these are left out."""
    for seed in SEEDS:
        made = storm.Storm(seed)
        if all(slot.address for slot in made.plan.slots):
            assert words(storm.answer(seed)[0]) == words(storm.whole(made)), seed


@pytest.mark.slow
def test_compiled_it_says_of_a_storm_what_its_source_says() -> None:
    """A number that overflows, or a type that is wrong, would show in one mode alone."""
    for seed in SEEDS:
        made, said = storm.Storm(seed), []
        for module in both("ghesrace.checker.engine"):
            engine = module.Engine(made.plan)
            for batch in made.batches:
                engine.feed(batch)
            engine.finish()
            said.append(repr(engine.report()))
        assert said[0] == said[1], seed


@pytest.mark.slow
def test_storms_are_of_every_kind() -> None:
    """What no storm holds, none of them tells anything of."""
    said: Counter[str] = Counter()
    for seed in SEEDS:
        report, _ = storm.answer(seed)
        events = joined(storm.Storm(seed).batches)
        said.update(Kind(kind).name for kind in set(events["kind"].tolist()))
        said[report.verdict.word] += 1
        for slot in report.slots:
            said.update(model.class_word(c) for c in model.Class if slot.classes[c])
            said.update(why.name for why in model.Why if slot.uncertain[why])
        said.update(name for name, result in report.patterns.items() if result.observed)
    kinds = {kind.name for kind in Kind if kind < Kind.EPISODE} | {"LOSS", "MARK"}
    classes = {model.class_word(c) for c in model.Class} | {why.name for why in model.Why}
    verdicts = {"clean", "inconclusive", "race-predicted", "race-observed"}
    patterns = {"stale", "torn_edit", "shootdown", "overlap"}
    wanted = (kinds | classes | verdicts | patterns) - {"CERTAIN"}
    assert {word: said[word] for word in wanted if said[word] < 2} == {}
