# SPDX-License-Identifier: Apache-2.0
"""Overlap: what it tells of a lock that fails; when one does is in tests/litmus."""

from __future__ import annotations

from ghesrace.events import PAGE_SIZE, Context, Kind
from ghesrace.plan import Slot
from tests.build.judging import judge
from tests.build.trace import STEP, A, B, C, Trace, V, plan

IRQ, NMI = Context.IRQ, Context.NMI


def crowd(
    trace: Trace, frame: int = A, slot: int = 0, ctxs: tuple[Context, Context] = (IRQ, IRQ)
) -> Trace:
    """CPU 1 maps the slot while CPU 0 is in it."""
    trace.add(0, Kind.MAP, ctxs[0], phys=frame, slot=slot)
    trace.add(1, Kind.MAP, ctxs[1], phys=B, slot=slot)
    for cpu in (0, 1):
        trace.add(cpu, Kind.UNMAP, ctxs[cpu], slot=slot)
        trace.add(cpu, Kind.INV_PAGE, ctxs[cpu], addr=0)
        trace.add(cpu, Kind.NMI_REF, Context.TASK)
    return trace


def test_the_witness_shows_both_uses_in_time_order() -> None:
    """The reader could not see that one use lies in the other."""
    [finding] = [
        f for f in judge(plan(), crowd(Trace()).stream()).findings if f.pattern == "overlap"
    ]
    assert (finding.severity, finding.cpus, finding.frames) == ("observed", (0, 1), (A, B))
    steps = [(step.side, step.cpu, step.event) for step in finding.steps]
    assert steps == [("x", 0, "map"), ("y", 1, "map"), ("x", 0, "unmap"), ("y", 1, "unmap")]
    stamps = [step.ts for step in finding.steps]
    assert stamps == [1_000_000 + STEP * n for n in (1, 2, 3, 6)]
    assert "CPU 1 (irq) mapped the slot while CPU 0 (irq) was still in it" in finding.explanation
    [occurrence] = finding.occurrences
    assert (occurrence.ts_map, occurrence.ts_unmap) == (stamps[1], stamps[3])


def test_a_use_whose_unmap_was_not_seen_has_no_stamp_of_one() -> None:
    """The stamp of its access would be told as that of its unmap."""
    trace = Trace()
    trace.add(0, Kind.MAP, IRQ, phys=A, slot=0)
    trace.add(1, Kind.MAP, IRQ, phys=B, slot=0)
    trace.add(1, Kind.READ, IRQ, addr=V)
    trace.add(0, Kind.UNMAP, IRQ, slot=0)
    [finding] = [f for f in judge(plan(), trace.stream()).findings if f.pattern == "overlap"]
    [occurrence] = finding.occurrences
    assert occurrence.ts_unmap is None


def test_meetings_of_the_same_frames_are_one_finding() -> None:
    """A lock that fails a thousand times would fill the report, or be counted once."""
    trace = Trace()
    for frame in (A, A, C):
        crowd(trace, frame)
    report = judge(plan(), trace.stream())
    found = {f.frames: f.count for f in report.findings if f.pattern == "overlap"}
    assert found == {(A, B): 2, (C, B): 1}
    assert report.patterns["overlap"].observed == 3
    assert report.patterns["overlap"].predicted == 0


def test_meetings_in_two_slots_or_contexts_are_two_findings() -> None:
    """The lock of one slot would look sound, or an NMI that takes no lock."""
    slots = [Slot(name, n, V + PAGE_SIZE * n, "report") for n, name in enumerate("ab")]
    trace = Trace()
    for slot, ctxs in ((0, (IRQ, IRQ)), (1, (IRQ, IRQ)), (1, (IRQ, NMI)), (1, (IRQ, IRQ))):
        crowd(trace, slot=slot, ctxs=ctxs)
    found = [f for f in judge(plan(*slots), trace.stream()).findings if f.pattern == "overlap"]
    said = {(f.slot, f.steps[1].context): f.count for f in found}
    assert said == {("a", "irq"): 1, ("b", "irq"): 2, ("b", "nmi"): 1}
    assert len(found) == 3


def test_what_the_clocks_can_not_order_is_no_doubt_while_the_lock_holds() -> None:
    """A contended lock on bare metal would make each healthy storm inconclusive."""
    trace = Trace()
    for cpu in (0, 1):
        trace.report(cpu, A, flush=True)
    result = judge(plan(error=STEP * 50), trace.stream()).patterns["overlap"]
    assert (result.observed, result.uncertain) == (0, [])
