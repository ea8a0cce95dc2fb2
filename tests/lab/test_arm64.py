# SPDX-License-Identifier: Apache-2.0
"""A stock arm64 kernel: every notification that can be had, taken on both CPUs; and its plan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from difflib import SequenceMatcher
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from ghesrace import cli, compiled
from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Class, Judged
from ghesrace.checker.report import Report, Verdict
from ghesrace.events import Context, Events, Kind
from ghesrace.host.facts import Facts, read_facts
from ghesrace.planning.resolve import resolve
from ghesrace.sources.bpf.source import BpfSource
from ghesrace.sources.capture.file import CaptureSource
from ghesrace.sources.ftrace.source import FtraceSource
from lab.inside.client import Client
from lab.inside.recording import RecordingThread, capture_while, storm
from lab.module.device import JUNK, Outcome, Parameters
from lab.module.run import inserted, run

SLOTS = ("GHES_IRQ", "GHES_SEA")
SECONDS = 12
# The first episode of a slot is judged against what was before the capture
UNJUDGED = 1
SETTLE_S = 0.5
SLACK_NS = 20_000_000  # between the two backends' stamps of one event, under emulation
TRIES = 3
Fix = Literal["none", "flush-on-map", "broadcast-at-unmap"]


@pytest.fixture(scope="module")
def facts() -> Facts:
    found = read_facts()
    assert found.arch == "arm64", "these tests are for `python -m lab test --arch arm64`"
    return found


def judge(path: Path) -> tuple[Report, dict[str, list[Judged]], Events]:
    source = CaptureSource(path)
    engine = Engine(source.plan)
    batches = list(source.batches())
    judged = [slot for batch in batches for slot in engine.feed(batch)] + engine.finish()
    report = engine.report()
    by_slot: dict[str, list[Judged]] = {slot.name: [] for slot in source.plan.slots}
    for slot in judged:
        by_slot[source.plan.slots[slot.slot].name].append(slot)
    return report, by_slot, np.concatenate(batches)


def classes(judged: list[Judged]) -> dict[Class, int]:
    found = np.concatenate([slot.cls for slot in judged])
    return {Class(int(c)): int((found == c).sum()) for c in np.unique(found)}


def handoffs(judged: list[Judged]) -> int:
    return sum(int(slot.handoff.sum()) for slot in judged)


def edits(
    events: Events, cpu: int, begin: int, end: int
) -> tuple[list[tuple[int, ...]], list[int]]:
    """What one CPU mapped and unmapped, in order, in a window (ns), and when."""
    kinds = np.isin(events["kind"], (Kind.MAP, Kind.UNMAP))
    mine = events[kinds & (events["cpu"] == cpu) & (events["ts"] > begin) & (events["ts"] < end)]
    rows = [tuple(int(row[name]) for name in ("kind", "slot", "phys", "ctx")) for row in mine]
    return rows, mine["ts"].tolist()


def near_loss(events: Events, when: int) -> bool:
    """Whether *events* have a loss at about this time."""
    lost = events[events["kind"] == Kind.LOSS]
    return bool(((lost["addr"] <= when + SLACK_NS) & (lost["ts"] >= when - SLACK_NS)).any())


def test_compiled_parts_run_and_answer_as_their_source() -> None:
    """The cross-compiled parts don't load here, or read a trace differently than the source."""
    assert (compiled.describe(), compiled.missing()) == ("compiled", [])
    trace = Path(__file__).parents[1] / "unit/fixtures/foreign/v6.dat"
    command = [sys.executable, "-m", "ghesrace", "check", "--format", "json", str(trace)]
    said = []
    for pure in ("0", "1"):
        environment = os.environ | {compiled.PURE: pure}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.stdout, done.stderr
        said.append((done.returncode, json.loads(done.stdout)))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "source", ["sea", "sea-cross", "polled", "irq", "irq-cross", "gpio", "gsiv"]
)
def test_the_kernel_takes_every_notification(firmware: Client, source: str) -> None:
    """A source that the kernel never reads tests nothing: its episodes would be missing."""
    assert firmware.report(source, 2) == 2


def test_slots_and_what_the_setter_implies(facts: Facts) -> None:
    """Without the broadcast in its clear, every hand-off of arm64 would be called a race."""
    plan = resolve(facts)
    assert facts.btf is not None
    numbers = facts.btf.enum("fixed_addresses")
    assert {s.name: s.index for s in plan.slots} == {
        name.removeprefix("FIX_APEI_"): number
        for name, number in numbers.items()
        if name.startswith("FIX_APEI_GHES_")
    }
    assert set(SLOTS) <= {s.name for s in plan.slots}
    (setter,) = [p for p in plan.probes if p.point == "fixmap-set"]
    assert (setter.symbol, setter.implies) == ("__set_fixmap", ("broadcast-after-clear",))


