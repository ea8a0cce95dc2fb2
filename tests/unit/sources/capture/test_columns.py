# SPDX-License-Identifier: Apache-2.0
"""The columns of capture files say what they are, and every reader can tell."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ghesrace.checker.model import Class, class_word
from ghesrace.errors import InputError
from ghesrace.events import Cause, Context, Events, Kind, Sample, columns_of, joined, loss, mark
from ghesrace.plan import Plan
from ghesrace.sources.capture import file
from ghesrace.sources.capture.columns import ABOUT, BITS, READ, WRITTEN, Columns
from ghesrace.sources.capture.file import CaptureSource, CaptureWriter
from tests.build.paths import FIXTURES, REPO

CAPTURES = FIXTURES / "captures"
DOCS = REPO / "docs" / "captures.md"


@pytest.fixture(scope="module")
def summary() -> tuple[Plan, Events]:
    """The plan and records of a real summary."""
    source = CaptureSource(CAPTURES / "0.1.0-summary.arrows")
    return source.plan, joined(list(source.batches()))


def test_a_summary_is_written_and_read_as_it_was(
    summary: tuple[Plan, Events], tmp_path: Path
) -> None:
    """If this fails, a summary that is recorded now says something else when it is read."""
    plan, records = summary
    path = tmp_path / "x.arrows"
    with CaptureWriter(path, plan, {}) as writer:
        writer.write(records)
    source = CaptureSource(path)
    found = joined(list(source.batches()))
    # Format 1 said in two places which CPU a count is of.
    expected = records.copy()
    expected["reserved"][np.isin(records["kind"], (Kind.COUNT, Kind.AGAIN))] = 0
    assert found.tobytes() == expected.tobytes()
    assert source.plan == plan


def test_another_reader_finds_what_a_summary_says(
    summary: tuple[Plan, Events], tmp_path: Path
) -> None:
    """If this fails, nobody but us can read a summary's columns."""
    plan, records = summary
    path = tmp_path / "x.arrows"
    with CaptureWriter(path, plan, {}) as writer:
        writer.write(records)
    table = pa.ipc.open_stream(path).read_all()
    kinds = json.loads(table.schema.field("kind").metadata[b"values"])
    rows = [{**row, "kind": kinds[str(row["kind"])]} for row in table.to_pylist()]
    episode = next(row for row in rows if row["kind"] == "EPISODE" and row["cls"] == Class.NONE)
    threat = rows[rows.index(episode) - 1]
    assert (threat["kind"], threat["cpu"]) == ("THREAT", episode["cpu"])
    assert (threat["mapper"], episode["mapper"]) == (0, 1)
    assert (hex(threat["frame"]), hex(episode["frame"])) == ("0x70000000", "0x70001000")
    assert threat["begin"] < threat["end"] <= episode["begin"] < episode["end"] <= episode["ts"]
    [lost] = [row for row in rows if row["kind"] == "LOSS"]
    assert (lost["count"], lost["end"] == lost["ts"] > lost["begin"]) == (2, True)
    causes = json.loads(table.schema.field("cause").metadata[b"values"])
    assert causes[str(lost["cause"])] == "MISSED"
    counted = sum(row["count"] for row in rows if row["kind"] in ("COUNT", "AGAIN"))
    assert counted + sum(row["kind"] == "EPISODE" for row in rows) == 49


def test_columns_tell_what_they_are() -> None:
    """If this fails, a reader must look into our code to know what a column is."""
    names = columns_of(summary=True)
    assert set(ABOUT) == set(names)
    for field in Columns("2", summary=True).fields():
        assert field.metadata[b"about"].decode() == ABOUT[field.name]
        assert not field.nullable
    for cls in Class:
        assert f"{int(cls)} {class_word(cls)}" in ABOUT["cls"]
    assert WRITTEN in READ


def test_the_documentation_names_all_columns_and_kinds() -> None:
    """If this fails, docs/captures.md lacks what a file has, or has what it lacks."""
    text = DOCS.read_text()
    table = re.findall(r"^\| `(\w+)` \|", text, re.M)
    assert table == list(columns_of(summary=True))
    kinds = re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.M)
    assert {name: int(number) for number, name in kinds} == {k.name: int(k) for k in Kind}
    for cls in Class:
        assert f"{int(cls)} {class_word(cls)}" in text
    for word in (*Cause, *Context, *Sample):
        assert f"{int(word)} {word.name.lower().replace('_', '-')}" in text
    for name, bits in BITS.items():
        [row] = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        assert all(f" {int(bit)} " in row for bit in bits)


def test_a_summarys_columns_are_not_anothers(summary: tuple[Plan, Events], tmp_path: Path) -> None:
    """If this fails, a file is read by columns that its plan does not have."""
    path, plan = tmp_path / "x.arrows", summary[0]
    schema = file.schema(plan, {})
    without = schema.remove(schema.get_field_index("mapper"))
    with pa.ipc.new_stream(str(path), without):
        pass
    with pytest.raises(InputError, match="columns are not those of format 2"):
        CaptureSource(path)
    of_format_1 = schema.with_metadata({**schema.metadata, b"ghesrace.format": b"1"})
    with pa.ipc.new_stream(str(path), of_format_1):
        pass
    with pytest.raises(InputError, match="columns are not those of format 1"):
        CaptureSource(path)


@pytest.mark.parametrize("version", READ)
@pytest.mark.parametrize("summary", [False, True])
def test_formats_hold_losses_and_marks(version: str, summary: bool) -> None:
    """If this fails, a format loses what was lost."""
    columns = Columns(version, summary)
    batch = joined([loss(1, 9, Cause.OVERRUN, cpu=3, count=5, point=2), mark(10)])
    found = columns.of(batch)
    assert list(found) == columns.names
    assert columns.batch(found).tobytes() == batch.tobytes()
