# SPDX-License-Identifier: Apache-2.0
"""What is sent when a store comes and goes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ghesrace.errors import TransientError, UsageError
from ghesrace.fleet.ship import run
from ghesrace.fleet.ship.config import Settings
from ghesrace.fleet.stores import items, manifest
from tests.build.servers import web

NOW = 2_000_000_000.0
HOST: dict[str, str | None] = {"host": "../db 1", "bios": "B"}

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Clock:
    """A clock that sleeping moves, and what happens at a time."""

    def __init__(self) -> None:
        self.time = NOW
        self.said: list[str] = []
        self.at: list[tuple[float, Any]] = []
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        for when, do in list(self.at):
            if self.time >= when:
                self.at.remove((when, do))
                do()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "captures").mkdir()
    return Settings(str(tmp_path / "store"), tmp_path / "captures", tmp_path / "state")


def record(settings: Settings, name: str, data: bytes = b"bytes", at: float = NOW - 100) -> None:
    path = settings.captures / f"{name}.arrows"
    path.write_bytes(data)
    os.utime(path, (at, at))


def ship(settings: Settings, clock: Clock, **credentials: Any) -> int:
    return run.ship(
        settings, credentials, HOST, clock.said.append, sleep=clock.sleep, now=lambda: clock.time
    )


def sent(settings: Settings) -> list[str]:
    store = Path(settings.to)
    return sorted(path.name[0] for path in store.rglob("*.arrows")) if store.exists() else []


def test_what_is_new_is_sent_once_with_its_manifest(settings: Settings, clock: Clock) -> None:
    """If this fails, `survey` does not know of which host a capture is, or counts it twice."""
    record(settings, "a")
    assert ship(settings, clock) == 0
    record(settings, "b", b"other")
    assert ship(settings, clock) == 0
    assert ship(settings, clock) == 0
    assert [told.split("-")[0] for told in clock.said] == ["sent a", "sent b"]
    found = items(settings.to)
    assert [(item.folder, item.manifest) for item in found] == [("_db_1", True)] * 2
    assert {manifest(item)["capture"] for item in found} == {"a.arrows", "b.arrows"}
    assert json.dumps(manifest(found[0])).count('"bios": "B"') == 1


def test_a_capture_that_is_being_written_is_sent_when_it_is_done(
    settings: Settings, clock: Clock
) -> None:
    """If this fails, it waits for the next one, which may come in a month."""
    record(settings, "a", at=NOW - 1)
    assert ship(settings, clock) == 0
    assert sent(settings) == ["a"]
    assert clock.slept == [14.0]


def test_nothing_is_lost_when_the_store_is_away_for_a_day(
    settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    """If this fails, an outage of the store costs evidence."""
    store = tmp_path / "store"
    store.write_text("no folder yet")  # so that nothing can be put there
    for hour in range(24):
        record(settings, f"{chr(97 + hour)}", bytes([hour]) * 100, clock.time - 100)
        with pytest.raises(TransientError):
            ship(settings, clock)
        # The daemon makes room for newer captures.
        for path in settings.captures.iterdir():
            path.unlink()
        clock.time += 3600
    assert max(clock.slept) == run.LONGEST_PAUSE_S
    assert not [told for told in clock.said if told.startswith("sent")]
    store.unlink()
    assert ship(settings, clock) == 0
    assert sent(settings) == [chr(97 + hour) for hour in range(24)]
    assert len({path.read_bytes() for path in store.rglob("*.arrows")}) == 24
    assert ship(settings, clock) == 0
    assert len([told for told in clock.said if told.startswith("sent")]) == 24


def test_a_store_that_comes_back_soon_is_waited_for(
    settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    """If this fails, each hiccup of the network waits for the next start."""
    store = tmp_path / "store"
    store.write_text("")
    clock.at.append((NOW + 100, store.unlink))
    record(settings, "a")
    record(settings, "b", b"other")
    assert ship(settings, clock) == 0
    assert sent(settings) == ["a", "b"]
    assert clock.slept == [1, 2, 4, 8, 16, 32, 60]


@pytest.mark.slow
def test_a_web_server_that_fails_now_and_then_gets_each_once(
    settings: Settings, clock: Clock
) -> None:
    """If this fails, an error in the middle loses a capture or stops the others."""
    with web() as server:
        server.fail = [500, 201, 503, 201, 201, 403]
        there = Settings(server.url, settings.captures, settings.state)
        for name in "abc":
            record(settings, name, name.encode())
        assert ship(there, clock) == 0
        captures = {data for path, data in server.put.items() if path.endswith(".arrows")}
        assert captures == {b"a", b"b", b"c"}
        assert len(server.put) == 6
    assert len(clock.slept) == 3


def test_more_than_the_budget_is_dropped_and_told(
    settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    """If this fails, the disk fills, or captures go without a word."""
    (tmp_path / "store").write_text("")
    small = Settings(settings.to, settings.captures, settings.state, budget=25)
    for number, name in enumerate("abc"):
        record(settings, name, name.encode() * 10, NOW - 100 + number)
    with pytest.raises(TransientError):
        ship(small, clock)
    assert any(said.startswith("dropped a-") for said in clock.said)
    (tmp_path / "store").unlink()
    assert ship(small, clock) == 0
    assert sent(small) == ["b", "c"]


def test_a_backlog_beyond_the_budget_is_sent_to_a_store_that_is_there(
    settings: Settings, clock: Clock
) -> None:
    """The budget is what may wait: the first `ship` of a host dropped what had no reason to."""
    small = Settings(settings.to, settings.captures, settings.state, budget=25)
    for number, name in enumerate("abcde"):
        record(settings, name, name.encode() * (10 + 20 * (name == "c")), NOW - 100 + number)
    assert ship(small, clock) == 1
    assert next(said for said in clock.said if said.startswith("drop")).startswith("dropped c-")
    assert sent(small) == ["a", "b", "d", "e"]


def test_a_folder_that_is_not_there_is_told(settings: Settings, clock: Clock) -> None:
    """If this fails, a mistyped folder looks like a host without captures."""
    settings.captures.rmdir()
    with pytest.raises(UsageError, match="there is no folder"):
        ship(settings, clock)
