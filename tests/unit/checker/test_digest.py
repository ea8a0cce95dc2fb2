# SPDX-License-Identifier: Apache-2.0
"""What losses, PTI and bad files do to the kernel's own judgements."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from ghesrace.checker.core.facts import Facts
from ghesrace.checker.core.losses import Losses
from ghesrace.checker.core.words import NEVER
from ghesrace.checker.digest import Digest, Digested
from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Class, Why
from ghesrace.checker.report import Report, Verdict
from ghesrace.errors import InputError
from ghesrace.events import (
    MOST_AGAIN,
    Cause,
    Events,
    Kind,
    Sample,
    Trait,
    as_events,
    blank,
    loss,
    mark,
)
from ghesrace.plan import Plan, Probe
from ghesrace.sources.capture.file import CaptureSource
from tests.build.paths import FIXTURES
from tests.build.trace import A, B, plan

T = 5_000_000_000
PLAN = replace(plan(), summary=True)
MAP, UNMAP, INV_PAGE, INV_ALL, NOTIFY, READ = 0, 1, 2, 3, 6, 8  # probes of it
TICK = 1_000_000  # between two reads, ns; much more than the clock error


def judge(of: Plan, *batches: Events) -> Report:
    engine = Engine(of)
    for batch in batches:
        engine.feed(batch)
    engine.finish()
    return engine.report()


def record(kind: Kind, cpu: int = 0, **fields: int) -> Events:
    """One record of *cpu* at slot 0, stamped T, as part of a batch; an episode is *cpu*'s own."""
    made = blank(kind)
    made["ts"], made["cpu"], made["slot"] = T, cpu, 0
    if "mapper" in (made.dtype.names or ()):
        made["mapper"] = cpu
    for name, value in fields.items():
        made[name] = value
    return as_events(made)


def count(cls: Class, n: int, traits: int = 0, **fields: int) -> Events:
    return record(
        Kind.COUNT, **{"begin": T - 100, "cls": cls, "count": n, "traits": traits, **fields}
    )


def episode(traits: int) -> Events:
    return record(Kind.EPISODE, 1, begin=T - 100, end=T, frame=B, cls=Class.NONE, traits=traits)


def again(n: int, **fields: int) -> Events:
    return record(Kind.AGAIN, 1, **{"begin": T - 100, "count": n, "cls": Class.NONE, **fields})


THREAT = record(Kind.THREAT, 1, mapper=0, begin=T - 300, end=T - 200, frame=A)
NONE = episode(Trait.HANDOFF)


def judged(*records: Events, of: Plan = PLAN) -> Report:
    return judge(of, np.concatenate([*records, mark(T + 1)]))


def test_counts_and_episodes_are_added_up() -> None:
    """If this fails, a summary's numbers are not those of the full stream."""
    traits = int(Trait.HANDOFF | Trait.LATENT)
    report = judged(count(Class.MAP_FLUSH, 7, traits), count(Class.FRESH, 2), THREAT, NONE)
    [slot] = report.slots
    assert (slot.episodes, slot.handoffs, slot.latent) == (10, 8, 7)
    assert (slot.classes[Class.MAP_FLUSH], slot.classes[Class.NONE]) == (7, 1)
    assert report.verdict is Verdict.OBSERVED
    [finding] = report.findings
    assert (finding.cpus, finding.frames, finding.count) == ((0, 1), (A, B), 1)
    # Real stamps only: nothing that the kernel did not see is in the witness with a time.
    assert {s.ts for s in finding.steps} <= {None, T - 300, T - 200, T - 100, T}
    assert [s.n for s in finding.steps] == [2, 3, 4, 5, 7, 8, None]


