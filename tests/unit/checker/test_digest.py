# SPDX-License-Identifier: Apache-2.0
"""What losses, PTI and bad files do to the kernel's own judgements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Class
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
from ghesrace.plan import Plan
from tests.build.judging import judge
from tests.build.trace import A, B, plan

T = 5_000_000_000
PLAN = replace(plan(), summary=True)


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
    lost = loss(T - 150, T - 50, Cause.MISSED, count=1)
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


@pytest.mark.parametrize(
    "bad",
    [
        count(Class.NONE, 1),
        count(Class.FRESH, 1, begin=T + 1),
        count(Class.FRESH, 2**63),
        record(Kind.EPISODE, cls=Class.FRESH),
        record(Kind.EPISODE, cls=77),
        record(Kind.EPISODE, cls=Class.NONE, begin=2**63),
        record(Kind.EPISODE, cls=Class.NONE, end=2**63),
        again(MOST_AGAIN + 1),
        again(1, begin=2**63),
        record(Kind.SAMPLE, sample=9),
        record(Kind.SAMPLE, end=2**63),
        record(Kind.THREAT, slot=-1),
        record(Kind.THREAT, begin=2**63),
    ],
)
def test_nonsense_is_refused(bad: Events) -> None:
    """If this fails, a damaged file crashes the checker or changes its verdict."""
    with pytest.raises(InputError, match="summary"):
        judged(bad)


def test_a_summary_in_what_is_none_is_refused() -> None:
    """If this fails, a file or a map file can have its events taken for the kernel's judgements."""
    with pytest.raises(InputError, match="no summary"):
        judged(THREAT, NONE, of=plan())
