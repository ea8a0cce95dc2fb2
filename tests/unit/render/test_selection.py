# SPDX-License-Identifier: Apache-2.0
"""Which events are shown."""

from __future__ import annotations

import pytest

from ghesrace.checker.findings import Finding, Step
from ghesrace.errors import UsageError
from ghesrace.events import PAGE_SIZE, Cause, Context, Kind, empty, joined, loss
from ghesrace.plan import Slot
from ghesrace.render.selection import (
    Addresses,
    Selection,
    chosen,
    nanoseconds,
    windows_around,
)
from tests.build.trace import Trace, V, plan

TOP = 2**64 - PAGE_SIZE


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("321.624551", "s", (False, 321_624_551_000)),
        ("321.624550960", "s", (False, 321_624_550_960)),
        ("+4,065", "s", None),
        ("+4065.28", "s", (True, 4_065_280)),
        ("100", "us", (False, 100_000)),
        ("2ms", "us", (False, 2_000_000)),
        ("+1s", "us", (True, 10**9)),
        ("-5", "us", None),
        ("1e9", "s", None),
        ("", "s", None),
        ("5m", "s", None),
    ],
)
def test_times(text: str, unit: str, expected: tuple[bool, int] | None) -> None:
    """If this fails, another stretch of time is shown than was asked for, in floating point or in
    another unit."""
    if expected is None:
        with pytest.raises(UsageError, match="is no time"):
            nanoseconds(text, unit)
    else:
        assert nanoseconds(text, unit) == expected


def test_a_slot_is_what_names_it_or_covers_its_page() -> None:
    """If this fails, the flush that saved a slot is missing where somebody looks at the slot."""
    slots = (Slot("irq", 644, V, "report"), Slot("top", None, TOP, "report"))
    trace = Trace()
    trace.add(0, Kind.MAP, slot=0)
    trace.add(0, Kind.INV_PAGE, addr=V)
    trace.add(0, Kind.INV_PAGE, addr=V + PAGE_SIZE)  # the next page
    trace.add(0, Kind.INV_RANGE, addr=V - PAGE_SIZE, size=PAGE_SIZE)  # the page before
    trace.add(0, Kind.INV_RANGE, addr=V - PAGE_SIZE, size=PAGE_SIZE + 1)
    trace.add(0, Kind.BCAST_RANGE, addr=0, size=2**64 - 1)
    trace.add(0, Kind.INV_ALL)
    trace.add(0, Kind.NOTIFY)
    trace.add(0, Kind.READ, addr=V + PAGE_SIZE - 1, size=1)
    trace.lose(1, 2, cause=Cause.OVERRUN)
    trace.add(0, Kind.INV_PAGE, addr=TOP)
    events = joined(trace.records)
    wanted = Selection(slots=frozenset({0})).of(events, Addresses(plan(*slots)))
    assert wanted.tolist() == [True, True, False, False, True, True, True, False, True, True, False]
    top = Selection(slots=frozenset({1})).of(events, Addresses(plan(*slots)))
    assert [i for i, shown in enumerate(top) if shown] == [5, 6, 9, 10]


def test_addresses_are_learnt_from_maps() -> None:
    """If this fails, the flushes of a module's slot are not found: its plan has no address."""
    addresses = Addresses(plan(Slot("module:irq", None, None, "page")))
    trace = Trace()
    trace.add(0, Kind.MAP, slot=0)
    addresses.learn(joined(trace.records))
    assert addresses.of == {}
    trace.add(0, Kind.MAP_END, slot=0, addr=V + 0x40)
    addresses.learn(joined(trace.records))
    assert addresses.of == {0: V}
    assert addresses.slot_at(V + 0xFFF) == 0
    assert addresses.slot_at(V + PAGE_SIZE) == -1


def test_losses_that_may_have_hidden_what_is_wanted_are_shown() -> None:
    """If this fails, somebody takes a hole for silence."""
    events = joined(
        [
            loss(100, 200, Cause.OVERRUN, cpu=1),
            loss(100, 200, Cause.MISSED),  # of any CPU
            loss(300, 400, Cause.OVERRUN, cpu=0),
        ]
    )
    nowhere = Addresses(plan())
    assert Selection(cpus=frozenset({0})).of(events, nowhere).tolist() == [False, True, True]
    assert Selection(windows=[(150, 160)]).of(events, nowhere).tolist() == [True, True, False]
    assert Selection(contexts=frozenset({Context.NMI})).of(events, nowhere).all()
    assert Selection(slots=frozenset({0})).of(events, nowhere).all()
    assert not Selection(kinds=frozenset({Kind.MAP})).of(events, nowhere).any()


def test_times_contexts_and_kinds_select_events() -> None:
    """If this fails, a filter lets something else through."""
    events = empty(3)
    events["kind"], events["ctx"] = (Kind.MAP, Kind.READ, Kind.MAP), (0, 2, 3)
    events["ts"], events["cpu"] = (10, 20, 30), (0, 1, 2)
    nowhere = Addresses(plan())

    def of(**what: object) -> list[int]:
        mask = Selection(**what).of(events, nowhere)  # type: ignore[arg-type]
        return [i for i, wanted in enumerate(mask) if wanted]

    assert of() == [0, 1, 2]
    assert of(windows=[(10, 10), (30, 99)]) == [0, 2]
    assert of(windows=[(-5, 9)]) == []
    assert of(contexts=frozenset({Context.IRQ})) == [1]
    assert of(kinds=frozenset({Kind.MAP}), cpus=frozenset({2})) == [2]


def test_another_order_is_shown_as_two_stretches() -> None:
    """If this fails, a predicted finding shows the whole file between its two lock holds."""
    steps = [Step("y", 6, 900, 1, "irq", "notify", ""), Step("y", 8, 950, 1, "irq", "read", "")]
    steps += [Step("x", 4, None, 1, "any", "load", ""), Step("x", 5, 100, 0, "irq", "unmap", "")]
    finding = Finding("stale", "predicted", "read", "irq", (0, 1), None, "", steps, reordered=True)
    assert windows_around(finding, 10, 20) == [(90, 120), (890, 970)]
    finding.reordered = False
    assert windows_around(finding, 10, 20) == [(90, 970)]


def test_a_name_that_is_not_there_is_told_with_those_that_are() -> None:
    """If this fails, a typo shows nothing, and somebody takes that for an answer."""
    with pytest.raises(UsageError, match="'nmii' is no context\n  one of irq, nmi"):
        chosen(["irq", "nmii"], {"irq": 2, "nmi": 3}, "context")
