# SPDX-License-Identifier: Apache-2.0
"""Records of the plan's probes -> events."""

from __future__ import annotations

from collections import Counter

import pytest

from ghesrace.errors import InputError
from ghesrace.events import NO_SLOT, Cause, Context, Events, Flag, Kind
from ghesrace.plan import Fetch, FieldOf, Plan, Probe, Slot
from ghesrace.sources.ring.decode import Attached, Decoder, SlotTable
from ghesrace.sources.ring.pages import PageLayout
from tests.build import pages

IRQ, NMI = 644, 645
SLOTS = (Slot("IRQ", IRQ, 0xFFFFFFFFFF57B000, "report"), Slot("NMI", NMI, None, "report"))
SETTER = Probe(
    "set",
    "MAP",
    "native_set_fixmap",
    "kprobe",
    {"index": Fetch(1, 32), "phys": Fetch(2), "prot": Fetch(3)},
    "UNMAP",
)
COPY = Probe(
    "copy",
    "COPY",
    "ghes_copy_tofrom_phys",
    "kprobe",
    {
        "phys": Fetch(2),
        "size": Fetch(3, 32),
        "from_phys": Fetch(4, 32, signed=True),
        "index": Fetch(5, 32),
    },
)
RANGE = Probe("range", "INV_RANGE", "f", "kprobe", {"addr": Fetch(1), "end": Fetch(2)})
OLD = Probe("old", "MAP", "ghes_ioremap_pfn_irq", "kprobe", {"pfn": Fetch(1)}, slot=1)
REF = Probe("ref", "NMI_REF", "nmi:nmi_handler", "tracepoint", {"delta_ns": FieldOf("delta")})
FORMATS = [
    pages.make_format(1, index="u32", phys="u64", prot="u64"),
    pages.make_format(2, phys="u64", size="u32", from_phys="s32", index="u32"),
    pages.make_format(3, addr="u64", end="u64"),
    pages.make_format(4, pfn="u64"),
    pages.make_format(5, delta="s64"),
]


def decoder(slots: tuple[Slot, ...] = SLOTS) -> tuple[Decoder, Counter[str]]:
    probes = (SETTER, COPY, RANGE, OLD, REF)
    plan = Plan("x86_64", "test", slots, probes)
    attached = [Attached(i, p, f) for i, (p, f) in enumerate(zip(probes, FORMATS, strict=True))]
    counters: Counter[str] = Counter()
    return Decoder(SlotTable(plan), attached, PageLayout(), 50, counters), counters


def setter(index: int, phys: int, prot: int = 0x63, flags: int = 0) -> bytes:
    body = pages.payload(1, ("u32", index), ("u64", phys), ("u64", prot), flags=flags, pid=42)
    return pages.data_event(10, body)


def copy(index: int, from_phys: int = 1) -> bytes:
    values = (("u64", 0x1000), ("u32", 20), ("s32", from_phys), ("u32", index))
    return pages.data_event(10, pages.payload(2, *values))


def feed(made: Decoder, *read: bytes, cpu: int = 1) -> Events:
    return made.feed({cpu: bytearray(b"".join(read))})


def kinds(events: Events) -> list[str]:
    return [Kind(k).name for k in events["kind"]]


def test_setter_is_a_map_or_an_unmap_by_its_arguments() -> None:
    """If this fails, every unmap looks like a map of frame 0, or the reverse."""
    made, counters = decoder()
    records = (setter(IRQ, 0x5000), setter(IRQ, 0, 0), setter(NMI, 0, 0x63), setter(7, 0x9000))
    events = feed(made, pages.page(1_000, *records))
    assert kinds(events) == ["MAP", "UNMAP", "MAP"]
    assert events["slot"].tolist() == [0, 0, 1]
    assert events["phys"].tolist() == [0x5000, 0, 0]
    assert events["ts"].tolist() == [1_010, 1_020, 1_030]
    assert events["cpu"].tolist() == [1, 1, 1]
    assert events["pid"].tolist() == [42, 42, 42]
    assert events["point"].tolist() == [0, 0, 0]
    assert counters == {"read": 4, "kept": 3, "other": 1}


def test_every_field_of_the_plan_lands_in_its_column() -> None:
    """If this fails, sizes, frames or directions are wrong."""
    made, _ = decoder()
    events = feed(
        made,
        pages.page(
            0,
            copy(NMI),
            copy(IRQ, from_phys=0),
            pages.data_event(1, pages.payload(3, ("u64", 0x4000), ("u64", 0x7000))),
            pages.data_event(1, pages.payload(4, ("u64", 0x70001))),
            pages.data_event(1, pages.payload(5, ("s64", 2725))),
        ),
    )
    assert kinds(events) == ["COPY", "COPY", "INV_RANGE", "MAP", "NMI_REF"]
    assert events["flags"].tolist() == [0, Flag.WRITE, 0, 0, 0]
    assert events["size"].tolist() == [20, 20, 0x3000, 0, 2725]
    assert events["phys"].tolist() == [0x1000, 0x1000, 0, 0x70001000, 0]
    assert events["slot"].tolist() == [1, 0, NO_SLOT, 1, NO_SLOT]


