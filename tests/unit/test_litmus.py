# SPDX-License-Identifier: Apache-2.0
"""The litmus cases: what the CPUs did, what the verdict must be, and why (tests/litmus)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ghesrace.checker.model import Class
from ghesrace.events import Cause, Context, Events, Kind
from tests.litmus.judge import differences, judged, judged_in_pieces, pieces
from tests.litmus.parse import CASES, Case, LitmusError, load, parse

FILES = sorted(CASES.glob("*.litmus"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    """A rule of DESIGN.md, or a published verdict, no longer holds; the file says which."""
    case = load(path)
    assert differences(case, judged(case)) == []


def stamps(case: Case) -> list[int]:
    """Every stamp (ns) of the case's events."""
    return sorted(set(case.stream["ts"][case.stream["kind"] < Kind.LOSS].tolist()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_case_in_pieces(path: Path) -> None:
    """What ghesrace says depends on when the ring buffers happened to be read."""
    case = load(path)
    whole, cut = judged(case), judged_in_pieces(case, *stamps(case))
    assert whole.slots == cut.slots
    assert (whole.verdict, whole.findings) == (cut.verdict, cut.findings)


def test_one_cut_changes_nothing() -> None:
    """A live source cuts its stream several times a second: each place gave another verdict."""
    case = load(CASES / "order-whatever-the-cut.litmus")
    words = {judged_in_pieces(case, stamp).verdict.word for stamp in stamps(case)}
    assert words == {case.expect}


def test_pieces_are_what_a_source_delivers() -> None:
    """The cuts lost events, changed a CPU's order, or promised what came later."""
    case = load(CASES / "early-stamp.litmus")
    parts = pieces(case.stream, *stamps(case))
    whole = np.concatenate([part[part["kind"] != Kind.MARK] for part in parts])
    for cpu in range(2):
        mine = [s["seq"][(s["cpu"] == cpu) & (s["kind"] < Kind.LOSS)] for s in (whole, case.stream)]
        assert mine[0].tolist() == mine[1].tolist()
    promised = 0
    for part in parts:
        events = part[part["kind"] != Kind.MARK]
        assert (events["ts"] >= promised).all()
        assert int(part["kind"][-1]) == Kind.MARK
        promised = int(part["ts"][-1])


def test_cases_cover_every_class_and_verdict() -> None:
    """Cases got lost, or a class or verdict is no longer tried by any."""
    cases = [load(path) for path in FILES]
    assert len(cases) >= 40
    tried = {cls for case in cases for slot in case.classes.values() for cls in slot}
    assert tried == {cls.name.lower().replace("_", "-") for cls in Class}
    assert {case.expect for case in cases} == {
        "clean",
        "inconclusive",
        "race-predicted",
        "race-observed",
    }
    assert sum(path.stem.startswith("herd-") for path in FILES) >= 20
    tried = {(name, severity) for case in cases for name, severity, *_ in case.findings}
    patterns = ("stale", "torn_edit", "shootdown")
    assert tried == {
        ("overlap", "observed"),
        *((p, s) for p in patterns for s in ("observed", "predicted")),
    }


HEAD = "about: a\nsource: b\nexpect: clean\n"


def read(text: str) -> Case:
    return parse(HEAD + text, Path("x.litmus"))


def events(case: Case) -> Events:
    return case.stream[case.stream["kind"] != Kind.MARK]


def test_clocks_and_machine_are_in_the_plan() -> None:
    """A case about clocks would be judged with others than it says."""
    plan = read(
        "arch: arm64\nclock-error: 5000\nclock-error CPU 1 CPU 0: 100\n"
        "clock-drift: 30\nCPU 0 | CPU 1\nback |\n"
    ).plan
    assert (plan.arch, plan.clock_error_ns, plan.clock_drift_ns) == ("arm64", 5000, 30)
    assert plan.pair_errors_ns == ((0, 1, 100),)
    default = read("CPU 0\nback\n").plan
    assert (default.pair_errors_ns, default.clock_drift_ns, default.contexts) == ((), 0, True)


def test_unknown_contexts_all_look_like_a_task() -> None:
    """A case without contexts would tell the checker what no such text can."""
    case = read("contexts: unknown\nCPU 0\nnmi notify\nmap A\nirq inv-all\nend\n")
    assert not case.plan.contexts
    assert set(events(case)["ctx"].tolist()) == {Context.TASK}


def test_what_was_not_recorded_only_takes_its_time() -> None:
    """A hidden event would be told to the checker, or its handler's events be a task's."""
    case = read("CPU 0\n(fill A)\n(nmi notify)\nmap A\n(unmap) @+5\ninvlpg\n(end)\nback\n")
    recorded = events(case)
    assert recorded["kind"].tolist() == [Kind.MAP, Kind.INV_PAGE, Kind.NMI_REF]
    assert recorded["ctx"].tolist() == [Context.NMI, Context.NMI, Context.TASK]
    assert (recorded["ts"] - 1_000_000).tolist() == [30_000, 40_005, 60_005]


def test_early_and_late_stamps_leave_the_order_alone() -> None:
    """A case about an NMI in a clock read would be about something else."""
    case = read("CPU 0\nback\nback @early 5000\nback @late 15000\nback\n")
    assert (events(case)["ts"] - 1_000_000).tolist() == [10_000, 15_000, 45_000, 40_000]
    assert events(case)["seq"].tolist() == [1, 2, 3, 4]


def test_windows_of_losses_are_told_apart() -> None:
    """Two counters that are read at different times would be one, or lose their begin."""
    case = read(
        "CPU 0\n-- lossy a\nback\n-- lossy\nback\n-- lost missed CPU 0 of invlpg count 2 since a\n"
        "back\n-- lost overrun\n-- lost missed of read since start\n"
    )
    lost = case.stream[case.stream["kind"] == Kind.LOSS]
    assert lost["aux"].tolist() == [Cause.MISSED, Cause.OVERRUN, Cause.MISSED]
    assert (lost["addr"] - 1_000_000).tolist() == [5_000, 15_000, 0]
    assert (lost["ts"] - 1_000_000).tolist() == [25_000, 35_000, 35_000]
    assert lost["size"].tolist() == [2, 0, 0]
    kinds = [case.plan.probes[int(p)].kind for p in lost["point"][[0, 2]]]
    assert kinds == ["INV_PAGE", "READ"]


def test_each_expectation_is_compared() -> None:
    """A case could say anything about causes, reasons or what was not checked, and pass."""
    case = load(CASES / "race-2015.litmus")
    assert differences(case, judged(case)) == []
    for change in (
        {"expect": "clean"},
        {"classes": {"irq": {"none": 2}}},
        {"causes": {"irq": {"start": 2}}},
        {"reasons": ["the moon"]},
        {"findings": [("stale", "observed", (1, 0), None, "")]},
        {"findings": [("stale", "observed", (0, 1), None, "write")]},
        {"harmless": {"another table": 1}},
        {"not_checked": ("overlap",)},
    ):
        assert len(differences(replace(case, **change), judged(case))) == 1, change


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "x.litmus:0: no line 'CPU 0 | CPU 1 ...'"),
        ("about: a\nsource: b\nCPU 0\n", "x.litmus:3: the header has no line 'expect'"),
        ("abuot: a\n", "x.litmus:1: 'abuot: a' is no header line"),
        ("about:\n", "x.litmus:1: 'about' says nothing"),
        (HEAD + "expect: clean\n", "x.litmus:4: 'expect' stands here twice"),
        ("about: a\nsource: b\nexpect: maybe\nCPU 0\n", "x.litmus:3: 'maybe' is none of"),
        (HEAD + "CPU 1\n", "x.litmus:4: column head 'CPU 1' should be 'CPU 0'"),
        (HEAD + "slot: irq line\nCPU 0\n", "x.litmus:4: 'line' is none of page, report"),
        (HEAD + "online: two\nCPU 0\nread\n", "x.litmus:4: 'two' is not a number"),
        (HEAD + "classes irq: non 1\nCPU 0\nread\n", "x.litmus:4: 'non' is none of"),
        (HEAD + "classes irq: none\nCPU 0\nread\n", "x.litmus:4: 'none' is not CLASS N"),
        (HEAD + "finding: CPU 0\nCPU 0\nread\n", "x.litmus:4: a finding is"),
        (HEAD + "CPU 0 | CPU 1\nread | read\n", "x.litmus:5: a line has one event"),
        (HEAD + "CPU 0\n | read\n", "x.litmus:5: a line has one event"),
        (HEAD + "CPU 0\nfrob\n", "x.litmus:5: 'frob' is none of notify"),
        (HEAD + "CPU 0\nnmi\n", "x.litmus:5: a context without an event"),
        (HEAD + "CPU 0\n@+5\n", "x.litmus:5: a time without an event"),
        (HEAD + "CPU 0\nmap\n", "x.litmus:5: 'map' takes 1 to 2 words, here are 0"),
        (HEAD + "CPU 0\nmap AB\n", "x.litmus:5: 'AB' is no frame"),
        (HEAD + "CPU 0\nmap A nmi\n", "x.litmus:5: 'nmi' is none of irq"),
        (HEAD + "CPU 0\ninvlpg irq+page\n", "x.litmus:5: '+page' is not a number"),
        (HEAD + "CPU 0\nend\n", "x.litmus:5: no handler runs here"),
        (HEAD + "CPU 0\nread @soon\n", "x.litmus:5: 'soon' is not a number"),
        (HEAD + "CPU 0\n-- lost overrun\n", "x.litmus:5: losses are"),
        (HEAD + "CPU 0\n-- lossy\nread\n-- lost mice\n", "x.litmus:7: 'MICE' is none of"),
        (HEAD + "CPU 0\n-- lost missed since a\n", "x.litmus:5: losses are"),
        (HEAD + "CPU 0\n-- lossy a b\n", "x.litmus:5: losses are"),
        (
            HEAD + "untraced: map\nCPU 0\n-- lost missed of map since start\n",
            "x.litmus:6: 'map' is",
        ),
        (HEAD + "CPU 0\n(frob)\n", "x.litmus:5: 'frob' is none of notify"),
        (HEAD + "CPU 0\n()\n", "x.litmus:5: a time without an event"),
        (HEAD + "CPU 0\nfill A\n", "x.litmus:5: 'fill' is none of notify"),
        (HEAD + "CPU 0\n(fill)\n", "x.litmus:5: 'fill' takes 1 to 2 words, here are 0"),
        (HEAD + "contexts: some\nCPU 0\nread\n", "x.litmus:4: 'some' is none of known, unknown"),
        (HEAD + "arch: vax\nCPU 0\nread\n", "x.litmus:4: 'vax' is none of x86_64, arm64"),
        (HEAD + "clock-error CPU 0: 5\nCPU 0\nread\n", "x.litmus:4: 'clock-error CPU 0' names no"),
        (HEAD + "clock-error CPU 0 CPU 1: 5\nCPU 0\nread\n", "x.litmus:4: 'clock-error CPU 0 CPU"),
        (HEAD + "because irq: moon 1\nCPU 0\nread\n", "x.litmus:4: 'moon' is none of start"),
        (HEAD + "because irq: start\nCPU 0\nread\n", "x.litmus:4: 'start' is not CAUSE N"),
        (HEAD + "not-checked: moon\nCPU 0\nread\n", "x.litmus:4: 'moon' is none of stale"),
        (HEAD + "CPU 0\nread @early\n", "x.litmus:5: '' is not a number"),
        (HEAD + "CPU 0\n-- lossy\nread\n", "x.litmus:6: '-- lossy' without '-- lost'"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, error: str) -> None:
    """Somebody who writes a case would get a traceback, or a case that tests nothing."""
    with pytest.raises(LitmusError) as raised:
        parse(text, Path("x.litmus"))
    assert str(raised.value).startswith(error)
