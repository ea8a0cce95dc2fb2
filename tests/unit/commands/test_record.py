# SPDX-License-Identifier: Apache-2.0
"""Recording: source -> file and engine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ghesrace.commands.record import Progress, record, stop_on_signals
from ghesrace.errors import TransientError
from ghesrace.events import Cause, Events, Kind, empty, loss, mark
from ghesrace.plan import Plan
from ghesrace.sources.capture.file import CaptureSource, CaptureWriter

PLAN = Plan("x86_64", "test", (), ())


class Live:
    """A source of one map, one unmap and one loss per batch, until told to stop."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.plan = PLAN
        self.host: dict[str, Any] = {}
        self.counters: Counter[str] = Counter()
        self.stopped = threading.Event()
        self.made = 0
        self.fail_after = fail_after

    def stop(self) -> None:
        self.stopped.set()

    def batches(self) -> Iterator[Events]:
        final = False
        while not final:
            if self.made == self.fail_after:
                raise TransientError("the instance is gone", "start again")
            final = self.stopped.wait(0.01)
            self.made += 1
            events = empty(2)
            events["kind"] = Kind.MAP, Kind.UNMAP
            events["ts"] = self.made * 10
            yield np.concatenate((events, loss(0, 5, Cause.DROPPED), mark(self.made * 10)))


class Engine:
    def __init__(self) -> None:
        self.batches: list[Events] = []

    def feed(self, batch: Events) -> None:
        self.batches.append(batch)


def test_file_and_engine_get_every_batch(tmp_path: Path) -> None:
    """If this fails, the final batch, or any other, is missing from the file or the verdict."""
    source, engine = Live(), Engine()
    out = tmp_path / "x.arrows"
    with CaptureWriter(out, PLAN, {}) as writer:
        last = record(source, writer, engine, until=lambda: source.made >= 5)
    assert len(engine.batches) == source.made == 6
    read = CaptureSource(out)
    assert np.array_equal(np.concatenate(list(read.batches())), np.concatenate(engine.batches))
    assert not read.truncated
    assert (last.events, last.losses) == (12, 6)
    assert last.kinds == {Kind.MAP: 6, Kind.UNMAP: 6, Kind.LOSS: 6}


@pytest.mark.slow
def test_duration_ends_it() -> None:
    """If this fails, `capture -d` runs on or ends at once."""
    begin = time.monotonic()
    record(Live(), duration=0.3)
    assert 0.25 < time.monotonic() - begin < 5


def test_stop_event_ends_it_and_progress_is_told() -> None:
    """If this fails, a caller can neither end a recording nor show its counters."""
    stop = threading.Event()
    told: list[int] = []

    def progress(state: Progress) -> None:
        told.append(state.events)
        if len(told) == 3:
            stop.set()

    record(Live(), stop_event=stop, progress=progress)
    assert told == [2, 4, 6, 8]


def test_failing_source_leaves_an_unfinished_file(tmp_path: Path) -> None:
    """If this fails, a recording that broke off looks like one that ended well."""
    out = tmp_path / "x.arrows"
    with pytest.raises(TransientError), CaptureWriter(out, PLAN, {}) as writer:
        record(Live(fail_after=3), writer)
    read = CaptureSource(out)
    events = np.concatenate(list(read.batches()))
    assert read.truncated
    assert int((events["kind"] == Kind.MAP).sum()) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_the_source_and_are_restored(number: signal.Signals) -> None:
    """If this fails, Ctrl-C kills the recorder before it has cleaned up, or never can again."""
    before = signal.getsignal(number)
    source = Live()
    with stop_on_signals(source.stop):
        os.kill(os.getpid(), number)
        record(source)
        assert signal.getsignal(number) == before
    assert source.made == 1
    assert signal.getsignal(number) == before
