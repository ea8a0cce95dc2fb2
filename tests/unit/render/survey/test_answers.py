# SPDX-License-Identifier: Apache-2.0
"""The answers of a survey as JSON, held to their schema, and in words."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest

from ghesrace.render.survey.answers import (
    SCHEMA,
    VERDICTS,
    Broken,
    Group,
    Outlier,
    Period,
    Shape,
    Survey,
    document,
    mechanism_text,
    verdict_text,
)
from tests.build.paths import REPO

WRITTEN = json.loads((REPO / "tracer/ghesrace/survey.schema.json").read_text())
FULL = Survey(
    captures=3,
    judged=2,
    hosts=2,
    exit_code=2,
    verdicts={"clean": 1, "race-observed": 1},
    groups=[
        Group(None, None, None, 1, 1, {"clean": 1}, {"GHES_IRQ": {"": 1}}, {"none": 1}, lost=None),
        Group("6.1", "arm64", "B", 1, 1, {"race-observed": 1}, {"GHES_IRQ": {"none": 1}}),
    ],
    findings=[Shape("stale", "observed", "stale read", "x irq: map", "why", 1, 1, 2, 0, ["6.1"])],
    outliers=[Outlier("h", "6.1", None, None, "GHES_IRQ", "none", "map-flush", 2, 3, "file:///a")],
    trend=[Period("2026-01", 2, 2, 5, {"clean": 2})],
    losses={"overrun": (1, 7)},
    broken=[Broken("InputError", "a is cut", 1, "file:///a")],
)


@pytest.mark.parametrize("survey", [Survey(), FULL])
def test_they_keep_to_their_schema(survey: Survey) -> None:
    """Who reads them by the schema would be misled."""
    jsonschema.validate(json.loads(json.dumps(document(survey))), WRITTEN)


def test_the_schema_has_its_name_and_all_verdicts() -> None:
    """If this fails, a program that asks for the schema by its name finds another."""
    assert WRITTEN["$id"] == SCHEMA
    assert set(WRITTEN["$defs"]["verdicts"]["properties"]) == set(VERDICTS)
    assert WRITTEN["properties"].keys() == document(Survey()).keys()


def test_what_is_not_in_the_schema_is_noticed() -> None:
    """If this fails, the schema lets anything through."""
    for wrong in (replace(FULL, hosts=-1), replace(FULL, verdicts={"safe": 1})):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(json.loads(json.dumps(document(wrong))), WRITTEN)


def test_the_worst_comes_first() -> None:
    """If this fails, one race hides behind a thousand clean captures."""
    assert FULL.groups[1].worst == "race-observed"
    counts = {"clean": 1000, "race-predicted": 2, "race-observed": 1}
    assert verdict_text(counts) == "1 race-observed, 2 race-predicted, 1,000 clean"
    assert mechanism_text({}) == mechanism_text({"": 3}) == "nothing to protect"
