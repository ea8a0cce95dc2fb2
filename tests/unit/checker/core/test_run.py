# SPDX-License-Identifier: Apache-2.0
"""The one-pass core against the litmus cases, and the traps of its form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace import events
from ghesrace.checker import model
from ghesrace.checker.core import run, words
from ghesrace.checker.core.run import Core
from ghesrace.checker.engine import Engine
from ghesrace.checker.report import Report
from ghesrace.errors import InputError
from ghesrace.events import Cause, Kind
from ghesrace.plan import UNPROVEN_NS, Plan, Slot
from tests.build.modes import EDGES, both
from tests.build.trace import STEP, A, B, Trace, V, batches, plan
from tests.build.uncompiled import all_uncompiled
from tests.litmus.parse import CASES, load

FILES = sorted(CASES.glob("*.litmus"))


def judge(p: object, *parts: np.ndarray) -> Report:
    engine = Engine(p)  # type: ignore[arg-type]
    for part in parts:
        engine.feed(part)
    engine.finish()
    return engine.report()


def test_the_first_event_of_a_batch_may_tell_where_a_slot_is() -> None:
    """What invalidates the slot before its address is told again would be of another page."""
    unmap = Trace()
    unmap.add(0, Kind.UNMAP, addr=V, slot=0)
    core = Core(plan(Slot("irq", None, None, "page")))
    core.feed(unmap.records[0])
    assert (core.slots[0].known, core.slots[0].address) == (True, V)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    """A rule of DESIGN, or a published verdict, does not hold on the one-pass core."""
    case = load(path)
    report = judge(case.plan, case.stream)
    assert report.verdict.word == case.expect, report.reasons
    classes = {
        slot.name: {model.class_word(c): slot.classes[c] for c in model.Class if slot.classes[c]}
        for slot in report.slots
        if slot.episodes
    }
    assert classes == case.classes
    found = [(f.pattern, f.severity, f.cpus, f.frames, f.access) for f in report.findings]
    for pattern, severity, cpus, frames, access in case.findings:
        fits = [f for f in found if f[:3] == (pattern, severity, cpus)]
        assert any(frames in (None, f[3]) and access in ("", f[4]) for f in fits), found
    assert {f.pattern for f in report.findings} <= {n for n, *_ in case.findings} | {"stale"}
    for reason in case.reasons:
        assert any(reason in given for given in report.reasons), report.reasons
    harmless = report.patterns["torn_edit"].harmless
    assert {name: n for name, n in harmless.items() if n} == case.harmless


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_cut_changes_an_answer(path: Path) -> None:
    """A live check, which gets the stream in pieces, would not say what the file says."""
    case = load(path)
    whole = judge(case.plan, case.stream)
    for cut in range(1, len(case.stream)):
        parts = judge(case.plan, *batches(case.stream, cut))
        assert parts.verdict == whole.verdict, cut
        assert [s.classes for s in parts.slots] == [s.classes for s in whole.slots], cut
        assert [s.uncertain for s in parts.slots] == [s.uncertain for s in whole.slots], cut


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_witness_is_in_time_order(path: Path) -> None:
    """A reader would be told of an unmap behind the read that it came before."""
    for finding in judge(load(path).plan, load(path).stream).findings:
        stamps = [step.ts for step in finding.steps if step.ts is not None]
        assert finding.reordered or stamps == sorted(stamps)
        assert finding.steps


def test_the_cores_numbers_are_everybodys() -> None:
    """The core compares plain numbers: another order of an enum would change every answer."""
    for kind in Kind:
        assert getattr(words, f"K_{kind.name}", kind) == kind
    for cls in model.Class:
        assert getattr(words, cls.name) == cls
    for why in model.Why:
        assert getattr(words, why.name) == why
    for context in events.Context:
        assert getattr(words, context.name) == context
    assert Cause.NMI_UNMATCHED == 4


def test_what_the_core_remembers_does_not_grow() -> None:
    """A daemon would eat all memory: nothing may keep the episodes that are judged."""
    trace = Trace()
    for i in range(200):
        trace.report(i % 2, (A, B)[i % 2], flush=True)
    engine = Engine(plan())
    for part in batches(trace.stream(), *range(20, 3000, 20)):
        engine.feed(part)
    state = engine.core.slots[0]
    assert len(state.holds) + len(state.window) < 8
    cell = engine.core.reader.cpus[0].cells[0]
    assert cell.other_maybe.count <= 2
    assert all(one.hold.all() == [] for one in cell.other_maybe.all())
    assert all(one.before is None for one in cell.other_maybe.all())


def uses(trace: Trace, error: int) -> tuple[int, int, list[str], str]:
    """How many uses were not ordered, of how many episodes; the doubts; the verdict."""
    report = judge(plan(error=error), trace.stream())
    overlap = report.patterns["overlap"]
    n, m = overlap.harmless["not ordered"], report.slots[0].episodes
    return n, m, overlap.uncertain, report.verdict.word


def test_a_contended_lock_leaves_a_healthy_storm_clean() -> None:
    """On bare metal a lock changes hands in less than the clocks' error: if that were a doubt, no
    storm of errors would ever be called clean; if it were not counted, nobody could see it."""
    trace = Trace()
    for i in range(40):
        trace.report(i % 2, (A, B)[i % 2], flush=True)
    assert uses(trace, STEP * 6) == (40, 40, [], "clean")
    assert uses(trace, 0) == (0, 40, [], "clean")


def test_beside_a_sure_overlap_open_uses_are_a_doubt() -> None:
    """A lock that fails once may have failed wherever the clocks do not say otherwise."""
    trace = Trace()
    for i in range(4):
        trace.report(i % 2, A, flush=True)
    trace.now += STEP * 100
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.now += STEP * 20
    trace.add(1, Kind.MAP, phys=B, slot=0)
    trace.now += STEP * 20
    for cpu in (0, 1):
        trace.add(cpu, Kind.UNMAP, slot=0)
        trace.add(cpu, Kind.INV_PAGE, addr=V)
        trace.add(cpu, Kind.NMI_REF, events.Context.TASK)
    assert uses(trace, STEP * 6) == (
        4,
        6,
        ["not ordered: 4 of 6 uses of a slot"],
        "race-observed",
    )


@pytest.mark.parametrize(("behind", "n"), [("nothing", 0), ("end", 2), ("flush", 2)])
def test_a_map_behind_an_unmap_is_open_only_if_that_goes_on(behind: str, n: int) -> None:
    """An unmap's entry, far before another CPU's map, would be called over while its flush or its
    return comes behind that map; or every hand-off would be open."""
    trace = Trace()
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.add(0, Kind.READ, addr=V)
    trace.add(0, Kind.UNMAP, slot=0)
    if behind != "flush":
        trace.add(0, Kind.INV_PAGE, addr=V)
    if behind == "nothing":
        trace.add(0, Kind.UNMAP_END, slot=0)
    trace.now += STEP * 10
    trace.add(1, Kind.MAP, phys=B, slot=0)
    if behind == "flush":
        trace.add(0, Kind.INV_PAGE, addr=V)
    if behind == "end":
        trace.add(0, Kind.UNMAP_END, slot=0)
    trace.now += STEP * 10
    trace.add(1, Kind.UNMAP, slot=0)
    for cpu in (0, 1):
        trace.add(cpu, Kind.NMI_REF, events.Context.TASK)
    assert uses(trace, STEP * 2)[:2] == (n, 2)


def test_the_two_modes_are_two() -> None:
    """What compares them would compare one with itself."""
    engines = both("ghesrace.checker.engine")
    steps = [type(engine.Engine(plan()).core).feed for engine in engines]
    assert [isinstance(step, FunctionType) for step in steps] == [False, True]


def answers(p: object, stream: np.ndarray) -> tuple[object, object]:
    """What the compiled rule says of a stream, and what its source says."""
    said: list[object] = []
    for module in both("ghesrace.checker.engine"):
        engine = module.Engine(p)
        try:
            engine.feed(stream)
        except InputError as error:
            said.append(str(error))
            continue
        engine.finish()
        said.append(repr(engine.report()))  # each mode has its own classes
    return said[0], said[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_compiled_it_says_what_its_source_says(path: Path) -> None:
    """A fault of the compiler's types would judge, and tests of the source never see it."""
    case = load(path)
    compiled, source = answers(case.plan, case.stream)
    assert compiled == source