def test_handoffs_are_saved_by_the_broadcast(share: Path) -> None:
    """SEAs and interrupts hand the slots from CPU to CPU. Any other class than `broadcast` is a
    false race or a false clean; any other verdict is wrong about a kernel that is safe.
    """
    path = share / "every.arrows"
    assert capture_while(storm("every", SECONDS), path) == 0
    report, judged, events = judge(path)
    assert report.verdict is Verdict.CLEAN, report.reasons
    for name in SLOTS:
        counted = classes(judged[name])
        assert counted.pop(Class.UNCERTAIN, 0) <= UNJUDGED
        assert set(counted) == {Class.BROADCAST}, (name, counted)
        assert handoffs(judged[name]) >= 20, name
    # nmi_enter() of do_sea(): an SEA is taken in NMI context, by both CPUs
    number = [slot.name for slot in report.slots].index("GHES_SEA")
    sea = events[(events["kind"] == Kind.MAP) & (events["slot"] == number)]
    assert set(sea["ctx"]) == {Context.NMI}
    assert set(sea["cpu"]) == {0, 1}


def test_at_a_low_rate(share: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two SEAs a second, as on a host that is not well: the command line must say `clean`."""
    path = share / "slow.arrows"
    assert capture_while(storm("sea-slow", SECONDS), path) == 0
    capsys.readouterr()
    assert cli.main(["check", "--format", "json", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "clean"
    (sea,) = [slot for slot in found["slots"] if slot["name"] == "GHES_SEA"]
    assert sea["classes"]["broadcast"] >= SECONDS


def test_bpf_sees_what_ftrace_sees(share: Path) -> None:
    """Both record the same traffic at the same time: the backends differ in nothing but cost."""
    facts = read_facts()
    seen: dict[str, Events] = {}
    with (
        FtraceSource(resolve(facts), {}, buffer_kb=8192) as ftrace,
        BpfSource(resolve(facts, backend="bpf"), {}, buffer_kb=8192) as bpf,
    ):
        threads = [RecordingThread(ftrace), RecordingThread(bpf)]
        time.sleep(SETTLE_S)
        begin = time.monotonic_ns()  # the clock of both
        storm("every", SECONDS)()
        time.sleep(SETTLE_S)
        end = time.monotonic_ns()
        time.sleep(SETTLE_S)
        for name, thread in zip(("ftrace", "bpf"), threads, strict=True):
            seen[name] = thread.stop()
    for cpu in (0, 1):
        (ours, our_times), (theirs, their_times) = (
            edits(events, cpu, begin, end) for events in seen.values()
        )
        same = SequenceMatcher(None, ours, theirs, autojunk=False)
        assert sum(block.size for block in same.get_matching_blocks()) > 100
        for what, i, to_i, j, to_j in same.get_opcodes():
            if (
                what != "equal"
            ):  # One side lacks it, and says so: a slow host makes ftrace skip hits.
                times = our_times[i:to_i] + their_times[j:to_j]
                assert all(any(near_loss(one, t) for one in seen.values()) for t in times), what


def control(path: Path, fix: Fix) -> tuple[Outcome, Report, list[Judged]]:
    """A traced run of the control module: the truth, and what the checker says."""
    outcomes: list[Outcome] = []
    parameters = Parameters(fix=fix, rounds=60)
    with inserted():
        assert capture_while(lambda: outcomes.append(run(parameters)), path) == 0
    report, judged, _ = judge(path)
    return outcomes[0], report, judged["ghes2015:irq"]


def test_a_local_invalidation_is_a_race(share: Path) -> None:
    """The control unmaps with a TLBI of its own CPU alone, and reads junk: a checker that takes
    every TLBI of arm64 for a broadcast calls this clean.
    """
    for _ in range(TRIES):
        outcome, report, judged = control(share / "local.arrows", "none")
        junk = outcome.truth[outcome.truth["flags"] & JUNK != 0]
        if len(junk):
            break
    assert len(junk), "the control made no junk: nothing was tested"
    assert report.verdict is Verdict.OBSERVED
    for read in junk:
        held = [
            Class(int(cls))
            for slot in judged
            for row, cls in zip(slot.episodes, slot.cls, strict=True)
            if row["cpu"] == read["cpu"] and read["ts_map"] <= row["t_map"] <= read["ts_end"]
        ]
        assert held == [Class.NONE]


@pytest.mark.parametrize(
    ("fix", "saved"),
    [("flush-on-map", Class.MAP_FLUSH), ("broadcast-at-unmap", Class.BROADCAST)],
)
def test_each_fix_is_told_from_the_other(share: Path, fix: Fix, saved: Class) -> None:
    """A false race on a control that has a fix, or the wrong reason for its safety."""
    outcome, report, judged = control(share / f"{fix}.arrows", fix)
    assert outcome.summary["junk_reads"] == 0
    assert report.verdict is not Verdict.OBSERVED
    assert not report.findings
    counted = classes(judged)
    assert counted.pop(saved) >= 20
    assert set(counted) <= {Class.FRESH, Class.UNCERTAIN}
    assert counted.get(Class.UNCERTAIN, 0) <= UNJUDGED
