# SPDX-License-Identifier: Apache-2.0
"""The JSON of a report, by its schema and by its figures."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from ghesrace import __version__
from ghesrace.render.as_json import SCHEMA, SCHEMA_VERSION
from tests.build.captures import check
from tests.build.trace import A, B


def test_json_keeps_its_schema(
    observed: Path, clean: Path, predicted: Path, quiet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON is a contract; so is the schema that documents it."""
    text = resources.files("ghesrace").joinpath("check.schema.json").read_text()
    validator = jsonschema.Draft202012Validator(json.loads(text))
    for path in (observed, clean, predicted, quiet):
        check(path, "--format", "json")
        validator.validate(json.loads(capsys.readouterr().out))


def test_a_file_that_failed_and_a_redacted_one_keep_the_schema(
    observed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who reads the JSON by its schema would stumble over the one bad file in a hundred."""
    text = resources.files("ghesrace").joinpath("check.schema.json").read_text()
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    check(observed, tmp_path / "absent", "--format", "json", "--redact")
    good, bad = json.loads(capsys.readouterr().out)
    validator.validate(good)
    validator.validate(bad)
    assert schema["$id"] == good["schema"]["id"] == SCHEMA
    assert good["schema"]["version"] == SCHEMA_VERSION
    assert SCHEMA_VERSION in schema["description"]
    assert good["tool"] == {"name": "ghesrace", "version": __version__}
    for broken in ({**bad, "verdict": "clean"}, {**good, "error": {"what": "", "hint": ""}}):
        assert not validator.is_valid(broken)
    good.pop("host")
    assert not validator.is_valid(good)


def test_findings_name_their_group(observed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script that counts findings would count one fault once per pair of CPUs."""
    check(observed, "--format", "json")
    report = json.loads(capsys.readouterr().out)
    assert [(f["group"], f["name"]) for f in report["findings"]] == [("1", "1.1"), ("1", "1.2")]
    assert report["host"]["release"] == "6.1.0-test"
    assert report["recording"] == {
        "backend": "ftrace",
        "summary": False,
        "clock": "mono",
        "clock_error_ns": 1000,
        "contexts": True,
    }


def test_json_of_every_pattern_keeps_the_schema(
    everything: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finding without frames or slot would break who reads the JSON by its schema."""
    text = resources.files("ghesrace").joinpath("check.schema.json").read_text()
    check(everything, "--format", "json")
    report = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(json.loads(text)).validate(report)
    assert set(report["patterns"]) == {"stale", "torn_edit", "shootdown", "overlap"}
    found = {(f["pattern"], f["severity"]): f for f in report["findings"]}
    assert set(found) >= {
        ("overlap", "observed"),
        ("torn_edit", "observed"),
        ("shootdown", "observed"),
        ("shootdown", "predicted"),
    }
    assert found["shootdown", "predicted"]["slot"] is None
    assert found["shootdown", "predicted"]["frames"] is None
    assert found["torn_edit", "observed"]["frames"] is None
    assert report["patterns"]["torn_edit"]["harmless"] == {
        "same table, single entries": 2,
        "other tables": 2,
    }


def test_json_counts(observed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures that dashboards and scripts read."""
    check(observed, "--format", "json")
    report = json.loads(capsys.readouterr().out)
    assert report["patterns"]["stale"] == {
        "checked": True,
        "observed": 5,
        "predicted": 0,
        "not_checked_because": None,
        "harmless": {},
        "uncertain": [],
    }
    assert report["slots"][0]["classes"]["none"] == 5
    assert (report["events"], report["lost"]) == (54, 0)
    finding = report["findings"][0]
    assert finding["frames"] == [hex(A), hex(B)]
    assert finding["sources"] == ["HEST source 3 (external interrupt)", "HEST source 1 (NMI)"]
    assert [s["n"] for s in finding["steps"] if s["n"]] == [1, 2, 3, 4, 5, 6, 7, 8]