FIELDS = ("ts", "addr", "phys", "size", "seq", "pid")


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(FILES),
    st.lists(
        st.tuples(st.integers(0, 10_000), st.sampled_from(FIELDS), st.sampled_from(EDGES)),
        min_size=1,
        max_size=4,
    ),
)
def test_edges_of_64_bits_are_the_same_compiled(
    path: Path, changes: list[tuple[int, str, int]]
) -> None:
    """A sum or a sign that Python has and C has not would change the verdict of one host."""
    case = load(path)
    stream = case.stream.copy()
    for row, name, value in changes:
        at = stream[row % len(stream)]
        at[name] = value & np.iinfo(stream.dtype[name]).max
    compiled, source = answers(case.plan, stream)
    assert compiled == source


def assumed(
    trace: Trace, proven: int | None, error: int = 100, pti: bool = False
) -> tuple[int | None, list[object]]:
    """What the verdict assumes of the clocks, and what each finding does that was not reordered."""
    p = replace(plan(error=error), clock_proven_ns=proven, pti=pti)
    report = judge(p, trace.stream())
    found = [f.assumed_clock_ns for f in report.findings if not f.reordered]
    assert found, report
    for cut in range(1, len(trace.stream())):
        parts = judge(p, *batches(trace.stream(), cut)).findings
        assert [f.assumed_clock_ns for f in parts if not f.reordered] == found, cut
    return report.assumed_clock_ns, found


