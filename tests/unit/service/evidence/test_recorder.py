# SPDX-License-Identifier: Apache-2.0
"""The flight recorder: what a capture holds, the budget, and a disk that refuses."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.checker.findings import Finding
from ghesrace.checker.report import Verdict
from ghesrace.events import EVENT, Cause, Kind, empty, loss, mark
from ghesrace.service.config import RecorderSettings as Settings
from ghesrace.service.evidence.recorder import (
    FindingKey,
    FlightRecorder,
    RecentEvents,
    finding_key,
    shown,
)
from ghesrace.service.watch import Watch
from ghesrace.sources.capture.file import CaptureSource
from tests.build.trace import A, B, Trace, plan


class Rig:
    """A watch and a recorder on a clock of our own."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.now = 1000.0
        self.said: list[tuple[str, dict[str, object]]] = []
        self.captured: list[tuple[Path, list[FindingKey]]] = []
        given = {"directory": str(directory), "after_seconds": 5.0, **settings}
        self.watch = Watch(plan(), 3600)
        self.recorder = FlightRecorder(
            Settings(**given),
            plan(),
            {"arch": "x86_64", "release": "test"},
            lambda event, **fields: self.said.append((event, fields)),
            lambda path, keys: self.captured.append((path, keys)),
            lambda: self.now,
        )
        self.recorder.start()
        self.trace = Trace()

    def step(self, seconds: float = 1.0) -> None:
        """Feed what the trace holds, and a MARK so much later."""
        batch = self.trace.stream()
        self.trace.records.clear()
        self.trace.now += int(seconds * 1e9)
        self.now += seconds
        for part in (batch, mark(self.trace.now)):
            self.watch.feed(part)
            self.recorder.add(part)
        self.recorder.found(self.watch.look(now=True))
        self.recorder.tick()

    def race(self, *frames: int, cpus: tuple[int, int] = (0, 1)) -> None:
        for cpu, frame in zip(cpus, frames or (A, B), strict=False):
            self.trace.report(cpu, frame)
        self.step(2)

    def names(self) -> list[str]:
        return [event for event, _ in self.said]


