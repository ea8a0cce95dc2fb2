# SPDX-License-Identifier: Apache-2.0
"""Recording while there is traffic, without a kernel to record."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ghesrace.events import Events, mark
from lab.inside import recording
from lab.inside.recording import RecordingThread, capture_while, removing
from lab.paths import publish

PATIENCE_S = 20


@pytest.fixture(autouse=True)
def _interrupted() -> Iterator[None]:
    """SIGINT interrupts, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that were run; each is a capture that goes on until it is interrupted."""
    ran: list[list[str]] = []

    def main(arguments: list[str]) -> int:
        ran.append(arguments)
        try:
            time.sleep(0.3)  # it attaches
            publish(Path(arguments[arguments.index("-o") + 1]), "events")
            time.sleep(PATIENCE_S)
        except KeyboardInterrupt:
            return 1
        return 99

    monkeypatch.setattr(recording.cli, "main", main)
    monkeypatch.setattr(recording, "_SETTLE_S", 0.0)
    return ran


@pytest.mark.slow
def test_traffic_begins_when_all_is_attached_and_its_end_ends_it(
    capture: list[list[str]], tmp_path: Path
) -> None:
    """The first notifications would be missed, or the capture go on for ten minutes."""
    file = tmp_path / "x.arrows"
    file.write_text("of an earlier run")
    seen: list[str] = []
    assert capture_while(lambda: seen.append(file.read_text()), file, "--check") == 1
    assert seen == ["events"]
    assert capture[0][-3:] == ["-o", str(file), "--check"]


@pytest.mark.slow
def test_traffic_that_fails_ends_the_capture_and_is_told(
    capture: list[list[str]], tmp_path: Path
) -> None:
    """A recording of nothing would look like one of clean traffic."""

    def fail() -> None:
        raise ValueError("no firmware")

    with pytest.raises(ValueError, match="no firmware"):
        capture_while(fail, tmp_path / "x.arrows")


def test_a_capture_that_can_not_start_needs_no_traffic(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its reason would be lost behind ten minutes of waiting."""
    monkeypatch.setattr(recording.cli, "main", lambda _: 3)
    played: list[int] = []
    begin = time.monotonic()
    assert capture_while(lambda: played.append(1), tmp_path / "x.arrows") == 3
    assert (played, time.monotonic() - begin < PATIENCE_S) == ([], True)


class Live:
    """A source that goes on until it is stopped, and then has one more batch."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.stop = self.stopped.set

    def batches(self) -> Iterator[Events]:
        yield mark(1)
        self.stopped.wait(PATIENCE_S)
        yield mark(2)


def test_the_last_batch_is_taken_too() -> None:
    """What waits in the rings at the end would be missing."""
    source: Any = Live()
    taken: Callable[[], Events] = RecordingThread(source).stop
    assert np.array_equal(taken(), np.concatenate([mark(1), mark(2)]))


def test_a_device_is_removed_and_added_as_long_as_the_traffic_lasts(tmp_path: Path) -> None:
    """If this fails, no handler runs beside a removal, or a source is missing afterwards."""
    told: list[str] = []

    class Files:
        def __truediv__(self, name: str) -> Files:
            told.append(name)
            return self

        def write_text(self, device: str) -> None:
            assert device == "GHES.0"

    traffic = removing("GHES.0", lambda: time.sleep(0.2), Files(), 0.01)  # type: ignore[arg-type]
    traffic()
    assert len(told) > 4
    assert told == ["unbind", "bind"] * (len(told) // 2)
    with pytest.raises(FileNotFoundError):
        removing("GHES.0", lambda: None, tmp_path / "none", 0.01)()
