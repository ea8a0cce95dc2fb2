# SPDX-License-Identifier: Apache-2.0
"""What `check` writes is read back, and what is no such thing is refused in one sentence."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.errors import InputError
from ghesrace.render.diff.document import side_of, stored
from tests.build.captures import check
from tests.build.paths import REPO
from tests.build.reports import finding, report, slot

SCHEMA = json.loads((REPO / "tracer/ghesrace/check.schema.json").read_text())
BUSY = report(
    finding(),
    finding("torn_edit", "predicted", why="CPU 0 edits 0xffff800000000000"),
    slots=(slot(none=2, uncertain=1), slot("GHES_NMI", fresh=1)),
    reasons=("losses: overrun", "uncertain: GHES_NMI: 1 loss"),
    lost=None,
    losses={"overrun": 3},
)


def test_the_builder_writes_what_check_does() -> None:
    """If this fails, the tests of comparisons are about documents that nobody writes."""
    jsonschema.validate(BUSY, SCHEMA)


def test_what_check_wrote_is_read(
    everything: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a stored report can't be compared."""
    path = tmp_path / "report.json"
    check(everything, "--format", "json", "-o", path)
    document = stored(path)
    side = side_of(document, str(path))
    assert document is not None
    assert side.verdict.word == document["verdict"] == "race-observed"
    kinds = {(shape[0], shape[1]) for shape in side.faults}
    assert kinds == {(f["pattern"], f["slot"]) for f in document["findings"]}
    counted = sum(sum(seen.counts.values()) for seen in side.faults.values())
    assert counted == sum(f["count"] for f in document["findings"])


def test_a_reason_opens_what_it_is_about() -> None:
    """If this fails, a loss at one slot excuses what another shows, or a lost event excuses
    nothing."""
    side = side_of(BUSY, "busy")
    assert side.open == [(None, "losses: overrun"), ("GHES_NMI", "uncertain: GHES_NMI: 1 loss")]
    odd = side_of(report(reasons=("uncertain: no-such: thing",)), "odd")
    assert odd.open == [(None, "uncertain: no-such: thing")]


def test_a_report_of_as_many_findings_as_are_kept_is_open() -> None:
    """If this fails, the 1001st finding, which nobody kept, is taken for one that is not there."""
    many = [finding(why=f"because {n}") for n in range(1000)]
    assert side_of(report(*many[:999]), "a").open == []
    assert [subject for subject, _ in side_of(report(*many), "a").open] == ["stale"]


def test_what_was_counted_and_is_told_by_no_finding_is_open() -> None:
    """If this fails, a race of which no witness was kept is none."""
    one = report(finding())
    one["patterns"]["torn_edit"]["predicted"] = 3
    assert [subject for subject, _ in side_of(one, "a").open] == ["torn_edit"]
    bare = side_of({**report(), "verdict": "race-observed"}, "a")
    assert bare.open == [(None, "race-observed without a finding")]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("schema", {"id": "urn:ghesrace:check:9"}, "urn:ghesrace:check:9"),
        ("schema", None, "schema is a NoneType"),
        ("error", {"what": "it is empty"}, "could not be judged: it is empty"),
        ("verdict", "fine", "'fine'"),
        ("verdict", [], "verdict is a list"),
        ("qualified_by", ["luck"], "'luck'"),
        ("events", -1, "a count is -1"),
        ("events", True, "a count is a bool"),
        ("lost", "0", "a count is a str"),
        ("slots", [slot(), slot()], "two slots have one name"),
        ("slots", [None], "a slot is a NoneType"),
        ("patterns", [], "it is a list"),
        ("findings", [finding(severity="certain")], "'certain'"),
        ("findings", [finding("new_pattern")], "'new_pattern'"),
        ("findings", [finding() | {"slot": 5}], "a finding's slot is a int"),
        ("findings", [finding() | {"access": []}], "[]"),
    ],
)
def test_what_is_no_report_is_refused_in_a_sentence(name: str, value: Any, told: str) -> None:
    """If this fails, an edited or foreign document ends in a traceback, or is half believed."""
    with pytest.raises(InputError, match=r"^b\.json ") as error:
        side_of({**report(), name: value}, "b.json")
    assert told in error.value.what
    assert error.value.hint


@settings(deadline=None)
@given(st.data())
def test_nothing_that_is_missing_or_odd_is_a_traceback(data: st.DataObject) -> None:
    """Any part of a report may be gone or be something else: only InputError may come of it."""
    document: Any = copy.deepcopy(BUSY)
    at = document
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        deeper = at[key]
        if not isinstance(deeper, dict | list) or not deeper or data.draw(st.booleans()):
            break
        at = deeper
    odd = st.sampled_from([None, "x", -5, 2.5, [], {}, [[]], {"a": 1}, True, float("nan")])
    if isinstance(at, dict) and data.draw(st.booleans()):
        del at[key]
    else:
        at[key] = data.draw(odd)
    with suppress(InputError):
        side_of(document, "odd.json")


@pytest.mark.parametrize(
    "text", ["{", '{"a": ', "[{]", "{" * 100_000, '{"a": NaN,}', '{"a": \x00}']
)
def test_broken_json_is_told(tmp_path: Path, text: str) -> None:
    """A report that was cut must not be taken for a trace, nor be a traceback."""
    path = tmp_path / "cut.json"
    path.write_text(text)
    with pytest.raises(InputError, match="begins like JSON") as error:
        stored(path)
    assert str(path) in error.value.what


def test_deep_json_is_told(tmp_path: Path) -> None:
    """Nesting without end must not end in a traceback."""
    path = tmp_path / "deep.json"
    path.write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(InputError, match="broken"):
        stored(path)


def test_what_is_no_json_is_left_to_be_judged(clean: Path, tmp_path: Path) -> None:
    """If this fails, captures and traces are taken for reports."""
    text = tmp_path / "trace.txt"
    text.write_text("# tracer: nop\n[000] x\n")
    brackets = tmp_path / "brackets.txt"
    brackets.write_text("[ 321.1] {x}\n")
    for path in (clean, text, brackets, tmp_path / "absent", tmp_path, Path("-")):
        assert stored(path) is None


def test_json_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, one file can take all memory."""
    monkeypatch.setattr("ghesrace.render.diff.document.MAX_DOCUMENT", 10)
    path = tmp_path / "large.json"
    path.write_text(json.dumps(report()))
    with pytest.raises(InputError, match="more than"):
        stored(path)


def test_several_reports_are_not_one() -> None:
    """If this fails, `check A B --format json` is compared as its first file."""
    with pytest.raises(InputError, match="has 2 reports"):
        side_of([report(), report()], "both.json")