@contextmanager
def tiny_files(limit: int) -> Iterator[None]:
    """Every write beyond *limit* bytes of a file fails as on a full disk (EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_capture_reproduces_the_finding_and_goes_on_after_it(tmp_path: Path) -> None:
    """If this fails, the evidence that the daemon keeps proves nothing."""
    rig = Rig(tmp_path)
    for cpu in (0, 1):
        rig.trace.report(cpu, A, flush=True)
    rig.step(5000)  # x of the race, then nothing for more than an hour
    rig.trace.report(0, A, unmap_flush=False)
    rig.step(5000)
    rig.trace.report(1, B)
    rig.step(2)
    assert rig.captured == []  # it still records
    assert rig.recorder.pending == 1
    rig.trace.report(0, B, flush=True)
    last = rig.trace.now
    rig.step(6)
    [(path, keys)] = rig.captured
    assert shown(path, keys) == keys == [("stale", "observed", "read", "irq")]
    source = CaptureSource(path)
    events = np.concatenate(list(source.batches()))
    assert not source.truncated
    assert source.host["evidence"]["capture"] == path.stem
    assert events["ts"][events["kind"] < Kind.LOSS].max() > last - 1_000_000
    assert not list(tmp_path.glob("*.part"))
    assert rig.recorder.pending == 0


def test_identical_findings_are_collapsed_and_counted(tmp_path: Path) -> None:
    """If this fails, one race a second fills the disk, or its repetitions are lost."""
    rig = Rig(tmp_path, repeat_seconds=100.0)
    for _ in range(6):
        rig.race()
    rig.step(6)
    assert rig.recorder.counters.captures == 1
    assert rig.recorder.counters.suppressed["repeated"] > 0
    assert rig.watch.findings["stale", "observed"] >= 10
    rig.step(200)
    rig.race()
    rig.step(6)
    assert rig.recorder.counters.captures == 2


def test_rate_limit(tmp_path: Path) -> None:
    """If this fails, many different findings write without end."""
    rig = Rig(tmp_path, captures_per_hour=2, after_seconds=0.0, repeat_seconds=0.0)
    for _ in range(5):
        rig.race()
        rig.step(1)
    assert rig.recorder.counters.captures == 2
    assert rig.recorder.counters.suppressed["rate"] > 0
    rig.step(3700)
    rig.race()
    rig.step(1)
    assert rig.recorder.counters.captures == 3


def test_disk_full_keeps_running_and_writes_when_there_is_room(tmp_path: Path) -> None:
    """If this fails, a full disk ends the daemon or costs the evidence for good."""
    rig = Rig(tmp_path, after_seconds=1.0)
    with tiny_files(100):
        rig.race()
        rig.step(5)
        assert rig.recorder.counters.captures == 0
        assert rig.recorder.counters.errors["no_space"] >= 1
        assert not rig.recorder.healthy
        assert rig.recorder.pending == 1
        assert list(tmp_path.iterdir()) == []
    for _ in range(4):
        rig.step(11)
    assert rig.recorder.healthy
    [(path, keys)] = rig.captured
    assert shown(path, keys) == keys
    assert rig.names().count("recorder-recovered") == 1


def test_disk_full_while_a_capture_is_written(tmp_path: Path) -> None:
    """If this fails, a cut file is taken for evidence, or the next try lacks the beginning."""
    rig = Rig(tmp_path, after_seconds=50.0)
    rig.race()
    part = next(tmp_path.glob("*.part"))
    with tiny_files(part.stat().st_size + 64):
        for _ in range(60):
            rig.trace.report(0, A, flush=True)
            rig.step(1)
    assert rig.recorder.counters.errors["no_space"] >= 1
    for _ in range(6):
        rig.step(30)
    [(path, keys)] = rig.captured
    assert shown(path, keys) == keys


def test_missing_folder_is_said_and_made_again(tmp_path: Path) -> None:
    """If this fails, evidence is lost without a word when somebody removes the folder."""
    folder = tmp_path / "captures"
    rig = Rig(folder, after_seconds=0.0)
    folder.rmdir()
    rig.race()
    assert rig.recorder.counters.errors["other"] >= 1
    assert "recorder-failed" in rig.names()
    folder.mkdir()
    for _ in range(4):
        rig.step(11)
    assert rig.recorder.counters.captures == 1


def test_unfinished_file_of_a_killed_run_is_kept_and_readable(tmp_path: Path) -> None:
    """If this fails, kill -9 during a capture destroys the evidence."""
    killed = Rig(tmp_path)
    killed.race()
    [part] = tmp_path.glob("*.part")
    on_disk = part.read_bytes()
    killed.recorder.stop()
    next(tmp_path.glob("*.arrows")).unlink()
    part.write_bytes(on_disk)
    rig = Rig(tmp_path)
    assert rig.names() == ["recovered"]
    [path] = tmp_path.glob("*.arrows")
    assert shown(path, [("stale", "observed", "read", "irq")])
    source = CaptureSource(path)
    assert len(list(source.batches())) >= 1
    assert source.truncated
    assert rig.recorder.folder.files == 1


sizes = st.lists(st.integers(0, 50), max_size=60)


@given(sizes, st.integers(2_000, 20_000))
def test_memory_is_bounded_and_holds_the_newest(sizes: list[int], limit: int) -> None:
    """If this fails, the ring grows for months, or forgets what it should hold."""
    memory, all_events, ts = RecentEvents(limit), [], 0
    for size in sizes:
        events = empty(size)
        events["kind"] = Kind.MAP
        events["ts"] = ts + np.arange(size)
        ts += size + 1
        memory.add(np.concatenate([events, mark(ts)]))
        all_events += events["ts"].tolist()
    held = memory.batches()
    got = np.concatenate([np.zeros(0, EVENT), *held])
    stamps = got["ts"][got["kind"] == Kind.MAP].tolist()
    assert stamps == all_events[len(all_events) - len(stamps) :]
    assert memory.bytes <= limit or len(held) == 1
    assert memory.bytes == sum(b.nbytes + 256 for b in held)
    assert not held or held[-1]["kind"][-1] == Kind.MARK
    if sum(sizes) * 56 + len(sizes) * 400 < limit:
        assert stamps == all_events


@pytest.mark.slow
def test_quiet_marks_collapse_but_losses_stay() -> None:
    """If this fails, a quiet month fills the memory, or a loss vanishes from the evidence."""
    memory = RecentEvents(1 << 20)
    for ts in range(1, 100_000):
        memory.add(mark(ts))
    assert memory.bytes < 1000
    memory.add(np.concatenate([loss(1, 2, Cause.OVERRUN), mark(100_001)]))
    memory.add(mark(100_002))
    kinds = np.concatenate(memory.batches())["kind"]
    assert (kinds == Kind.LOSS).sum() == 1


def test_key_has_neither_cpus_nor_frames() -> None:
    """If this fails, a host with many CPUs has as many kinds of findings as pairs of them."""
    one = Finding("p", "observed", "read", "s", (0, 1), (A, B), "", [])
    two = Finding("p", "observed", "read", "s", (7, 3), (B, A), "", [])
    assert finding_key(one) == finding_key(two)


def test_disabled_recorder_counts(tmp_path: Path) -> None:
    """If this fails, a recorder that was switched off writes, or hides that it did not."""
    rig = Rig(tmp_path / "none", enabled=False)
    rig.race()
    rig.step(6)
    assert rig.watch.report.verdict is Verdict.OBSERVED
    assert rig.recorder.counters.suppressed["disabled"] >= 1
    assert not (tmp_path / "none").exists()
    assert rig.recorder.memory.bytes == 0


@pytest.fixture(autouse=True)
def _no_leak() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before
