# SPDX-License-Identifier: Apache-2.0
"""Torn edits: what is told of them, and how many are counted; the rules are in tests/litmus."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ghesrace.checker.findings import Finding
from ghesrace.checker.patterns.torn_edit import OTHER_TABLE, SAME_TABLE, TornEdit
from ghesrace.checker.report import Report
from ghesrace.events import PAGE_SIZE, TABLE_SHIFT, Context, Kind
from ghesrace.plan import Plan, Slot
from tests.build.judging import judge
from tests.build.trace import STEP, A, Trace, V, batches, implying, plan

TABLE = 1 << TABLE_SHIFT


def torn(report: Report) -> list[Finding]:
    return [f for f in report.findings if f.pattern == "torn_edit"]


def interrupted(begin: int, size: int = PAGE_SIZE, trace: Trace | None = None) -> Trace:
    """An NMI maps and unmaps the slot while a task edits *size* bytes from *begin*."""
    trace = trace or Trace()
    trace.add(0, Kind.EDIT, Context.TASK, addr=begin, size=size)
    trace.page(0, A, ctx=Context.NMI, flush=True)
    trace.add(0, Kind.EDIT_END, Context.TASK)
    return trace


@pytest.mark.parametrize(
    ("begin", "size", "observed"),
    [
        (V, PAGE_SIZE, 2),
        (V - PAGE_SIZE, PAGE_SIZE, 0),  # ends where the slot begins
        (V - PAGE_SIZE, PAGE_SIZE + 1, 2),
        (V + PAGE_SIZE, PAGE_SIZE, 0),
        (V + PAGE_SIZE - 8, 8, 2),
        (V, 0, 0),  # no length is known: nothing is known to be touched
    ],
)
def test_the_entry_is_met_to_the_byte(begin: int, size: int, observed: int) -> None:
    """An edit that ends just before the slot would be a race, or one that reaches into it none."""
    assert judge(plan(), interrupted(begin, size).stream()).patterns["torn_edit"].observed == (
        observed
    )


@pytest.mark.parametrize("what", ["may-allocate", "may-free"])
def test_a_page_of_the_table_that_may_come_or_go(what: str) -> None:
    """A neighbour's edit that puts in or frees the very table would be called harmless."""
    near = interrupted(V + PAGE_SIZE).stream()
    assert judge(plan(), near).patterns["torn_edit"].harmless[SAME_TABLE] == 2
    report = judge(implying(plan(), "EDIT", what), near)
    assert [(f.severity, f.count) for f in torn(report)] == [("predicted", 1)] * 2  # map, unmap
    assert report.patterns["torn_edit"].harmless[SAME_TABLE] == 0


def test_tables_are_told_apart_at_their_border() -> None:
    """The next page-table page would be taken for the slot's own, or the slot's for another."""
    last = (V | (TABLE - 1)) + 1
    for begin, size, name in (
        (last, PAGE_SIZE, OTHER_TABLE),
        (last - PAGE_SIZE, PAGE_SIZE, SAME_TABLE),
        (last - PAGE_SIZE, 2 * PAGE_SIZE, SAME_TABLE),
    ):
        harmless = judge(plan(), interrupted(begin, size).stream()).patterns["torn_edit"].harmless
        assert {k: n for k, n in harmless.items() if n} == {name: 2}, hex(begin)


def test_the_witness_names_the_edit_its_symbol_and_both_contexts() -> None:
    """Nobody would know which function was torn."""
    base = plan()
    named = tuple(replace(p, symbol="vunmap") if "EDIT" in p.kind else p for p in base.probes)
    finding = torn(judge(replace(base, probes=named), interrupted(V).stream()))[0]
    assert (finding.cpus, finding.slot, finding.frames) == ((0, 0), "irq", None)
    texts = [(step.side, step.context, step.text) for step in finding.steps]
    assert texts[0] == (
        "x",
        "task",
        f"edits the page tables of {V:#x} to {V + PAGE_SIZE:#x} in vunmap",
    )
    assert texts[1][:2] == ("y", "nmi")
    assert texts[1][2] == f"maps {A:#x} at irq"
    assert texts[2:] == [("x", "task", "is done with that")]  # no end of the map is traced
    assert "CPU 0 (nmi) maps" in finding.explanation
    assert "it interrupted CPU 0 (task)" in finding.explanation


def test_repetitions_are_counted_in_one_finding() -> None:
    """A driver that edits for ever would fill the report."""
    trace = Trace()
    for _ in range(12):
        interrupted(V, trace=trace)
    report = judge(plan(), trace.stream())
    assert report.patterns["torn_edit"].observed == 24
    assert [f.count for f in torn(report)] == [12, 12]  # the map and the unmap
    assert {len(f.occurrences) for f in torn(report)} == {10}


