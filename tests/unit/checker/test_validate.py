# SPDX-License-Identifier: Apache-2.0
"""Records that no source of ours can make."""

from __future__ import annotations

import numpy as np
import pytest

from ghesrace.checker.model import Class
from ghesrace.checker.validate import validate
from ghesrace.errors import InputError
from ghesrace.events import (
    MOST_AGAIN,
    NO_POINT,
    NO_SLOT,
    Cause,
    Context,
    Events,
    Kind,
    Sample,
    empty,
    joined,
    loss,
)
from tests.build.judging import judge
from tests.build.trace import bounce, plan
from tests.unit.checker.test_digest import PLAN, T, again, count, record

LAST = 2**62 - 1


def test_impossible_records_are_refused() -> None:
    """A hostile file must end in a typed error, not in an index error."""
    for name, value in (("kind", 77), ("ctx", 9), ("slot", 5), ("point", 60), ("ts", 2**63)):
        stream = bounce().stream()
        stream[name][3] = value
        with pytest.raises(InputError):
            judge(plan(), stream)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("kind", int(Kind.MARK), 18),
        ("ctx", int(Context.NMI), 4),
        ("slot", NO_SLOT, NO_SLOT - 1),
        ("slot", 0, 1),
        ("point", len(plan().probes) - 1, len(plan().probes)),
        ("point", NO_POINT, NO_POINT - 1),
        ("ts", 2**62 - 1, 2**62),
        ("seq", 2**62 - 1, 2**62),
    ],
)
def test_the_last_good_value_and_the_first_bad_one(name: str, good: int, bad: int) -> None:
    """A record at the edge would be refused, or one beyond it index past the plan's end."""
    record = empty(1)
    record["kind"] = Kind.MAP
    record[name] = good
    validate(record, plan())
    record[name] = bad
    with pytest.raises(InputError):
        validate(record, plan())


def test_a_batch_without_a_record_is_taken() -> None:
    """A source that has nothing to say yet would end the check."""
    assert validate(empty(), plan()).sum() == 0


def test_a_loss_has_a_cause_and_a_window() -> None:
    """A loss that ends before it begins touches nothing: what it hid would pass for seen."""
    validate(loss(5, 5, Cause.OVERRUN), plan())
    for bad in (loss(6, 5, Cause.OVERRUN), loss(5, 6, 77)):  # type: ignore[arg-type]
        with pytest.raises(InputError, match="loss record"):
            validate(bad, plan())


def test_one_bad_record_among_many_is_enough() -> None:
    """Only the first, or the last, record of a batch would be looked at."""
    batch = bounce().stream()
    for at in (0, len(batch) // 2, len(batch) - 1):
        damaged = batch.copy()
        damaged["ctx"][at] = 200
        with pytest.raises(InputError, match="context"):
            validate(damaged, plan())
    assert np.array_equal(batch, bounce().stream())
    good, bad = loss(5, 6, Cause.OVERRUN), loss(6, 5, Cause.OVERRUN)
    for two in (joined([good, bad]), joined([bad, good])):
        with pytest.raises(InputError, match="loss record"):
            validate(two, plan())


def unsafe(kind: Kind, **fields: int) -> Events:
    return record(kind, **{"cls": Class.NONE, **fields})


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (count(Class.SAME_FRAME, 1), count(Class.NONE, 1)),
        (count(Class.FRESH, 1, begin=T), count(Class.FRESH, 1, begin=T + 1)),
        (count(Class.FRESH, LAST), count(Class.FRESH, LAST + 1)),
        (unsafe(Kind.EPISODE), unsafe(Kind.EPISODE, cls=Class.FRESH)),
        (unsafe(Kind.EPISODE, cls=Class.UNCERTAIN), unsafe(Kind.EPISODE, cls=77)),
        (unsafe(Kind.EPISODE, begin=LAST), unsafe(Kind.EPISODE, begin=LAST + 1)),
        (unsafe(Kind.EPISODE, end=LAST), unsafe(Kind.EPISODE, end=LAST + 1)),
        (again(MOST_AGAIN), again(MOST_AGAIN + 1)),
        (again(1, begin=LAST), again(1, begin=LAST + 1)),
        (record(Kind.SAMPLE, sample=Sample.EXPOSES), record(Kind.SAMPLE, sample=9)),
        (record(Kind.SAMPLE, begin=LAST), record(Kind.SAMPLE, begin=LAST + 1)),
        (record(Kind.SAMPLE, end=LAST), record(Kind.SAMPLE, end=LAST + 1)),
        (record(Kind.THREAT, slot=0), record(Kind.THREAT, slot=-1)),
        (record(Kind.THREAT, begin=LAST), record(Kind.THREAT, begin=LAST + 1)),
        (record(Kind.THREAT, end=LAST), record(Kind.THREAT, end=LAST + 1)),
    ],
)
def test_a_summary_is_refused_from_the_first_number_that_makes_no_sense(
    good: Events, bad: Events
) -> None:
    """A damaged file would crash the checker or change its verdict; or a sound one be refused."""
    validate(good, PLAN)
    with pytest.raises(InputError, match="summary"):
        validate(bad, PLAN)