def test_a_race_says_whether_it_rests_on_an_assumed_clock_error() -> None:
    """A host that is too busy to prove its clocks would be told of a race as if it had; or each
    race there would be doubted, though the two CPUs were far enough apart."""
    trace = Trace()
    trace.report(0, A)
    trace.now += STEP * 1000
    trace.report(1, A)
    trace.now += STEP * 50
    trace.report(0, B)
    for pti in (False, True):  # which makes it one that no world saves
        assert assumed(trace, None, pti=pti) == (None, [None])
        assert assumed(trace, STEP * 40, pti=pti) == (100, [None])
        assert assumed(trace, STEP * 100, pti=pti) == (100, [100])
        assert assumed(trace, UNPROVEN_NS, pti=pti) == (100, [100])


def test_a_race_that_was_asked_of_the_proven_bound_leaves_the_assumed_one() -> None:
    """Behind the first race of a host with unproven clocks every close hand-off would be open."""
    trace = Trace()
    trace.report(0, A)
    trace.now += STEP * 1000
    trace.report(1, B)
    trace.report(0, A)
    p = replace(plan(error=100), clock_proven_ns=STEP * 40)
    (slot,) = judge(p, trace.stream()).slots
    assert slot.classes[model.Class.NONE] == 2


def test_unknown_cpus_may_not_have_been_shot_down() -> None:
    """Where a trace does not say which CPUs there were, one flush would be taken for that of all
    others: a false clean."""
    trace = Trace()
    trace.report(0, A)
    trace.add(1, Kind.INV_PAGE, events.Context.TASK, addr=V)
    trace.add(1, Kind.NMI_REF, events.Context.TASK)
    trace.report(1, B)
    (slot,) = judge(plan(cpus=0), trace.stream()).slots
    assert slot.classes[model.Class.BROADCAST] == 0
    assert slot.classes[model.Class.INCIDENTAL] == 1


def test_luck_within_the_proven_bound_is_assumed_away() -> None:
    """A broadcast that only the assumed bound puts behind the read may have saved it."""
    trace = Trace()
    trace.report(0, A)
    trace.now += STEP * 1000
    trace.report(1, A)
    trace.now += STEP * 1000
    trace.report(0, B)
    trace.now += STEP * 40
    trace.add(2, Kind.BCAST_RANGE, events.Context.TASK, addr=V, size=4096)
    trace.add(2, Kind.BCAST_END, events.Context.TASK)
    trace.now += STEP * 1000
    assert assumed(trace, STEP * 20) == (100, [None])
    assert assumed(trace, STEP * 100) == (100, [100])