def test_a_loss_makes_counts_and_episodes_uncertain() -> None:
    """If this fails, what a loss hid becomes clean, or a race."""
    lost = loss(T - 150, T - 50, Cause.MISSED, count=1, point=MAP)
    mine = loss(T - 150, T - 50, Cause.MISSED, cpu=1, count=1, point=INV_PAGE)
    lost = np.concatenate([lost, mine])
    report = judged(lost, count(Class.FRESH, 2), count(Class.FRESH, 3, Trait.FLUSHED), THREAT, NONE)
    assert report.slots[0].classes[Class.UNCERTAIN] == 3
    assert report.slots[0].classes[Class.FRESH] == 3
    assert report.verdict is Verdict.INCONCLUSIVE
    assert not report.findings


def test_a_lost_threat_is_no_witness() -> None:
    """If this fails, a finding has a made-up witness."""
    report = judged(NONE)
    assert report.slots[0].classes[Class.UNCERTAIN] == 1
    assert not report.findings


FIRST = episode(Trait.HANDOFF | Trait.FIRST)
AGAIN = again(5)


def test_repetitions_are_those_of_the_first() -> None:
    """If this fails, what was counted instead of recorded is missing from the report."""
    report = judged(THREAT, FIRST, AGAIN)
    [slot] = report.slots
    assert (slot.episodes, slot.handoffs, slot.classes[Class.NONE]) == (6, 6, 6)
    [finding] = report.findings
    assert (finding.cpus, finding.frames, finding.count) == ((0, 1), (A, B), 6)
    assert len(finding.occurrences) == 1  # the others' times are not known


def test_a_loss_since_the_first_makes_repetitions_uncertain() -> None:
    """If this fails, an invalidation that a loss hid is taken for none."""
    engine = Engine(PLAN)
    later = again(5, end=T + 500)
    first = THREAT, FIRST, count(Class.FRESH, 2), mark(T + 1)
    lost = loss(T + 300, T + 400, Cause.MISSED, count=1)
    for batch in (first, (lost, later, mark(T + 501))):
        engine.feed(np.concatenate(batch))
    engine.finish()
    [slot] = engine.report().slots
    assert (slot.classes[Class.NONE], slot.classes[Class.UNCERTAIN]) == (1, 5)
    assert judged(AGAIN).slots[0].classes[Class.UNCERTAIN] == 5  # of a first one that was lost


def test_repetitions_are_bounded() -> None:
    """If this fails, a hostile file of a few kilobytes takes gigabytes."""
    with pytest.raises(InputError, match="repeats more"):
        judged(THREAT, FIRST, *[again(MOST_AGAIN)] * 17)


def test_pti() -> None:
    """If this fails, a CR3 write that nobody sees is taken for a race."""
    report = judged(THREAT, NONE, of=replace(PLAN, pti=True))
    assert report.slots[0].classes[Class.UNCERTAIN] == 1


def test_samples_predict_and_losses_forbid_it() -> None:
    """If this fails, prediction needs the full stream, or believes what a loss touched."""
    fields = {"frame": A, "sample": Sample.EXPOSES, "call": 1}
    x = record(Kind.SAMPLE, 0, begin=T - 300, end=T - 200, **fields)
    fields = {"frame": B, "sample": Sample.VULNERABLE, "call": 1}
    y = record(Kind.SAMPLE, 1, begin=T - 100, end=T - 50, **fields)
    safe = count(Class.FRESH, 2)
    report = judged(x, y, safe)
    assert report.verdict is Verdict.PREDICTED
    assert report.findings[0].reordered
    lost = loss(T - 320, T - 310, Cause.MISSED, count=1)
    assert judged(lost, x, y, safe).verdict is Verdict.INCONCLUSIVE


def test_start_is_forgiven_once_the_cpu_was_judged() -> None:
    """If this fails, no summary is ever clean."""
    traits = int(Trait.STARTED | Trait.UNMAPPED)
    fields = {"cls": Class.UNCERTAIN, "traits": traits}
    start = record(Kind.EPISODE, begin=T - 90, end=T - 80, **fields)
    assert judged(start).verdict is Verdict.INCONCLUSIVE
    assert judged(start, count(Class.MAP_FLUSH, 1, cpu=1)).verdict is Verdict.INCONCLUSIVE
    report = judged(start, count(Class.MAP_FLUSH, 1))
    assert (report.verdict, report.slots[0].uncertain_at_start) == (Verdict.CLEAN, 1)


