# SPDX-License-Identifier: Apache-2.0
"""Events as lines of text, JSON and CSV."""

from __future__ import annotations

import csv
import json

import pytest

from ghesrace.events import Cause, Context, Kind, empty, joined, loss
from ghesrace.plan import Slot
from ghesrace.render.lines import COLUMNS, Lines, head, microseconds, numbered, seconds
from ghesrace.render.selection import Addresses
from tests.build.trace import A, V, plan

PLAN = plan(Slot('i"r,q', 644, V, "report"))


def lines(form: str, events: object, **how: object) -> list[str]:
    made = Lines(PLAN, Addresses(PLAN), form, **{"zero": 1_000, **how})  # type: ignore[arg-type]
    return list(made.of(events))  # type: ignore[arg-type]


def events() -> object:
    mapped = empty(1)
    mapped["kind"], mapped["ts"], mapped["phys"], mapped["slot"] = Kind.MAP, 2_500, A, 0
    mapped["ctx"], mapped["cpu"], mapped["point"] = Context.NMI, 3, 0
    return joined([mapped, loss(1_000, 4_000, Cause.DROPPED, cpu=1, count=2)])


@pytest.mark.parametrize(
    ("ns", "six"),
    [(0, "0.000000"), (1_499, "0.000001"), (1_500, "0.000002"), (999_999_500, "1.000000")],
)
def test_stamps_are_rounded_as_trace_cmd_does(ns: int, six: str) -> None:
    """If this fails, a stamp can't be found in `trace-cmd report` of the same file."""
    assert seconds(ns) == six


def test_differences_keep_all_digits() -> None:
    """If this fails, two events within one microsecond look simultaneous."""
    assert [microseconds(ns) for ns in (0, 17, -1, 2_146_060)] == [
        *("0.000", "0.017", "-0.001", "2,146.060"),
    ]


def test_text() -> None:
    """If this fails, a column is missing, or a blank stands at the end of a line."""
    steps = {(2_500, 3, "map"): 2}
    first, second = lines("text", events(), steps=steps)
    assert first.split()[:5] == ["0.000003", "1.500", "3", "nmi", "2"]
    assert first.endswith('maps 0x70000000 at i"r,q  (f)')
    assert "2 events lost since 0.000001: dropped" in second
    assert lines("text", events(), digits=9)[0].split()[0] == "0.000002500"
    assert all(line == line.rstrip() for line in (first, second))


def test_json_and_csv_say_the_same() -> None:
    """If this fails, a script reads another value from one form than from the other."""
    from_json = [json.loads(line) for line in lines("json", events())]
    from_csv = list(csv.DictReader([head("csv"), *lines("csv", events())]))
    for one, other in zip(from_json, from_csv, strict=True):
        assert tuple(one) == tuple(other) == COLUMNS
        assert {k: "" if v is None else str(v) for k, v in one.items()} == other
    assert from_json[0]["phys"] == hex(A)
    assert from_json[0]["slot"] == 'i"r,q'
    assert (from_json[1]["begin"], from_json[1]["ts"], from_json[1]["count"]) == (1_000, 4_000, 2)
    assert from_json[1]["addr"] is None  # its bytes hold a time


def test_a_context_that_the_file_does_not_tell_is_marked() -> None:
    """If this fails, a guess is shown as what was recorded."""
    from dataclasses import replace

    blind = replace(PLAN, contexts=False)
    [line, _] = Lines(blind, Addresses(blind), "text", zero=0).of(events())  # type: ignore[arg-type]
    assert " nmi? " in line


def test_numbered_leaves_out_what_was_not_traced() -> None:
    """If this fails, an event is given the number of a step that nobody saw."""
    from ghesrace.checker.findings import Finding, Step

    steps = [Step("x", 2, 5, 0, "irq", "map", ""), Step("y", 4, None, 1, "any", "load", "")]
    steps.append(Step("x", None, 6, 0, "irq", "read", ""))
    finding = Finding("stale", "observed", "read", "irq", (0, 1), None, "", steps)
    assert numbered(finding) == {(5, 0, "map"): 2}
