# SPDX-License-Identifier: Apache-2.0
"""The oracle itself, and the checker's agreement with it on the small traces (tests/oracle).

`python -m tests.oracle` compares the larger ones, in minutes.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from ghesrace.checker.engine import Engine
from ghesrace.checker.findings import Step
from ghesrace.events import Context, Kind
from tests.build.trace import A, B, Trace, plan
from tests.oracle import compare, stream
from tests.oracle.__main__ import eight_steps, show_steps
from tests.oracle.compare import disagreement, oracle, predicted, witness_reaches_stale
from tests.oracle.machine import counterexample, reachable, replay
from tests.oracle.programs import CONFIGURATIONS, QUICK, Configuration, traces
from tests.oracle.protocol import PROTOCOLS, Op, notification
from tests.oracle.traces import canonical, interleavings

RACY = PROTOCOLS[0]


def two_cpus(protocol: object, frames: str = "AB") -> tuple[tuple[Op, ...], ...]:
    return tuple(
        notification(protocol, cpu, 0, frame, f"c{cpu}")  # type: ignore[arg-type]
        for cpu, frame in enumerate(frames)
    )


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=str)
def test_checker_agrees_with_the_oracle(config: Configuration) -> None:
    """A verdict, a class or a witness of the checker is wrong, or the oracle is: read DESIGN.md."""
    small = list(traces(config, QUICK))
    assert len(small) >= 10
    small = small[:: max(1, len(small) // 20)]  # all of them: python -m tests.oracle
    wrong = [
        (text, [f"{op.cpu}:{op.what}{op.frame}" for op in trace])
        for trace in small
        if (text := disagreement(trace, config.protocol, config.cpus, config.slots))
    ]
    assert not wrong, f"{len(wrong)} of {len(small)}, the first: {wrong[0]}"


def test_the_shortest_counterexample_is_the_eight_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """The machine does not do what DESIGN.md calls the race."""
    assert [number for number, _, _ in eight_steps() if number] == [1, 2, 3, 4, 5, 6, 7, 8]
    show_steps()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    left, right = (line for line in lines if line.startswith((" 2.", " 7.")))
    assert left.index("maps") < right.index("maps")


@pytest.mark.parametrize("protocol", PROTOCOLS[2:], ids=lambda protocol: protocol.name)
def test_every_fix_leaves_no_counterexample(protocol: object) -> None:
    """The oracle would call a fixed kernel racy, or the fix were none."""
    assert counterexample(two_cpus(protocol), protocol) is None  # type: ignore[arg-type]
    assert not reachable(two_cpus(protocol), protocol, 1)  # type: ignore[arg-type]


def test_step_by_step_and_set_by_set_agree() -> None:
    """The sets of possible TLB contents would reach more, or less, than single fills do."""
    for protocol in PROTOCOLS:
        for frames in ("AB", "AA"):
            program = two_cpus(protocol, frames)
            found = counterexample(program, protocol) is not None
            assert found == bool(reachable(program, protocol, 1)), (protocol.name, frames)


def test_a_trace_stands_for_its_whole_class() -> None:
    """One order of commuting events would be compared, and another have another answer."""
    program = two_cpus(RACY)
    every = set(interleavings(program, commute=False))
    least = set(interleavings(program, commute=True))
    assert least < every
    assert len(every) > 10 * len(least)
    answers = {oracle(trace, RACY, 2, 1).episodes for trace in every}
    assert answers == {oracle(trace, RACY, 2, 1).episodes for trace in least}
    assert {canonical(trace) for trace in every if trace[0].cpu == 1} == {
        canonical(trace) for trace in every if trace[0].cpu == 0
    }


def test_an_effect_comes_after_its_stamp() -> None:
    """A lucky flush between a read's stamp and the read would be taken for sure or for no help."""
    first, second = two_cpus(RACY)
    read = [op.what for op in second].index("read")
    luck = Op(1, "luck", "nmi", call="luck")
    for at, stale in ((read, "no"), (read + 1, "maybe"), (read + 2, "yes")):
        trace = (*first, *second[:at], luck, *second[at:])
        assert [seen.stale for seen in replay(trace, RACY, 2, 1)] == ["no", stale]


def test_luck_in_a_task_can_be_interrupted_before_it_works() -> None:
    """An IRQ between a flush's stamp and the flush reads a stale entry all the same."""
    first, second = two_cpus(RACY)
    luck, tick = Op(1, "luck", "task", call="t"), Op(1, "tick", "task", call="t")
    for middle, stale in (((luck,), "maybe"), ((luck, tick), "no"), ((tick,), "yes")):
        trace = (*first, *middle, *second)
        assert [seen.stale for seen in replay(trace, RACY, 2, 1)] == ["no", stale]


def test_one_notification_is_never_on_two_cpus() -> None:
    """Two pages of one notification would be predicted to race with each other."""
    alone = (notification(RACY, 0, 0, "AB", "c0"), ())
    assert not predicted(alone, RACY, 1)
    both = (notification(RACY, 0, 0, "A", "c0") + notification(RACY, 0, 0, "B", "c1"), ())
    assert predicted(both, RACY, 1)
    assert not predicted(both[:1], RACY, 1)


def test_a_wrong_checker_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison would pass whatever the checker says."""
    arm64 = PROTOCOLS[-1]
    trace = (*two_cpus(arm64)[0], *two_cpus(arm64)[1])
    assert disagreement(trace, arm64, 2, 1) is None
    # A checker that does not know that arm64's unmap broadcasts.
    monkeypatch.setattr(compare, "_plan", lambda _, cpus, slots: stream.plan(RACY, cpus, slots))
    text = disagreement(trace, arm64, 2, 1)
    assert text is not None
    assert "the checker Answer(verdict='race-observed'" in text


def test_the_witness_of_a_lucky_run_reaches_a_stale_read() -> None:
    """A prediction would be shown with an order in which nothing goes wrong."""
    trace = Trace()
    for i in range(4):
        trace.report(i % 2, (A, B)[i % 2])
        for cpu in (0, 1):  # an unrelated flush everywhere: no read was stale
            trace.add(cpu, Kind.INV_ALL, Context.TASK)
            trace.add(cpu, Kind.NMI_REF, Context.TASK)
    engine = Engine(plan())
    engine.feed(trace.stream())
    engine.finish()
    report = engine.report()
    assert (report.verdict.word, report.patterns["stale"].observed) == ("race-predicted", 0)
    assert report.findings
    assert all(witness_reaches_stale(finding) for finding in report.findings)
    # It is the order that does it: with a flush on map none reaches anything.
    fixed = [replace(f, steps=_with_flush_on_map(f.steps)) for f in report.findings]
    assert not any(witness_reaches_stale(finding) for finding in fixed)


def _with_flush_on_map(steps: list[Step]) -> list[Step]:
    made = []
    for step in steps:
        made.append(step)
        if step.event == "map":
            made.append(replace(step, event="inv_page"))
    return made
