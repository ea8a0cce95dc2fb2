# SPDX-License-Identifier: Apache-2.0
"""Verdicts on live kernels against ground truth: the control module, and the stock kernel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ghesrace import cli
from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Class, Judged
from ghesrace.checker.report import Report, Verdict
from ghesrace.events import Cause, Kind
from ghesrace.sources.capture.file import CaptureSource
from lab.inside.recording import capture_while, storm
from lab.module.device import JUNK, Outcome, Parameters
from lab.module.run import inserted, run

ROUNDS = 60


def judge(path: Path) -> tuple[Report, list[Judged], np.ndarray]:
    source = CaptureSource(path)
    engine = Engine(source.plan)
    batches = list(source.batches())
    judged = [slot for batch in batches for slot in engine.feed(batch)] + engine.finish()
    return engine.report(), judged, np.concatenate(batches)


def control(path: Path, parameters: Parameters) -> Outcome:
    outcomes: list[Outcome] = []
    with inserted():
        assert capture_while(lambda: outcomes.append(run(parameters)), path) == 0
    return outcomes[0]


def class_of(record: np.void, report: Report, judged: list[Judged]) -> Class | None:
    """The class of the episode in which one access of the truth happened."""
    name = ("irq", "nmi")[int(record["slot"])]
    for slot in judged:
        if report.slots[slot.slot].name.endswith(f":{name}"):
            at = (
                (slot.episodes["cpu"] == record["cpu"])
                & (slot.episodes["t_map"] >= int(record["ts_map"]))
                & (slot.episodes["t_map"] <= int(record["ts_end"]))
            )
            for cls in slot.cls[at]:
                return Class(int(cls))
    return None


def test_every_junk_read_is_in_an_episode_of_class_none(share: Path) -> None:
    """A junk read that is called safe is a false clean: the worst bug there is."""
    path = share / "none.arrows"
    outcome = control(path, Parameters(rounds=ROUNDS))
    report, judged, _ = judge(path)
    junk = outcome.truth[outcome.truth["flags"] & JUNK != 0]
    assert len(junk) > 0, "the control made no junk: nothing was tested"
    assert {class_of(record, report, judged) for record in junk} == {Class.NONE}
    assert report.verdict is Verdict.OBSERVED


def test_with_nmis_junk_is_none_or_uncertain_by_an_accounted_loss(share: Path) -> None:
    """kprobes miss NMIs inside a probe handler: that must show as a loss, never as safe."""
    path = share / "nmi.arrows"
    outcome = control(path, Parameters(rounds=ROUNDS, nmi=2))
    report, judged, _ = judge(path)
    junk = outcome.truth[outcome.truth["flags"] & JUNK != 0]
    classes = [class_of(record, report, judged) for record in junk]
    missing = classes.count(None)
    assert set(classes) <= {Class.NONE, Class.UNCERTAIN, None}
    if missing or Class.UNCERTAIN in classes:
        assert report.losses, "an episode is missing or uncertain, but no loss is named"
    assert report.verdict is not Verdict.CLEAN


@pytest.mark.parametrize("fix", ["flush-on-map", "broadcast-at-unmap"])
def test_either_fix_leaves_no_finding(share: Path, fix: str) -> None:
    """A finding on a fixed kernel is a false race."""
    path = share / f"{fix}.arrows"
    outcome = control(path, Parameters(rounds=ROUNDS, fix=fix))  # type: ignore[arg-type]
    report, _, _ = judge(path)
    assert outcome.summary["junk_reads"] == 0
    assert report.findings == []
    irq = next(s for s in report.slots if s.name.endswith(":irq"))
    saved = Class.MAP_FLUSH if fix == "flush-on-map" else Class.BROADCAST
    assert irq.classes[saved] >= ROUNDS // 2


def test_storm_on_the_stock_kernel(share: Path) -> None:
    """1,000 hand-offs between CPUs: no false race, and every missed NMI is accounted for."""
    path = share / "storm.arrows"
    assert capture_while(storm("mixed", 60), path) == 0
    report, _, events = judge(path)
    assert report.findings == []
    assert sum(slot.handoffs for slot in report.slots) >= 1000
    assert all(slot.handoffs for slot in report.slots)
    references = int((events["kind"] == Kind.NMI_REF).sum())
    plan = CaptureSource(path).plan
    entry = [i for i, p in enumerate(plan.probes) if p.symbol == "ghes_notify_nmi"]
    entries = (events["kind"] == Kind.NOTIFY) & np.isin(events["point"], entry)
    unmatched = (events["kind"] == Kind.LOSS) & (events["aux"] == Cause.NMI_UNMATCHED)
    # An NMI under way when the recording begins or ends shows one of its two sides only.
    assert abs(references - int(entries.sum()) - int(unmatched.sum())) <= 2
    if unmatched.any():
        assert report.verdict is not Verdict.CLEAN


def test_low_rate_on_the_stock_kernel_is_clean(share: Path) -> None:
    """A tool that can't call a healthy kernel clean is of no use."""
    path = share / "slow.arrows"
    assert capture_while(storm("in-turn", 30), path, "--check", "--format", "json") == 0
    report, _, _ = judge(path)
    assert report.verdict is Verdict.CLEAN, report.reasons
    for slot in report.slots:
        assert slot.handoffs > 0
        assert slot.classes[Class.MAP_FLUSH] > 0
    episodes = sum(slot.episodes for slot in report.slots)
    uncertain = sum(slot.classes[Class.UNCERTAIN] for slot in report.slots)
    assert uncertain < episodes / 100


def test_a_forced_overrun_is_never_clean(share: Path) -> None:
    """What ftrace's ring buffer dropped may have been the race (BPF's rings: test_bpf.py)."""
    path = share / "overrun.arrows"
    small = ("--backend", "ftrace", "--buffer-kb", "4")
    assert capture_while(storm("mixed", 20), path, *small) == 0
    report, _, events = judge(path)
    lost = events[(events["kind"] == Kind.LOSS) & (events["aux"] == Cause.OVERRUN)]
    assert len(lost), "the buffer did not overrun: nothing was tested"
    assert report.verdict is not Verdict.CLEAN


def test_check_gives_the_live_verdict(share: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One engine: the file must say what the live run said."""
    path = share / "live.arrows"
    with inserted():
        code = capture_while(
            lambda: run(Parameters(rounds=20)), path, "--check", "--format", "json"
        )
    live = json.loads(capsys.readouterr().out)
    assert cli.main(["check", str(path), "--format", "json"]) == code == 1
    offline = json.loads(capsys.readouterr().out)
    assert live == offline
