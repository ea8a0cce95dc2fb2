# SPDX-License-Identifier: Apache-2.0
"""A summary beside the full stream: attached at once, on one kernel, over the same traffic."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from ghesrace import cli
from ghesrace.checker.model import Class
from ghesrace.checker.report import Report, SlotCounts, Verdict
from ghesrace.events import Events, Kind, mark
from ghesrace.host.clocks import clock_now
from ghesrace.host.facts import read_facts
from ghesrace.plan import Plan
from ghesrace.planning.resolve import resolve
from ghesrace.sources.bpf.source import BpfSource
from ghesrace.sources.bpf.summary.plan import NEEDS_EVENTS, summarised
from ghesrace.sources.bpf.summary.source import SummarySource
from lab.inside.client import Client
from lab.inside.recording import RecordingThread, capture_while, storm
from lab.module.device import Parameters
from lab.module.run import inserted, run
from tests.build.judging import judge

ROUNDS = 40
QUIET_S = 1.5
UNSAFE = ("INCIDENTAL", "NONE", "UNCERTAIN")
BROAD = ("INV_RANGE", "INV_ALL", "BCAST_RANGE", "BCAST_ALL")  # of more than a slot's page
Name = tuple[object, ...]
SECOND_CPU = Path("/sys/devices/system/cpu/cpu1/online")


@dataclass
class Both:
    """The two streams of one run; the summary began between `began` and `attached`, and ended
    between `stopping` and `stopped` (ns)."""

    plan: Plan
    full: Events
    summary_plan: Plan
    summary: Events
    began: int
    attached: int
    stopping: int
    stopped: int


def record_both(traffic: Callable[[], object]) -> Both:
    """Full stream and summary over the same traffic, which begins after both are attached and
    ends before they stop. The kernel's own polling goes on all the time."""
    plan = resolve(read_facts(), backend="bpf")
    with ExitStack() as stack:
        full = stack.enter_context(BpfSource(plan, {}, buffer_kb=8192))
        began = clock_now(plan.clock)
        short = stack.enter_context(SummarySource(summarised(plan), {}))
        attached = clock_now(plan.clock)
        recorders = [RecordingThread(full), RecordingThread(short)]
        traffic()
        time.sleep(QUIET_S)
        stopping = clock_now(plan.clock)
        summary = recorders[1].stop()
        stopped = clock_now(plan.clock)
        events = recorders[0].stop()
    return Both(plan, events, short.plan, summary, began, attached, stopping, stopped)


def judged(plan: Plan, events: Events) -> Report:
    # The stale pattern only: the others need events.
    return judge(replace(plan, not_checked=dict.fromkeys(NEEDS_EVENTS, "not here")), events)


def found(report: Report) -> dict[Name, int]:
    """Findings -> how often each happened."""
    return {
        (f.pattern, f.severity, f.access, f.slot, f.frames, f.cpus, f.reordered): f.count
        for f in report.findings
    }


def classes(slot: SlotCounts) -> dict[str, int]:
    return {Class(c).name: n for c, n in enumerate(slot.classes) if n}


def said(report: Report) -> dict[str, object]:
    """What both must say alike, to the last episode, if neither lost anything."""
    return {
        "verdict": report.verdict.word,
        **{
            slot.name: (
                slot.episodes,
                {cls: n for cls, n in classes(slot).items() if cls not in UNSAFE},
                slot.handoffs,
                slot.latent,
                slot.uncertain_at_start,
            )
            for slot in report.slots
        },
    }


def unordered(ours: Report, theirs: Report, luck: int) -> bool:
    """Whether the unsafe episodes are the same, but for those of which a summary can't tell
    whether luck came in time: when an invalidation is over only its CPU's next event tells, and a
    summary has fewer. So it may call uncertain what the full stream does not, never the reverse,
    and only where there was *luck*: invalidations that no map or unmap explains. One episode of a
    slot may be uncertain without: in a guest one was; why is not established."""
    blurred: list[int] = []
    for a, b in zip(ours.slots, theirs.slots, strict=True):
        x, y = classes(a), classes(b)
        if any(x.get(cls, 0) > y.get(cls, 0) for cls in UNSAFE if cls != Class.UNCERTAIN.name):
            return False
        blurred.append(x.get(Class.UNCERTAIN.name, 0) - y.get(Class.UNCERTAIN.name, 0))
    mine, other = found(ours), found(theirs)
    if not any(blurred):
        return mine == other
    if set(blurred) <= {0, 1}:
        return all(name in other for name in mine if name[1] == "observed")
    less = sum(n - mine.get(name, 0) for name, n in other.items() if not name[-1])
    return sum(blurred) <= luck and mine.keys() <= other.keys() and less == sum(blurred)