@pytest.mark.parametrize("inner", [0, 1])
def test_an_overlap_and_a_torn_edit_say_what_they_assume(inner: int) -> None:
    """A lock, or an edit, would be called broken where only assumed clocks say so."""
    trace = Trace()
    if inner:
        trace.add(0, Kind.EDIT, events.Context.TASK, addr=V, size=4096)
    else:
        trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.now += STEP * 20
    trace.report(1, B, flush=True)
    trace.now += STEP * 20
    if inner:
        trace.add(0, Kind.EDIT_END, events.Context.TASK, addr=V, size=4096)
    else:
        trace.add(0, Kind.UNMAP, slot=0)
        trace.add(0, Kind.NMI_REF, events.Context.TASK)
    said, found = assumed(trace, STEP * 15)
    assert (said, set(found)) == (100, {None})
    said, found = assumed(trace, STEP * 60)
    assert (said, set(found)) == (100, {100})


def test_a_hold_without_an_end_is_given_up_after_a_second() -> None:
    """A live check would wait for ever, and remember all that came since."""
    core, trace = Core(plan()), Trace()
    trace.add(0, Kind.NOTIFY)
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.add(0, Kind.READ, addr=V)
    core.feed(trace.stream())
    assert len(core.slots[0].holds) == 1
    core.feed(events.mark(trace.now + 3 * words.FORCE_CLOSE_NS))
    assert core.slots[0].holds == []
    assert core.reader.cpus[0].levels[events.Context.IRQ].places[0].hold is None


def test_flushes_that_answer_no_unmap_are_forgotten() -> None:
    """Each flush of the page outside of a use would be kept for as long as a live check runs."""
    core, trace = Core(plan()), Trace()
    for _ in range(50):
        trace.add(1, Kind.INV_PAGE, events.Context.TASK, addr=V)
        trace.add(1, Kind.NMI_REF, events.Context.TASK)
        trace.now += words.FORCE_CLOSE_NS
    core.feed(trace.stream())
    assert len(core.slots[0].shots) <= 1


def test_a_loss_may_be_told_behind_the_unmap_that_it_hid() -> None:
    """A map without an unmap would be one that no loss explains, because its loss was told within
    the clock error of the mark."""
    trace = Trace()
    for kind in (Kind.NOTIFY, Kind.COPY):
        trace.add(0, kind)
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.add(0, Kind.INV_PAGE, addr=V)
    trace.add(0, Kind.READ, addr=V)
    trace.add(0, Kind.COPY_END)
    over = trace.now
    first = np.concatenate([*trace.records, events.mark(over - 500)])
    late = Trace(over)
    late.lose(over - 200, over + 200, cause=Cause.MISSED, cpu=0, count=1, point=1)
    late.add(0, Kind.NOTIFY_END)
    report = judge(plan(), first, late.stream())
    assert not any("without an unmap" in reason for reason in report.reasons), report.reasons


def test_a_return_that_names_no_slot_is_that_of_all() -> None:
    """A flush that was over when the map function returned might have come behind the access."""
    p = plan()
    p = replace(p, probes=(*(x for x in p.probes if x.kind not in ("READ", "WRITE")),))
    trace = Trace()
    trace.add(0, Kind.NOTIFY, point=events.NO_POINT)
    trace.add(0, Kind.MAP, phys=A, slot=0, point=0)
    trace.add(0, Kind.INV_PAGE, addr=V, point=events.NO_POINT)
    trace.add(0, Kind.MAP_END, slot=-1)
    trace.add(0, Kind.UNMAP, slot=0, point=1)
    trace.add(0, Kind.NMI_REF, events.Context.TASK)
    (slot,) = judge(p, trace.stream()).slots
    assert slot.classes[model.Class.MAP_FLUSH] == 1