@pytest.mark.parametrize(
    ("flags", "context", "irqs_off"),
    [
        (0x00, Context.TASK, 0),
        (0x01, Context.TASK, Flag.IRQS_OFF),
        (0x11, Context.SOFTIRQ, Flag.IRQS_OFF),
        (0x19, Context.IRQ, Flag.IRQS_OFF),
        (0x59, Context.NMI, Flag.IRQS_OFF),
        (0x84, Context.TASK, 0),
    ],
)
def test_context_is_the_innermost(flags: int, context: Context, irqs_off: int) -> None:
    """If this fails, NMI episodes are taken for the interrupted context's."""
    made, _ = decoder()
    events = feed(made, pages.page(0, setter(IRQ, 0x5000, flags=flags)))
    assert (int(events["ctx"][0]), int(events["flags"][0])) == (context, irqs_off)


def test_loss_stands_between_the_events_around_it() -> None:
    """If this fails, an overrun is placed where it can't hide the events that it hid."""
    made, counters = decoder()
    events = feed(
        made,
        pages.page(100, setter(IRQ, 0x1000), setter(IRQ, 0, 0))
        + pages.page(900, setter(7, 0), setter(IRQ, 0x2000), missed=30)
        + pages.page(2_000, missed=4),
    )
    assert kinds(events) == ["MAP", "UNMAP", "LOSS", "MAP", "LOSS"]
    first, last = events[2], events[4]
    assert (first["addr"], first["ts"], first["size"], first["cpu"]) == (120, 910, 30, 1)
    assert (last["addr"], last["ts"], last["size"]) == (920, 2_000, 4)
    assert first["aux"] == Cause.OVERRUN
    assert events["seq"].tolist() == [0, 1, 2, 33, 34]
    assert counters["lost:overrun"] == 34
    assert made.cpus[1].overrun == 34

    later = feed(made, pages.page(5_000, setter(IRQ, 0x3000), missed=7, stored=False))
    assert kinds(later) == ["LOSS", "MAP"]
    assert (later["addr"][0], later["ts"][0], later["size"][0]) == (920, 5_010, 0)
    assert later["seq"].tolist() == [38, 39]
    assert counters["uncounted losses"] == 1


def test_loss_before_the_first_event_reaches_back_to_the_start() -> None:
    """If this fails, events lost at the very start of a run are forgotten."""
    made, _ = decoder()
    events = feed(made, pages.page(500, setter(IRQ, 0x1000), missed=3))
    assert (events["addr"][0], events["ts"][0]) == (50, 510)


def test_slots_without_an_index_are_named_by_the_copy() -> None:
    """If this fails, a kernel without BTF shows no slot, or text pokes as slots."""
    made, counters = decoder((Slot("a", None, None, "report"), Slot("b", None, None, "report")))
    events = feed(
        made, pages.page(0, setter(3, 0x1000), copy(NMI), setter(NMI, 0x1000), copy(IRQ), copy(NMI))
    )
    assert kinds(events) == ["COPY", "MAP", "COPY", "COPY"]
    by_index = dict(zip([NMI, NMI, IRQ, NMI], events["slot"].tolist(), strict=True))
    assert sorted(by_index.values()) == [0, 1]
    assert events["slot"].tolist() == [by_index[i] for i in (NMI, NMI, IRQ, NMI)]
    assert counters["other"] == 1


def test_plan_of_another_kernel_is_refused() -> None:
    """If this fails, a field that the event lacks is read as garbage."""
    counters: Counter[str] = Counter()
    plan = Plan("x86_64", "test", SLOTS, (SETTER,))
    attached = [Attached(0, SETTER, pages.make_format(1, index="u32"))]
    made = Decoder(SlotTable(plan), attached, PageLayout(), 0, counters)
    with pytest.raises(InputError, match="phys"):
        feed(made, pages.page(0, setter(IRQ, 0)))


def test_cpus_of_one_read_are_kept_apart() -> None:
    """If this fails, losses, positions or stamps of one CPU leak into another's."""
    made, counters = decoder()
    for start in (1_000, 20_000):
        events = made.feed(
            {
                0: bytearray(pages.page(start, setter(IRQ, 0x1000), setter(IRQ, 0, 0))),
                3: bytearray(pages.page(start, setter(NMI, 0x2000), missed=5) + pages.page(9)),
                7: bytearray(pages.page(start + 500, missed=2)),
                9: bytearray(pages.page(start, setter(NMI, 0x3000))),
            },
            complete=start - 7,
        )
        assert events["cpu"].tolist() == [0, 0, 3, 3, 7, 9]
        assert kinds(events) == ["MAP", "UNMAP", "LOSS", "MAP", "LOSS", "MAP"]
        losses = events[events["kind"] == Kind.LOSS]
        assert losses["addr"].tolist() == [start - 7, start - 7]
        assert losses["ts"].tolist() == [start + 10, start + 500]
    assert events["seq"].tolist() == [2, 3, 6, 11, 2, 1]
    assert [made.cpus[cpu].overrun for cpu in (0, 3, 7, 9)] == [0, 10, 4, 0]
    assert counters["lost:overrun"] == 14