def lost(cpu: int, point: int, at: int = T - 150) -> Events:
    """One missed hit of a probe."""
    return loss(at, at + 100, Cause.MISSED, cpu=cpu, count=1, point=point)


def classes(report: Report) -> dict[str, int]:
    return {Class(cls).name: n for cls, n in enumerate(report.slots[0].classes) if n}


def window(number: int, cls: Class, n: int = 1, traits: int = 0) -> Events:
    """A count of one read's window, and that read's mark."""
    end = T + number * TICK
    counts = count(cls, n, traits, begin=end - TICK, end=end)
    return np.concatenate([counts, mark(end + 1)])


@pytest.mark.parametrize("cls", [Class.FRESH, Class.BROADCAST, Class.SAME_FRAME])
def test_a_loss_threatens_what_comes_after_its_window(cls: Class) -> None:
    """If this fails, a map that was missed just before the state was read threatens nobody, and
    the episode behind it is clean."""
    missed = lost(0, MAP, at=T - TICK // 2)
    report = judge(
        PLAN, missed, window(0, Class.FRESH), window(1, cls), window(2, Class.SAME_FRAME)
    )
    assert classes(report) == {"UNCERTAIN": 3}
    assert report.slots[0].uncertain[Why.LOSS] == 3


def test_an_own_flush_ends_what_a_loss_threatens() -> None:
    """If this fails, one missed hit makes every later episode of the host uncertain."""
    missed = lost(0, MAP, at=T - TICK // 2)
    flushed = window(1, Class.MAP_FLUSH, 1, Trait.FLUSHED)
    report = judge(PLAN, missed, window(0, Class.FRESH), flushed, window(2, Class.FRESH))
    assert classes(report) == {"UNCERTAIN": 1, "MAP_FLUSH": 1, "FRESH": 1}
    # Of two that are fresh, the second's flush came behind the first, and so behind the loss.
    fresh = [window(number, Class.FRESH) for number in range(4)]
    assert classes(judge(PLAN, missed, *fresh)) == {"UNCERTAIN": 3, "FRESH": 1}
    same = [window(number, Class.SAME_FRAME) for number in range(4)]
    assert classes(judge(PLAN, missed, *same)) == {"UNCERTAIN": 4}


def test_the_cut_of_a_file_changes_nothing() -> None:
    """If this fails, a loss of the file's end spoils its begin when it is read at once."""
    parts = [window(n, Class.FRESH) for n in range(6)]
    parts.insert(3, lost(0, MAP, at=T + 3 * TICK - TICK // 2))
    whole = judge(PLAN, np.concatenate(parts))
    assert classes(whole) == classes(judge(PLAN, *parts)) == {"FRESH": 3, "UNCERTAIN": 3}


def test_a_missed_handler_joins_two_holds() -> None:
    """If this fails, luck before the lock is taken for a flush of the hold, and is clean."""
    flushed = count(Class.MAP_FLUSH, 2, Trait.FLUSHED, cpu=1)
    assert classes(judged(lost(1, NOTIFY), flushed)) == {"UNCERTAIN": 2}
    assert classes(judged(lost(0, NOTIFY), flushed)) == {"MAP_FLUSH": 2}  # another CPU's


def test_a_missed_page_makes_two_episodes_one() -> None:
    """If this fails, the flush of a page that nobody saw is taken for that of the one before."""
    flushed = count(Class.MAP_FLUSH, 2, Trait.FLUSHED, cpu=1)
    overrun = {cpu: loss(T - 90, T - 10, Cause.OVERRUN, cpu=cpu, count=9) for cpu in (0, 1)}
    reference = loss(T - 90, T - 10, Cause.NMI_UNMATCHED, cpu=1, point=NOTIFY)
    assert classes(judged(overrun[1], flushed)) == {"UNCERTAIN": 2}
    assert classes(judged(reference, flushed)) == {"UNCERTAIN": 2}
    assert classes(judged(overrun[0], flushed)) == {"MAP_FLUSH": 2}
    for at, said in ((T - 201, "MAP_FLUSH"), (T - 200, "UNCERTAIN"), (T - 150, "UNCERTAIN"),
                     (T, "UNCERTAIN"), (T + 1, "MAP_FLUSH")):  # fmt: skip
        page = [lost(1, point, at) for point in (MAP, UNMAP, READ)]
        assert classes(judged(*page, flushed)) == {said: 2}


def test_an_unsafe_episode_stays_so_where_nothing_was_hidden() -> None:
    """If this fails, any missed hit turns a race into nothing."""
    for missed in (lost(0, INV_PAGE), lost(0, INV_ALL), lost(1, READ), lost(0, MAP)):
        assert judged(missed, THREAT, NONE).verdict is Verdict.OBSERVED
    for missed in (lost(1, INV_PAGE), lost(1, INV_ALL), lost(1, UNMAP), lost(1, MAP)):
        report = judged(missed, THREAT, NONE)
        assert (report.verdict, classes(report)) == (Verdict.INCONCLUSIVE, {"UNCERTAIN": 1})


def test_a_missed_access_leaves_open_whether_luck_came_in_time() -> None:
    """If this fails, what came behind the access is said to have saved it."""
    lucky = record(Kind.EPISODE, 1, begin=T - 100, end=T, frame=B, cls=Class.INCIDENTAL)
    assert classes(judged(THREAT, lucky)) == {"INCIDENTAL": 1}
    report = judged(lost(1, READ), THREAT, lucky)
    assert (report.verdict, classes(report)) == (Verdict.PREDICTED, {"UNCERTAIN": 1})


def test_what_is_safe_in_no_world_is_predicted() -> None:
    """If this fails, an episode that luck may have saved, or nothing, is only inconclusive."""
    fields = {"begin": T - 100, "end": T, "frame": B, "cls": Class.UNCERTAIN}
    unsafe = record(Kind.EPISODE, 1, traits=Trait.UNSAFE, **fields)
    assert judged(THREAT, unsafe).verdict is Verdict.PREDICTED
    assert judged(THREAT, record(Kind.EPISODE, 1, **fields)).verdict is Verdict.INCONCLUSIVE
    assert judged(unsafe).verdict is Verdict.INCONCLUSIVE  # the threat was lost


def test_a_sample_is_touched_until_its_hold_is_over() -> None:
    """If this fails, a missed broadcast behind the last unmap predicts a race."""
    fields = {"frame": A, "sample": Sample.EXPOSES, "call": 1, "ts": T + TICK}
    x = record(Kind.SAMPLE, 0, begin=T - 300, end=T - 200, **fields)
    fields = {"frame": B, "sample": Sample.VULNERABLE, "call": 1}
    y = record(Kind.SAMPLE, 1, begin=T - 100, end=T - 50, **fields)
    missed = lost(0, INV_ALL, at=T + TICK // 2)
    batch = [missed, x, y, window(1, Class.FRESH)]
    assert judge(PLAN, np.concatenate(batch)).verdict is Verdict.INCONCLUSIVE
    assert judge(PLAN, np.concatenate(batch[1:])).verdict is Verdict.PREDICTED


def test_a_summary_of_the_last_release_reads() -> None:
    """If this fails, evidence of last year says something else, or nothing. One of its episodes
    is uncertain now: its CPU missed a map between the threat and it."""
    source = CaptureSource(FIXTURES / "captures" / "0.1.0-summary.arrows")
    report = judge(source.plan, *source.batches())
    assert report.verdict is Verdict.OBSERVED
    irq, nmi = report.slots
    assert irq.classes == [3, 0, 25, 0, 1, 11, 0]
    assert nmi.classes == [0, 0, 3, 0, 0, 1, 5]
    assert (irq.handoffs, irq.latent, nmi.handoffs, nmi.latent) == (36, 35, 8, 2)
    assert [(f.severity, f.cpus, f.count) for f in report.findings] == [
        ("observed", (0, 1), 1),
        ("observed", (0, 1), 10),
        ("observed", (2, 0), 1),
        ("predicted", (0, 1), 1),
    ]


def test_a_summary_in_what_is_none_is_refused() -> None:
    """If this fails, a file or a map file can have its events taken for the kernel's judgements."""
    with pytest.raises(InputError, match="no summary"):
        judged(THREAT, NONE, of=plan())


def digested(*records: Events, of: Plan = PLAN, losses: Events | None = None) -> Digested:
    """What one step makes of records, beside these losses."""
    facts = Facts(of)
    known = Losses(facts)
    for one in losses if losses is not None else ():
        known.add(*(int(one[name]) for name in ("addr", "ts", "cpu", "size", "point", "aux")))
    digest = Digest(facts, known)
    digest.take(np.concatenate(records))
    return digest.step(NEVER)


def test_what_the_kernel_could_not_judge_has_a_cause() -> None:
    """What the start leaves open would never be forgiven, or an open order be."""
    for pti, started, unsafe, threat in product((False, True), repeat=4):
        traits = (Trait.STARTED if started else 0) | (Trait.UNSAFE if unsafe else 0)
        fields = {"begin": T - 100, "end": T, "frame": B, "traits": int(traits)}
        open_one = record(Kind.EPISODE, 1, cls=Class.UNCERTAIN, **fields)
        found = digested(*([THREAT] if threat else []), open_one, of=replace(PLAN, pti=pti))
        [(one, n)] = found.judged
        why = (Why.PTI if pti else Why.START) if started else Why.ORDER
        assert (n, one.cls, one.why) == (1, Class.UNCERTAIN, why)
        assert one.never_safe is (unsafe and threat)
        assert (one.threat is not None) is threat
    for cls in (Class.NONE, Class.INCIDENTAL):
        for traits in (0, Trait.STARTED, Trait.UNSAFE):
            fields = {"begin": T - 100, "end": T, "frame": B, "traits": int(traits)}
            [(one, _)] = digested(THREAT, record(Kind.EPISODE, 1, cls=cls, **fields)).judged
            assert (one.cls, one.why, one.never_safe) == (cls, Why.CERTAIN, False)


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("end", [0, T - 50])
def test_an_episode_is_what_its_record_says(writes: bool, end: int) -> None:
    """A witness would show another frame, CPU or stamp, or an unmap that nobody saw."""
    fields = {"begin": T - 100, "end": end, "frame": A, "ctx": 3, "call": 9, "mapper": 5}
    fields["traits"] = int(Trait.WRITES) if writes else 0
    [one] = digested(record(Kind.SAMPLE, 1, sample=Sample.EXPOSES, **fields)).samples
    made = one.episode
    hold = made.hold
    assert (hold.cpu, hold.ctx, hold.slot, hold.entry, hold.map_first) == (
        5,
        3,
        0,
        T - 100,
        T - 100,
    )
    assert (hold.in_handler, hold.bounded, hold.closed) == (True, True, True)
    assert hold.close == (end or T)
    assert hold.all() == [made]
    assert (made.frame, made.pid, made.writes, made.seq_entry) == (A, 0, writes, 9)
    assert (made.map_first, made.read_first, made.seq_map, made.read_seq) == (T - 100,) * 4
    assert (made.unmapped, made.unmap_first) == ((True, end) if end else (False, NEVER))
    assert made.index_last == -1
    assert made.rows is not None
    [events] = made.rows
    assert isinstance(events, np.ndarray)
    kinds = [(Kind.MAP, T - 100, A), (Kind.UNMAP, end, 0)][: 2 if end else 1]
    assert [(e["kind"], e["ts"], e["phys"]) for e in events] == kinds
    assert [int(e["seq"]) for e in events] == [ts for _, ts, _ in kinds]
    assert {(int(e["cpu"]), int(e["ctx"]), int(e["slot"])) for e in events} == {(5, 3, 0)}
    assert (one.exposes, one.vulnerable, one.bare, one.touched) == (True, False, False, False)


BCAST = len(PLAN.probes)  # one more probe
TELLS = replace(PLAN, probes=(*PLAN.probes, Probe("b", "BCAST_ALL", "b", "kprobe")))
LATE = 1_000_000_000  # by then what a loss hid is over


@pytest.mark.parametrize(
    ("cpu", "point", "at", "open_", "lucky"),
    [
        (0, BCAST, T - 150, True, True),  # of any CPU
        (1, BCAST, T - 150, True, True),
        (1, INV_PAGE, T - 150, True, True),
        (0, INV_PAGE, T - 150, False, False),
        (0, MAP, T - 150, False, True),  # a missed unmap's broadcast looks like luck
        (1, MAP, T - 150, True, True),
        (1, NOTIFY, T - 150, False, False),
        (1, INV_PAGE, T - 300 - 1000 - 100 - LATE, True, True),  # it may take effect late
        (1, INV_PAGE, T - 300 - 1001 - 100 - LATE, False, False),
        (0, BCAST, T - 300 - 1000 - 100 - LATE, True, True),
        (0, BCAST, T - 300 - 1001 - 100 - LATE, False, False),
        (1, MAP, T - 300 - 1000 - 100, True, True),
        (1, MAP, T - 300 - 1001 - 100, False, False),  # a map takes effect at once
        (1, MAP, T + 1000, True, True),
        (1, MAP, T + 1001, False, False),
        (1, READ, T - 150, False, True),  # luck may have come behind the access
        (0, READ, T - 150, False, False),
    ],
)
def test_which_losses_may_have_saved_an_episode(
    cpu: int, point: int, at: int, open_: bool, lucky: bool
) -> None:
    """A race would be told of a CPU that was saved; or none where nothing was hidden."""
    fields = {"begin": T - 100, "end": T, "frame": B}
    for cls, doubt in ((Class.NONE, open_), (Class.INCIDENTAL, lucky)):
        unsafe = record(Kind.EPISODE, 1, cls=cls, **fields)
        [(one, _)] = digested(THREAT, unsafe, of=TELLS, losses=lost(cpu, point, at)).judged
        assert one.cls == (Class.UNCERTAIN if doubt else cls)
        assert one.why == (Why.LOSS if doubt else Why.CERTAIN)
        assert one.never_safe is (doubt and point == READ)
        assert one.threat is not None


def test_pti_leaves_open_what_a_summary_calls_unsafe() -> None:
    """A CR3 write that nobody traces may have dropped it; luck remains luck."""
    fields = {"begin": T - 100, "end": T, "frame": B}
    for cls, said in (
        (Class.NONE, (Class.UNCERTAIN, Why.PTI, True)),
        (Class.INCIDENTAL, (Class.INCIDENTAL, Why.CERTAIN, False)),
    ):
        unsafe = record(Kind.EPISODE, 1, cls=cls, traits=int(Trait.LATENT), **fields)
        [(one, _)] = digested(THREAT, unsafe, of=replace(PLAN, pti=True)).judged
        assert (one.cls, one.why, one.never_safe) == said
        assert (one.latent, one.handoff) == (True, False)


def test_a_loss_that_hid_no_map_threatens_no_later_window() -> None:
    """A missed flush would make every count behind it uncertain."""
    at = T - TICK // 2
    for point, said in ((INV_PAGE, Class.FRESH), (READ, Class.FRESH), (MAP, Class.UNCERTAIN),
                        (UNMAP, Class.UNCERTAIN), (NOTIFY, Class.UNCERTAIN)):  # fmt: skip
        report = judge(PLAN, lost(0, point, at=at), window(0, Class.FRESH), window(1, Class.FRESH))
        assert classes(report) == {said.name: 2}


def test_a_window_that_a_loss_touches_is_uncertain_whatever_was_proven_since() -> None:
    """A count that began before the loss was over would be clean, as a later one proved another."""
    missed = lost(0, MAP, at=T - TICK // 2)
    flushed = [window(1, Class.MAP_FLUSH, 1, Trait.FLUSHED)]
    long = count(Class.FRESH, 5, begin=T - TICK, end=T + 2 * TICK)
    report = judge(PLAN, np.concatenate([missed, *flushed, long, mark(T + 3 * TICK)]))
    assert classes(report) == {"UNCERTAIN": 5, "MAP_FLUSH": 1}
    behind = window(2, Class.FRESH, 5)
    report = judge(PLAN, np.concatenate([missed, *flushed, behind]))
    assert classes(report) == {"FRESH": 5, "MAP_FLUSH": 1}


@pytest.mark.parametrize(("end", "touched"), [(-1001, False), (-1000, True), (0, True)])
def test_which_windows_a_loss_touches(end: int, touched: bool) -> None:
    """At the clocks' error from its begin it may have been in it."""
    begin = T + TICK
    missed = loss(begin + end - 10, begin + end, Cause.MISSED, cpu=0, count=1, point=MAP)
    seen = count(Class.FRESH, 1, begin=begin, end=begin + TICK)
    counts = [window(1, Class.FRESH, 2), seen]
    # Two that are fresh behind the loss would end what it threatens, but not in a window it meets.
    [*_, last] = digested(*counts, losses=missed).counts
    assert (last.cls, last.n) == (Class.UNCERTAIN, 1)
    third = count(Class.FRESH, 1, begin=begin + TICK, end=begin + 2 * TICK)
    seen = count(Class.FRESH, 2, begin=begin, end=begin + TICK)
    [*_, last] = digested(counts[0], seen, third, losses=missed).counts
    assert last.cls == (Class.UNCERTAIN if touched else Class.FRESH)


@pytest.mark.parametrize(("at", "until"), [(1000, True), (1001, False)])
def test_a_loss_behind_a_window_threatens_none_of_it(at: int, until: bool) -> None:
    """A live check, which has read fewer losses, would say another thing than a file."""
    missed = loss(T + at, T + at + 9, Cause.MISSED, cpu=0, count=1, point=MAP)
    [one] = digested(count(Class.FRESH, 2, end=T), losses=missed).counts
    assert one.cls == (Class.UNCERTAIN if until else Class.FRESH)


def test_which_losses_touch_a_sample_or_may_have_hidden_an_episode() -> None:
    """A prediction would rest on what nobody could have seen; or any missed hit forbid it, and
    leave each verdict open."""
    probes = (*TELLS.probes, Probe("e", "BCAST_END", "e", "kprobe"))
    sample = record(Kind.SAMPLE, begin=T - 300, end=T - 200, sample=Sample.EXPOSES)
    for point, kind in enumerate(probe.kind for probe in probes):
        found = digested(sample, of=replace(PLAN, probes=probes), losses=lost(0, point))
        untouched = kind in ("READ", "EDIT", "EDIT_END", "SHOOTDOWN")
        assert found.samples[0].touched is not untouched, kind
        assert found.hid is (kind in ("MAP", "UNMAP")), kind


def test_a_loss_that_may_have_hidden_an_episode_is_told() -> None:
    """A race of which nobody saw anything would be clean."""
    flushed = count(Class.MAP_FLUSH, 2, Trait.FLUSHED, cpu=1)
    for point, reasons in ((MAP, ["losses: missed"]), (UNMAP, ["losses: missed"]), (INV_PAGE, [])):
        assert judged(lost(0, point), flushed).reasons == reasons


def test_a_cpu_that_was_only_counted_took_notifications() -> None:
    """What one CPU alone leaves would be predicted to race on a CPU that takes none."""
    both = [
        record(Kind.SAMPLE, begin=T - at, frame=frame, sample=sample, call=at)
        for at, frame, sample in ((300, A, Sample.EXPOSES), (100, B, Sample.VULNERABLE))
    ]
    alone, beside = (count(Class.FRESH, 1, cpu=cpu) for cpu in (0, 1))
    assert judged(*both, alone).verdict is Verdict.PREDICTED
    assert judged(*both, beside).verdict is Verdict.CLEAN