def told(report: Report) -> str:
    slots = {slot.name: classes(slot) for slot in report.slots}
    return f"{said(report)} {slots} {found(report)}"


def contradictions(ours: Report, theirs: Report, lost: int) -> list[str]:
    """What two reports on one run can't both say, if *lost* events of either are missing: a loss
    hides so many episodes and findings at most, makes others uncertain, and no race clean."""
    wrong = []
    for a, b in zip(ours.slots, theirs.slots, strict=True):
        if abs(a.episodes - b.episodes) > lost:
            wrong.append(f"{a.name}: {a.episodes} episodes, {b.episodes}")
        for x, y in ((classes(a), classes(b)), (classes(b), classes(a))):
            wrong += [
                f"{a.name}: {n} {cls}, but {y}"
                for cls, n in x.items()
                if cls != Class.UNCERTAIN.name
                and n > y.get(cls, 0) + y.get(Class.UNCERTAIN.name, 0) + lost
            ]
    verdicts = {ours.verdict, theirs.verdict}
    if Verdict.CLEAN in verdicts and verdicts & {Verdict.OBSERVED, Verdict.PREDICTED}:
        # Clean in spite of a loss is told only where nothing that it hid can be unsafe.
        wrong.append(f"{ours.verdict.word}, but {theirs.verdict.word}")
    for report, other in ((ours, theirs), (theirs, ours)):
        excused = report.losses and report.verdict is Verdict.INCONCLUSIVE
        if report.verdict is not other.verdict and not (excused or other.losses):
            wrong.append(f"{report.verdict.word}, but {other.verdict.word}")
    if len(found(ours).keys() ^ found(theirs).keys()) > 2 * lost:
        wrong.append(f"{found(ours)}, but {found(theirs)}")
    return wrong


def maps_within(events: Events, begin: int, end: int) -> list[int]:
    """Stamps of the maps in [begin, end) (ns)."""
    maps = np.unique(events["ts"][events["kind"] == Kind.MAP].astype(np.int64))
    return [int(ts) for ts in maps[(maps >= begin) & (maps < end)]]


def windows(both: Both, episodes: list[int], lost: int) -> Iterator[Events]:
    """The full stream of every moment at which the summary may have begun and ended, but for those
    with another number of *episodes* of a slot than *lost* events explain."""
    ts, kind = both.full["ts"].astype(np.int64), both.full["kind"]
    maps, names = kind == Kind.MAP, np.arange(len(episodes))
    # Just behind the one map or the other, and just before: who begins between a map and its flush
    # sees an unmap without a map. The compiler comes first, so the summary most likely began late.
    here = [int(t) for t in maps_within(both.full, both.began, both.attached)]
    later = ts[maps & (ts > both.attached)]
    before = [*here, *([int(later.min())] if len(later) else [])]
    begins = [both.began, *sorted({*before, *(t + 1 for t in here)})][::-1]
    ends = [*maps_within(both.full, both.stopping, both.stopped), both.stopped]
    for begin in begins:
        for end in ends:
            inside = (ts >= begin) & (ts < end) & (kind != Kind.MARK)
            n = (both.full["slot"][inside & maps] == names[:, None]).sum(axis=1)
            if np.abs(n - episodes).sum() <= lost:
                yield np.concatenate([both.full[inside | (kind == Kind.LOSS)], mark(both.stopped)])


def compare(both: Both) -> tuple[Report, bool]:
    """The summary's report, and whether either stream has a loss. Fails if it says otherwise than
    the full stream of its window: by anything at all without a loss, and else by more than that
    explains."""
    report = judged(both.summary_plan, both.summary)
    lossy = bool(report.losses) or bool((both.full["kind"] == Kind.LOSS).any())
    lost = sum(size(both.summary, both.full))
    episodes = [slot.episodes for slot in report.slots]
    kinds = {k.name: int((both.summary["kind"] == k).sum()) for k in Kind}
    print("\nsummary:", told(report), report.reasons, report.losses)
    print(len(both.full), "records in full,", {k: n for k, n in kinds.items() if n})
    luck = int(np.isin(both.full["kind"], [Kind[kind] for kind in BROAD]).sum())
    for n, window in enumerate(windows(both, episodes, lost)):
        full = judged(both.plan, window)
        wrong = contradictions(report, full, lost) if lossy else []
        print(f"full, window {n}:", told(full), full.losses, wrong)
        if not wrong and (lossy or (said(full) == said(report) and unordered(report, full, luck))):
            return report, lossy
    raise AssertionError(f"no window of the full stream, give or take {lost} events, says the same")