def test_beside_it_within_the_clock_error_is_a_doubt() -> None:
    """Clocks that can't order two CPUs would make an observed torn edit of nothing."""

    def beside(error: int) -> Plan:
        return plan(error=error)

    trace = Trace()
    trace.add(1, Kind.EDIT, Context.TASK, addr=V, size=PAGE_SIZE)
    trace.add(1, Kind.EDIT_END, Context.TASK)
    trace.page(0, A, ctx=Context.NMI, flush=True)
    trace.add(0, Kind.NMI_REF, Context.TASK)
    apart = judge(beside(STEP // 10), trace.stream()).patterns["torn_edit"]
    assert (apart.observed, apart.predicted, apart.uncertain) == (0, 0, [])
    unsure = judge(beside(STEP * 10), trace.stream()).patterns["torn_edit"]
    assert unsure.observed == 0
    assert "may have met an edit can't be ordered" in unsure.uncertain[0]


def beside(apart: int = 0) -> Trace:
    """CPU 1 maps its slot while CPU 0 unmaps another, or so much (ns) later."""
    trace = Trace()
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.add(0, Kind.READ, addr=V)
    trace.add(0, Kind.UNMAP, slot=0)
    if apart:
        trace.add(0, Kind.INV_PAGE, addr=V)
        trace.now += apart
    trace.add(1, Kind.MAP, Context.NMI, phys=A, slot=1)
    trace.add(1, Kind.READ, Context.NMI, addr=V + PAGE_SIZE)
    trace.add(0, Kind.NMI_REF, Context.TASK)
    trace.add(1, Kind.UNMAP, Context.NMI, slot=1)
    trace.add(1, Kind.NMI_REF, Context.TASK)
    return trace


TWO = Slot("irq", 644, V, "report"), Slot("nmi", 643, V + PAGE_SIZE, "report")


@pytest.mark.parametrize("what", ["may-allocate", "may-free"])
def test_two_slots_are_written_beside_each_other(what: str) -> None:
    """A table that one map allocates while another CPU clears its neighbour would go unseen, or
    only in a live check, which gets the stream in pieces and forgets what is over meanwhile."""
    p = implying(plan(*TWO), "MAP", what)
    stream = beside().stream()
    for cut in range(len(stream)):
        found = [(f.severity, f.cpus, f.count) for f in torn(judge(p, *batches(stream, cut)))]
        assert found == [("predicted", (0, 1), 1)], cut
    assert judge(plan(*TWO), stream).findings == []


def test_two_slots_are_written_one_after_the_other() -> None:
    """Each two uses of two slots, however far apart, would be a doubt."""
    report = judge(implying(plan(*TWO), "MAP", "may-allocate"), beside(STEP * 100).stream())
    assert torn(report) == []
    assert not any("torn_edit" in reason for reason in report.reasons)


def test_slots_whose_addresses_are_unknown_have_a_table_by_family() -> None:
    """Two areas whose addresses nobody knows would be taken for neighbours in one table."""
    for family, name in (("a", SAME_TABLE), ("b", OTHER_TABLE)):
        slots = (
            replace(TWO[0], address=None, family="a"),
            replace(TWO[1], address=None, family=family),
        )
        trace = Trace()
        trace.add(0, Kind.MAP, phys=A, slot=0)
        trace.add(0, Kind.MAP, Context.NMI, phys=A, slot=1)
        trace.add(0, Kind.UNMAP, Context.NMI, slot=1)
        trace.add(0, Kind.UNMAP, slot=0)
        trace.add(0, Kind.NMI_REF, Context.TASK)
        assert judge(plan(*slots), trace.stream()).patterns["torn_edit"].harmless[name] > 0


def test_torn_edits_are_not_checked_without_contexts() -> None:
    """An NMI that looks like what it interrupted would make the verdict a false clean."""
    trace = Trace()
    trace.add(0, Kind.EDIT, Context.TASK, addr=V, size=PAGE_SIZE)
    trace.page(0, A, ctx=Context.TASK, flush=True)
    trace.add(0, Kind.EDIT_END, Context.TASK)
    report = judge(replace(plan(), contexts=False), trace.stream())
    assert not report.patterns["torn_edit"].checked
    assert any(reason.startswith("uncertain: torn_edit") for reason in report.reasons)
    known = judge(plan(), trace.stream())
    assert known.patterns["torn_edit"].checked


def test_a_prediction_is_something_that_happened() -> None:
    """Evidence of it would not be kept."""
    for field in ("observed", "_predicted", ""):
        made = TornEdit(plan())
        if field:
            setattr(made, field, 1)
        assert made.happened is bool(field)
