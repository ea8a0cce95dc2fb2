# SPDX-License-Identifier: Apache-2.0
"""A comparison as JSON, held to its schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from ghesrace.render.diff.as_json import SCHEMA, SCHEMA_VERSION, document
from ghesrace.render.diff.compare import Fate, Outcome, compare
from ghesrace.render.diff.document import side_of
from tests.build.paths import REPO
from tests.build.reports import finding, report, side, slot

from .test_compare import reports

WRITTEN = json.loads((REPO / "tracer/ghesrace/diff.schema.json").read_text())


@settings(deadline=None)
@given(reports(), reports())
def test_it_keeps_to_its_schema(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Who reads it by its schema would be misled."""
    compared = compare(side_of(a, "a"), side_of(b, "b"))
    written = document(compared)
    jsonschema.validate(json.loads(json.dumps(written)), WRITTEN)
    assert written["exit_code"] == compared.outcome.exit_code
    assert len(written["findings"]) == len(compared.changes)


def test_the_schema_has_its_name_and_all_words() -> None:
    """If this fails, the file that documents it is that of another version."""
    assert WRITTEN["$id"] == SCHEMA
    major = SCHEMA_VERSION.partition(".")[0]
    assert SCHEMA.endswith(f":{major}")
    fates = WRITTEN["$defs"]["finding"]["properties"]["fate"]["enum"]
    assert fates == [fate.name.lower() for fate in Fate]
    assert len(WRITTEN["properties"]["outcome"]["enum"]) == len(Outcome)


def test_what_is_not_in_the_schema_is_noticed() -> None:
    """If this fails, the schema lets anything through."""
    written = document(compare(side(), side(finding(), slots=(slot(none=1),))))
    for change in ({"outcome": "fine"}, {"because": []}, {"more": 1}, {"exit_code": 2}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**written, **change}, WRITTEN)


def test_numbers_are_those_of_the_report() -> None:
    """If this fails, a script decides by something else than what is shown."""
    b = report(finding(count=3), finding(severity="predicted", count=2), slots=(slot(none=2),))
    written = document(compare(side(), side_of(b, "b")))
    assert written["outcome"] == "worse"
    assert written["findings"][0]["b"] == {
        "severity": "observed",
        "access": "read",
        "observed": 3,
        "predicted": 2,
        "variants": 2,
    }
    assert written["findings"][0]["a"] is None
    [one] = written["slots"]
    assert (one["a"]["protected_by"], one["b"]["protected_by"]) == (["map-flush"], ["none"])
    assert one["protection_changed"]
