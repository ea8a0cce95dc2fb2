# SPDX-License-Identifier: Apache-2.0
"""The rows of a capture say what `check` says of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ghesrace.commands.judging import How, judge_file
from ghesrace.errors import InputError
from ghesrace.fleet.stores import Item
from ghesrace.fleet.survey.rows import implications, rows
from ghesrace.fleet.survey.tables import TABLES, arrow
from ghesrace.plan import Implied, Plan
from ghesrace.render.as_json import document
from ghesrace.render.judgement import Failure
from tests.build.paths import EXAMPLES

WHEN = datetime(2026, 1, 2, tzinfo=UTC)
ITEM = Item("s3://evidence/host7/a.arrows", "t", 5, WHEN, False)


def made(path: Path, manifest: dict[str, Any] | None = None) -> tuple[dict[str, Any], Any]:
    judged = judge_file(path, How(), silent=True)
    return rows(ITEM, manifest or {}, judged), document(judged)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.arrows")), ids=lambda path: path.stem)
def test_they_say_what_the_report_says(path: Path) -> None:
    """If this fails, the fleet's table and the report on one capture contradict each other."""
    found, report = made(path)
    [run] = found["runs"]
    for name in ("verdict", "truncated", "reasons", "qualified_by", "assumed_clock_ns", "events"):
        assert run[name] == report[name]
    assert run["lost"] == report["lost"]
    assert (run["kernel"], run["arch"]) == (report["host"]["release"], report["host"]["arch"])
    for slot, told in zip(found["slots"], report["slots"], strict=True):
        assert (slot["slot"], slot["handoffs"]) == (told["name"], told["handoffs"])
        classes = {word: slot[word.replace("-", "_")] for word in told["classes"]}
        assert classes == told["classes"]
        rested = {word for word, n in classes.items() if n} & {
            *("broadcast", "map-flush", "incidental", "none")
        }
        assert set(filter(None, slot["mechanism"].split(", "))) == rested
    groups = {finding["group"] for finding in report["findings"]}
    assert [finding["name"] for finding in found["findings"]] == sorted(groups, key=int)
    for severity in ("observed", "predicted"):
        told_count = sum(f["count"] for f in report["findings"] if f["severity"] == severity)
        assert sum(f[severity] for f in found["findings"]) == told_count


def test_every_column_is_filled_or_null_for_a_reason() -> None:
    """If this fails, a column of the data set is always empty, or a row has one that is lost."""
    found, _ = made(EXAMPLES / "control.arrows")
    for table, columns in TABLES.items():
        names = {column.name for column in columns}
        for row in found[table]:
            assert row.keys() <= names
            assert names - row.keys() <= {"error", "what"}


def test_a_witness_has_a_shape_without_cpus_and_addresses() -> None:
    """If this fails, the same fault on two hosts makes two lines."""
    [finding] = made(EXAMPLES / "control.arrows")[0]["findings"]
    assert finding["witness"] == (
        "x irq: notify copy map read unmap inv_page; y irq: notify copy map read"
    )
    assert finding["title"] == "stale read at slot ghes2015:irq"
    assert not any(word in finding["explanation"] for word in ("0x", "CPU 0", "CPU 1"))


def test_the_host_is_that_of_the_manifest_then_of_the_folder() -> None:
    """If this fails, captures of one host are counted for another."""
    [run] = made(EXAMPLES / "stock.arrows")[0]["runs"]
    assert (run["host"], run["microcode"], run["recorded"]) == ("host7", None, WHEN)
    assert run["firmware"] == f"HEST {run['hest'][:8]}"
    told = {"host": "db1", "board": "X11", "bios": "3.4", "microcode": "0x1", "hest": "ab",
            "recorded": "2025-05-06T07:08:09Z"}  # fmt: skip
    [run] = made(EXAMPLES / "stock.arrows", told)[0]["runs"]
    assert (run["host"], run["firmware"]) == ("db1", "X11, BIOS 3.4")
    assert (run["microcode"], run["hest"]) == ("0x1", "ab")
    assert run["recorded"] == datetime(2025, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "value", [5, None, [], {}, "", "\ud800", "0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59"]
)
def test_a_hostile_manifest_is_as_good_as_none(value: object) -> None:
    """A manifest comes from whoever can write the store."""
    names = ("host", "board", "bios", "microcode", "hest", "recorded")
    found, _ = made(EXAMPLES / "stock.arrows", dict.fromkeys(names, value))
    assert arrow(found)["runs"].num_rows == 1


def test_a_broken_capture_is_a_row_with_its_error() -> None:
    """If this fails, it is left out, and nobody asks why there is no verdict."""
    failure = Failure.of("a", InputError("a is empty", "record again"))
    found = rows(ITEM, {}, failure)
    [run] = found["runs"]
    assert (run["error"], run["what"]) == ("InputError", "a is empty")
    assert arrow(found)["runs"].to_pylist()[0]["verdict"] is None


@pytest.mark.parametrize(
    ("states", "unknowns", "word"),
    [
        (("proven",), (), "proven"),
        (("assumed",), (), "assumed"),
        (("proven", "assumed"), (), "partly"),
        (("contradicted",), (), "none"),
        ((), ("implications",), "assumed"),
        ((), (), "none"),
    ],
)
def test_what_implications_rest_on(states: Any, unknowns: Any, word: str) -> None:
    """If this fails, an assumption is shown as proven."""
    plan = replace(
        Plan("x86_64", "6.12", (), ()),
        unknowns=unknowns,
        implications=tuple(Implied("p", "f", "flush-inside", state, "") for state in states),
    )
    assert implications(plan) == word