def size(*streams: Events) -> Iterator[int]:
    """Of each stream's losses, in events; one of unknown size can be anything."""
    for stream in streams:
        lost = stream["size"][stream["kind"] == Kind.LOSS]
        yield int(lost.sum()) if (lost > 0).all() else 2**32


def test_stock_kernel(share: Path, firmware: Client) -> None:
    """If this fails, a summary of a healthy kernel is not what its events say."""

    def traffic() -> None:
        firmware.start("mixed")
        time.sleep(20)
        firmware.stop()

    both = record_both(traffic)
    report, lossy = compare(both)
    assert report.findings == []
    assert sum(slot.handoffs for slot in report.slots) > 50
    assert report.verdict is Verdict.CLEAN or lossy, report.reasons
    # Nothing but samples, counters and what began before the recording.
    assert (both.summary["kind"] == Kind.EPISODE).sum() < 20


def test_in_turn_without_a_loss(share: Path, firmware: Client) -> None:
    """If this fails, the two differ where nothing excuses it."""

    def traffic() -> None:
        firmware.start("in-turn")
        time.sleep(20)
        firmware.stop()

    report, lossy = compare(record_both(traffic))
    assert not lossy
    assert report.verdict is Verdict.CLEAN, report.reasons


@pytest.mark.parametrize(
    ("parameters", "verdict"),
    [
        (Parameters(rounds=ROUNDS), Verdict.OBSERVED),
        (Parameters(rounds=ROUNDS, write_back=1, nmi=1), Verdict.OBSERVED),
        # Each CPU is told of every unmap, too late to count on: no junk, by luck.
        (Parameters(rounds=ROUNDS, shootdown=1), Verdict.PREDICTED),
        (Parameters(rounds=ROUNDS, fix="flush-on-map"), Verdict.CLEAN),
        (Parameters(rounds=ROUNDS, fix="broadcast-at-unmap"), Verdict.CLEAN),
    ],
    ids=["no-fix", "writes-and-nmis", "luck", "flush-on-map", "broadcast-at-unmap"],
)
def test_control(share: Path, parameters: Parameters, verdict: Verdict) -> None:
    """If this fails, the kernel's own judgement of the race, or of its fixes, is wrong."""
    with inserted():
        report, lossy = compare(record_both(lambda: run(parameters)))
    irq = next(slot for slot in report.slots if slot.name.endswith(":irq"))
    assert irq.episodes >= 2 * ROUNDS
    assert bool(report.findings) == (verdict is not Verdict.CLEAN)
    assert report.verdict is verdict or (
        lossy and verdict is not Verdict.OBSERVED and report.verdict is Verdict.INCONCLUSIVE
    ), report.reasons


@contextmanager
def one_cpu() -> Iterator[None]:
    SECOND_CPU.write_text("0")
    try:
        yield
    finally:
        SECOND_CPU.write_text("1")


def test_one_cpu_alone(share: Path) -> None:
    """If this fails, a host of one CPU is told of a race with another, by one way or the other."""
    with inserted(), one_cpu():  # all the time: a CPU that comes online is a loss
        report, lossy = compare(record_both(lambda: run(Parameters(rounds=ROUNDS))))
    irq = next(slot for slot in report.slots if slot.name.endswith(":irq"))
    assert irq.episodes >= ROUNDS or lossy
    assert report.findings == []
    assert report.verdict is Verdict.CLEAN or lossy, report.reasons


def test_capture_and_check_agree(share: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, a summary's file says otherwise than the live run, or hides a pattern that
    it did not check."""
    path = share / "summary.arrows"
    arguments = ("--summary", "--check", "--format", "json")
    assert capture_while(storm("in-turn", 10), path, *arguments) == 0
    live = json.loads(capsys.readouterr().out)
    assert cli.main(["check", str(path), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == live
    assert live["verdict"] == "clean"
    assert sum(slot["episodes"] for slot in live["slots"]) > 50
