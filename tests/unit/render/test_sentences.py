# SPDX-License-Identifier: Apache-2.0
"""Events in words."""

from __future__ import annotations

import pytest

from ghesrace.events import Cause, Flag, Kind, Sample, as_events, blank, empty, loss
from ghesrace.plan import Slot
from ghesrace.render.selection import Addresses
from ghesrace.render.sentences import Sentences, cause_word, rows
from tests.build.trace import A, V, plan

PLAN = plan(Slot("irq", 644, V, "report"))


def said(records: object) -> str:
    sentences = Sentences(PLAN, Addresses(PLAN), hex, hex, str)
    [row] = rows(records)  # type: ignore[arg-type]
    return sentences.of(row)


def event(kind: Kind, **fields: int) -> object:
    events = empty(1)
    events["kind"] = kind
    for name, value in fields.items():
        events[name] = value
    return events


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (Kind.MAP, {"phys": A, "slot": 0}, "maps 0x70000000 at irq"),
        (Kind.MAP, {"phys": 0, "slot": 0}, "maps 0x0 at irq"),
        (Kind.UNMAP, {"slot": 0}, "unmaps irq"),
        (Kind.UNMAP, {}, "unmaps a slot"),
        (Kind.INV_PAGE, {"addr": V}, "invalidates irq in its own TLB"),
        (Kind.INV_PAGE, {"addr": V + 0x1000}, f"invalidates {V + 0x1000:#x} in its own TLB"),
        (Kind.COPY, {"phys": A, "size": 20}, "enters the copy of 20 bytes from 0x70000000"),
        (
            Kind.COPY,
            {"phys": A, "size": 4, "flags": Flag.WRITE},
            "enters the copy of 4 bytes to 0x70000000",
        ),
        (Kind.READ, {"addr": V + 0xFC0, "size": 20}, "reads 20 bytes at irq+0xfc0"),
        (
            Kind.SHOOTDOWN,
            {"flags": Flag.IRQS_OFF},
            "sends a TLB shootdown to other CPUs and waits with interrupts off",
        ),
        (Kind.EDIT, {"addr": 0x5000, "size": 0x1000}, "edits the page tables of 0x5000 to 0x6000"),
        (Kind.EDIT, {}, "edits page tables; of which addresses was not recorded"),
    ],
)
def test_events(kind: Kind, fields: dict[str, int], words: str) -> None:
    """If this fails, somebody reads of another address or direction than was recorded."""
    assert said(event(kind, **fields)) == words


def test_a_sentence_that_was_said_before_is_not_said_of_something_else() -> None:
    """If this fails, one frame, size or direction is shown for all of them."""
    sentences = Sentences(PLAN, Addresses(PLAN), hex, hex, str)
    several = [
        event(Kind.MAP, phys=A, slot=0),
        event(Kind.MAP, phys=A + 4096, slot=0),
        event(Kind.MAP, phys=A),
        event(Kind.COPY, phys=A, size=20),
        event(Kind.COPY, phys=A, size=24),
        event(Kind.COPY, phys=A, size=24, flags=Flag.WRITE),
        event(Kind.READ, addr=V, size=4),
        event(Kind.READ, addr=V + 8, size=4),
    ]
    told = [sentences.of(row) for one in several for row in rows(one)]  # type: ignore[arg-type]
    assert len(set(told)) == len(several)
    assert told == [said(one) for one in several]


def test_every_kind_has_words() -> None:
    """If this fails, a kind that is new ends `show` in a traceback."""
    for kind in Kind:
        if kind != Kind.MARK:
            records = blank(kind)
            if kind == Kind.LOSS:
                records["cause"] = Cause.OVERRUN
            assert said(as_events(records))


def test_losses_and_a_summarys_records() -> None:
    """If this fails, times are shown as addresses, or counts as sizes: their bytes are shared."""
    assert said(loss(5, 9, Cause.OVERRUN, count=1)) == "1 event lost since 5: overrun"
    assert said(loss(5, 9, Cause.PROBE_GONE)) == (
        "an unknown number of events lost since 5: probe-gone"
    )
    sample = blank(Kind.SAMPLE)
    sample["frame"], sample["slot"], sample["sample"] = A, 0, Sample.VULNERABLE
    assert said(as_events(sample)) == "an episode that nothing would protect: 0x70000000 at irq"
    count = blank(Kind.COUNT)
    count["begin"], count["count"], count["slot"], count["cls"] = 7, 12, 0, 2
    assert said(as_events(count)) == "12 more of class map-flush at irq since 7"


def test_every_cause_has_a_word() -> None:
    """If this fails, a loss is shown without its reason."""
    assert all(cause_word(cause) for cause in Cause)
    assert cause_word(0) == ""
