# SPDX-License-Identifier: Apache-2.0
"""Findings: their rank, and how much of them is kept."""

from __future__ import annotations

from collections.abc import Callable

from ghesrace.checker.findings import (
    FIRST_OCCURRENCES,
    MAX_FINDINGS,
    Collection,
    Finding,
    Occurrence,
    Step,
    in_time,
    ranked,
)
from tests.build.judging import judge
from tests.build.trace import A, bounce, plan


def test_writes_rank_above_reads() -> None:
    """A status clear through a stale entry corrupts the old page: it is shown first."""
    trace = bounce()
    trace.report(0, A, write=True)
    findings = judge(plan(), trace.stream()).findings
    assert [f.access for f in findings] == ["write", "read", "read"]


def finding(severity: str = "observed", access: str | None = "read", count: int = 1) -> Finding:
    return Finding("p", severity, access, "s", (0, 1), (A, A), "why", [], count=count)


def test_the_worst_comes_first() -> None:
    """Who reads one finding only would read a harmless one."""
    rare, frequent = finding(count=1), finding(count=9)
    write, predicted = finding(access="write"), finding("predicted", "write", 99)
    assert ranked([predicted, rare, frequent, write]) == [write, frequent, rare, predicted]


def when(number: int) -> Callable[[], Occurrence]:
    return lambda: Occurrence(number, None, None, None, (0, 1), None)


def test_all_are_counted_and_the_first_are_kept() -> None:
    """A storm would eat the memory, or its count be that of what is shown."""
    short, full = Collection(), Collection(all_occurrences=True)
    for number in range(30):
        for collection in (short, full):
            collection.add(("key",), finding, when(number))
    assert [c.found["key",].count for c in (short, full)] == [31, 31]  # it was made with one
    assert [o.ts for o in short.found["key",].occurrences] == list(range(FIRST_OCCURRENCES))
    assert [o.ts for o in full.found["key",].occurrences] == list(range(30))


def test_an_occurrence_that_is_not_kept_is_not_made() -> None:
    """A kernel that races at each hand-off would make an object for every one, of which ten are
    kept."""
    collection, made = Collection(), list[Occurrence]()

    def at() -> Occurrence:
        made.append(when(len(made))())
        return made[-1]

    for _ in range(30):
        collection.add(("key",), finding, at)
    assert collection.found["key",].occurrences == made
    assert len(made) == FIRST_OCCURRENCES


def test_those_that_are_not_kept_are_counted_at_once() -> None:
    """The count, or what all of them assume, would be that of the first ones alone."""
    one_by_one, at_once = Collection(), Collection()
    for number in range(FIRST_OCCURRENCES + 4):
        one_by_one.add(("key",), finding, when(number), 1000)
        if at_once.lists_more(("key",)):
            at_once.add(("key",), finding, when(number), 1000)
    at_once.count(("key",), 4, 1000)
    assert at_once.found == one_by_one.found
    assert not at_once.lists_more(("key",))
    assert Collection(all_occurrences=True, found=at_once.found).lists_more(("key",))
    at_once.count(("key",), 1, None)
    one_by_one.add(("key",), finding, when(0))
    assert at_once.found == one_by_one.found


def test_more_distinct_findings_than_can_be_kept() -> None:
    """A hostile file would make findings without end; or the first ones be forgotten."""
    collection = Collection()
    for number in range(MAX_FINDINGS + 5):
        collection.add((number,), finding, when(number))
    collection.add((0,), finding, when(0))
    assert len(collection.found) == MAX_FINDINGS
    assert collection.found[0,].count == 3


def test_lines_of_a_witness_stand_in_time_order() -> None:
    """The reader would see the effect before its cause; what has no stamp comes first."""
    steps = [Step("x", None, ts, 0, "irq", "e", "t") for ts in (30, None, 10)]
    assert [step.ts for step in in_time(steps)] == [None, 10, 30]


def test_a_finding_is_sure_if_one_of_its_occurrences_is() -> None:
    """It would be doubted for one that the clocks leave open, or believed for none."""
    for assumed, left in (
        ([7], 7),
        ([None], None),
        ([7, 7], 7),
        ([7, None], None),
        ([None, 7], None),
        ([7, None, 7], None),
    ):
        made = finding(count=0)
        for error in assumed:
            made.add_clock(error)
            made.count += 1
        assert made.assumed_clock_ns == left
