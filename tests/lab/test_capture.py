# SPDX-License-Identifier: Apache-2.0
"""Recording to a file on a real kernel, and what is left when the recorder dies."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ghesrace.commands.record import record
from ghesrace.errors import InputError
from ghesrace.events import Cause, Events, Kind
from ghesrace.host.facts import read_facts
from ghesrace.plan import Plan
from ghesrace.planning.resolve import resolve
from ghesrace.sources.capture.file import CaptureSource, CaptureWriter
from ghesrace.sources.ftrace.source import FtraceSource
from ghesrace.sources.tracefs import remove_strays
from lab.inside.client import Client
from tests.build.paths import TRACEFS

RECORDER = """
import sys
from ghesrace.plan import Plan
from ghesrace.commands.record import record, stop_on_signals
from ghesrace.sources.capture.file import CaptureWriter
from ghesrace.sources.ftrace.source import FtraceSource
plan = Plan.from_json(open(sys.argv[1]).read())
source = FtraceSource(plan, {})
with stop_on_signals(source.stop), source, CaptureWriter(sys.argv[2], plan, {}) as writer:
    print("recording", flush=True)
    record(source, writer)
"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    return resolve(read_facts())


@pytest.fixture
def plan_file(plan: Plan, tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan.to_dict()))
    return path


def start(plan_file: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RECORDER, str(plan_file), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def leftovers() -> list[str]:
    found = [p.name for p in (TRACEFS / "instances").glob("ghesrace*")]
    lines = (TRACEFS / "dynamic_events").read_text().splitlines()
    return found + [line for line in lines if "ghesrace" in line]


class Keep:
    def __init__(self) -> None:
        self.batches: list[Events] = []

    def feed(self, batch: Events) -> None:
        self.batches.append(batch)


def test_file_holds_what_the_engine_was_fed(plan: Plan, firmware: Client, tmp_path: Path) -> None:
    """If this fails, `check` of a file judges other events than `capture --check` did."""
    engine = Keep()
    out = tmp_path / "live.arrows"
    firmware.start("mixed")
    source = FtraceSource(plan, {"release": plan.release}, buffer_kb=16384)
    with source, CaptureWriter(out, plan, source.host) as writer:
        last = record(source, writer, engine, duration=5)
    firmware.stop()
    read = CaptureSource(out)
    assert np.array_equal(np.concatenate(list(read.batches())), np.concatenate(engine.batches))
    assert not read.truncated
    assert read.plan == plan
    assert read.host == {"release": plan.release}
    assert last.events > 200
    assert last.kinds[Kind.MAP] > 10
    marks = np.concatenate(engine.batches)
    marks = marks[marks["kind"] == Kind.MARK]["ts"].astype(np.int64)
    assert np.all(np.diff(marks) >= 0)


def test_kill_9_leaves_a_readable_file_and_strays_that_the_next_start_removes(
    plan: Plan, plan_file: Path, firmware: Client, tmp_path: Path
) -> None:
    """If this fails, a crash costs the whole recording or leaves probes in the kernel for good."""
    firmware.start("mixed")
    seed = random.Random(20150407)
    readable, why = 0, []
    # Killed while it starts (import, attach, ...) and while it records.
    moments = [(False, seed.uniform(1, 12)) for _ in range(3)]
    moments += [(True, seed.uniform(0, 4)) for _ in range(4)]
    for attempt, (recording, delay) in enumerate(moments):
        out = tmp_path / f"{attempt}.arrows"
        with start(plan_file, out) as recorder:
            assert recorder.stdout is not None
            if recording:
                assert recorder.stdout.readline() == "recording\n"
            time.sleep(delay)
            recorder.kill()
        remove_strays()
        assert leftovers() == []
        if not out.exists():
            continue
        try:
            events = np.concatenate(list((read := CaptureSource(out)).batches()))
        except InputError as error:
            why.append(error.what)
            continue
        readable += 1
        assert read.truncated
        assert events["kind"][-2:].tolist() == [Kind.LOSS, Kind.MARK]
        assert events["aux"][-2] == Cause.TRUNCATED
    firmware.stop()
    assert readable >= 1
    # The only excuse: killed in its first second, before a batch or even the schema was out.
    assert [w for w in why if "before the first batch" not in w and "not a ghesrace" not in w] == []


def test_start_of_another_leaves_the_living_alone(
    plan: Plan, plan_file: Path, tmp_path: Path
) -> None:
    """If this fails, two users of one host remove each other's probes."""
    out = tmp_path / "living.arrows"
    with start(plan_file, out) as recorder:
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == "recording\n"
        before = leftovers()
        assert len(before) > 1
        assert remove_strays() == []
        assert leftovers() == before
        recorder.send_signal(signal.SIGTERM)
    assert recorder.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_a_recording_well(
    plan_file: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """If this fails, Ctrl-C or a service stop loses the last second or leaves probes behind."""
    out = tmp_path / "signal.arrows"
    with start(plan_file, out) as recorder:
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == "recording\n"
        time.sleep(2)
        recorder.send_signal(number)
    assert recorder.returncode == 0
    assert leftovers() == []
    read = CaptureSource(out)
    events = np.concatenate(list(read.batches()))
    assert not read.truncated
    assert events["kind"][-1] == Kind.MARK