@pytest.mark.parametrize("name", ["fix-flush-on-map", "prediction-with-fix", "nmi-in-irq-with-fix"])
def test_a_slot_that_only_its_accesses_show_is_as_good_as_a_known_one(name: str) -> None:
    """Where nothing tells fixmap addresses (no vsyscall page), the flush of the first map came
    before the access that shows the page, and was none: a false race on a healthy kernel."""
    case = load(CASES / f"{name}.litmus")
    unknown = replace(
        case.plan, slots=tuple(replace(slot, address=None) for slot in case.plan.slots)
    )
    stream = case.stream.copy()
    stream["slot"][np.isin(stream["kind"], (Kind.READ, Kind.WRITE, Kind.INV_PAGE))] = -1
    stream["addr"][np.isin(stream["kind"], (Kind.MAP, Kind.UNMAP, Kind.NOTIFY, Kind.COPY))] = 0
    # As rings are read: one CPU's events behind the other's.
    order = np.argsort(np.where(stream["kind"] == Kind.MARK, 2**15, stream["cpu"]), kind="stable")
    engine = Engine(unknown)
    engine.feed(stream[order])
    engine.finish()
    report = engine.report()
    assert report.verdict.word == case.expect
    assert [slot.classes for slot in report.slots] == [
        slot.classes for slot in told(case.plan, case.stream).slots
    ]


def told(plan_: Plan, stream: events.Events) -> Report:
    engine = Engine(plan_)
    engine.feed(stream)
    engine.finish()
    return engine.report()


def test_an_address_that_the_plan_tells_is_not_learnt_anew() -> None:
    """An event of another page that names the slot would move it; and what one slot shows be taken
    for another's."""
    slots = plan().slots[0], Slot("vm", 1, None, "report"), Slot("other", 2, None, "report")
    core, trace = all_uncompiled(run).Core(replace(plan(), slots=slots)), Trace()
    trace.add(0, Kind.INV_PAGE, slot=0, addr=0x1000)
    trace.add(0, Kind.INV_PAGE, slot=1, addr=0x5123)
    trace.add(0, Kind.INV_PAGE, slot=1, addr=0x7000)
    core.learn(trace.stream())
    assert [(s.known, s.address) for s in core.slots] == [(True, V), (True, 0x5000), (False, 0)]
    assert core.unknown
    trace.add(0, Kind.INV_PAGE, slot=2, addr=0x9FFF)
    trace.add(0, Kind.INV_PAGE, slot=1, addr=0x3000)
    core.learn(trace.stream())
    assert [s.address for s in core.slots] == [V, 0x5000, 0x9000]
    assert not core.unknown


@pytest.mark.parametrize(
    ("kinds", "at"),
    [
        ("m0 r", 1),
        ("m0 w", 1),
        ("m1 r", -1),
        ("r m0", -1),
        ("m0 u0 r", -1),
        ("m0 u0 m0 r", 3),
        ("m0 m1 r", -1),  # of either
        ("m0 m0 r", -1),
        ("m0 m1 u0 m0 r", 4),
        ("m1 u1 m0 r r", 3),
        ("m0 other r r", 2),
        ("m0 high r", 2),
        ("m0 named r", 2),
    ],
)
def test_the_access_that_shows_where_a_slot_is(kinds: str, at: int) -> None:
    """A slot would be looked for at another one's page, and every flush of its own be luck."""
    trace = Trace()
    for kind in kinds.split():
        if kind[0] in "mu":
            trace.add(0, Kind.MAP if kind[0] == "m" else Kind.UNMAP, slot=int(kind[1]))
        elif kind == "other":
            trace.add(1, Kind.READ, addr=V, slot=-1)
        elif kind == "high":
            trace.add(0, Kind.READ, events.Context.NMI, addr=V, slot=-1)
        elif kind == "named":
            trace.add(0, Kind.READ, addr=V, slot=1)
        else:
            trace.add(0, Kind.READ if kind == "r" else Kind.WRITE, addr=V, slot=-1)
    assert all_uncompiled(run).accessed(trace.stream(), 0) == at
