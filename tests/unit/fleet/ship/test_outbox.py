# SPDX-License-Identifier: Apache-2.0
"""The outbox: each capture once, whatever happens in between."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ghesrace.errors import TransientError
from ghesrace.fleet.ship import outbox as module
from ghesrace.fleet.ship.outbox import Outbox

NOW = 2_000_000_000.0
SETTLE = 15.0
HOST: dict[str, str | None] = {"host": "h"}


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    (tmp_path / "captures").mkdir()
    return tmp_path / "captures"


def record(captures: Path, name: str, data: bytes = b"bytes", age: float = 100.0) -> Path:
    path = captures / f"{name}.arrows"
    path.write_bytes(data)
    os.utime(path, (NOW - age, NOW - age))
    return path


def take(root: Path, captures: Path, budget: int = 1 << 20) -> tuple[list[str], float | None]:
    with Outbox(root, budget) as box:
        return box.take(captures, SETTLE, NOW, HOST)


def test_each_capture_is_taken_once_the_oldest_first(tmp_path: Path, captures: Path) -> None:
    """If this fails, captures are sent again with each start, or never."""
    record(captures, "b", b"2", 100)
    record(captures, "a", b"1", 50)
    (captures / ".c.part").touch()
    assert take(tmp_path / "box", captures) == (["b.arrows", "a.arrows"], None)
    assert take(tmp_path / "box", captures) == ([], None)
    with Outbox(tmp_path / "box", 1 << 20) as box:
        first, second = box.waiting()
        assert (first.path.read_bytes(), second.path.read_bytes()) == (b"2", b"1")
        assert json.loads(first.manifest.read_bytes())["capture"] == "b.arrows"
        box.sent(first)
        assert [one.path for one in box.waiting()] == [second.path]
        assert not first.manifest.exists()
        assert box.take(captures, SETTLE, NOW, HOST) == ([], None)


def test_a_capture_that_is_being_written_is_waited_for(tmp_path: Path, captures: Path) -> None:
    """If this fails, half of a capture is sent and the other half never."""
    record(captures, "a", age=5)
    record(captures, "future", age=-1000)  # A clock that was set back is no reason to wait.
    assert take(tmp_path / "box", captures) == (["future.arrows"], 10.0)


def test_a_capture_that_is_written_while_it_is_copied_is_taken_later(
    tmp_path: Path, captures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a mixture of two recordings is sent as one."""
    path = record(captures, "manual-60", b"old")
    copied = module._copied

    def written_meanwhile(source: Path, part: Path) -> str:
        digest = copied(source, part)
        path.write_bytes(b"new, longer")
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(module, "_copied", written_meanwhile)
        assert take(tmp_path / "box", captures) == ([], SETTLE)
    record(captures, "manual-60", b"new, longer")
    assert take(tmp_path / "box", captures) == (["manual-60.arrows"], None)
    with Outbox(tmp_path / "box", 1 << 20) as box:
        assert [one.path.read_bytes() for one in box.waiting()] == [b"new, longer"]


def test_a_capture_of_the_same_name_is_another(tmp_path: Path, captures: Path) -> None:
    """If this fails, the second `ghesrace-capture@60` of a host is never sent."""
    record(captures, "manual-60", b"1", 100)
    take(tmp_path / "box", captures)
    record(captures, "manual-60", b"2", 50)
    assert take(tmp_path / "box", captures) == (["manual-60.arrows"], None)
    with Outbox(tmp_path / "box", 1 << 20) as box:
        assert len({one.path.name for one in box.waiting()}) == 2


def test_what_the_daemon_removes_still_waits(tmp_path: Path, captures: Path) -> None:
    """If this fails, a store that is away for a day costs the captures of that day."""
    path = record(captures, "a")
    take(tmp_path / "box", captures)
    path.unlink()
    with Outbox(tmp_path / "box", 1 << 20) as box:
        assert [one.path.read_bytes() for one in box.waiting()] == [b"bytes"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@pytest.mark.parametrize("dies_at", range(14))
def test_a_kill_at_any_point_loses_and_doubles_nothing(
    tmp_path: Path, captures: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """If this fails, a power failure costs a capture, or it is in the store under two names."""
    record(captures, "a", b"1")
    record(captures, "b", b"2")
    done = 0

    def killing(step: Callable[..., Any]) -> Callable[..., Any]:
        def killed(*arguments: Any) -> Any:
            nonlocal done
            if done == dies_at:
                raise Killed
            done += 1
            return step(*arguments)

        return killed

    for owner, name in ((os, "fsync"), (Path, "replace"), (module, "manifest_of")):
        monkeypatch.setattr(owner, name, killing(getattr(owner, name)))
    with pytest.raises(Killed):
        take(tmp_path / "box", captures)
    monkeypatch.undo()
    take(tmp_path / "box", captures)
    with Outbox(tmp_path / "box", 1 << 20) as box:
        assert sorted(one.path.read_bytes() for one in box.waiting()) == [b"1", b"2"]
        assert all(one.manifest.exists() for one in box.waiting())
        assert not list((tmp_path / "box").rglob("*.part"))
        assert box.take(captures, SETTLE, NOW, HOST) == ([], None)


def test_a_journal_that_was_cut_is_read(tmp_path: Path, captures: Path) -> None:
    """If this fails, ship never starts again after a power failure."""
    record(captures, "a")
    take(tmp_path / "box", captures)
    journal = tmp_path / "box/taken"
    journal.write_bytes(journal.read_bytes() + b'["b.arrows", 5, 1\n[1]\nnull\n\xff\n["b.ar')
    assert take(tmp_path / "box", captures) == ([], None)
    record(captures, "c", b"3")
    assert take(tmp_path / "box", captures) == (["c.arrows"], None)
    assert take(tmp_path / "box", captures) == ([], None)


def test_the_oldest_are_dropped_beyond_the_budget(tmp_path: Path, captures: Path) -> None:
    """If this fails, a store that is away for ever fills the host's disk."""
    for number in range(4):
        record(captures, f"{number}", bytes([number]) * 10, 100 - number)
    with Outbox(tmp_path / "box", 25) as box:
        box.take(captures, SETTLE, NOW, HOST)
        dropped = box.drop_beyond_budget()
        assert [name[0] for name in dropped] == ["0", "1"]
        assert [one.path.name[0] for one in box.waiting()] == ["2", "3"]
        assert box.take(captures, SETTLE, NOW, HOST) == ([], None)


@pytest.mark.slow
def test_the_journal_does_not_grow_for_ever(tmp_path: Path, captures: Path) -> None:
    """If this fails, a host that runs for years has a journal of years."""
    with Outbox(tmp_path / "box", 1 << 20) as box:
        for number in range(300):
            path = record(captures, f"{number}")
            box.take(captures, SETTLE, NOW, HOST)
            path.unlink()
        kept = record(captures, "kept")
        assert box.take(captures, SETTLE, NOW, HOST)[0] == [kept.name]
    assert len((tmp_path / "box/taken").read_bytes().splitlines()) < 150
    assert take(tmp_path / "box", captures) == ([], None)


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    """If this fails, two send the same."""
    with (
        Outbox(tmp_path / "box", 1),
        pytest.raises(TransientError, match="another `ghesrace ship`"),
        Outbox(tmp_path / "box", 1),
    ):
        pass
    with Outbox(tmp_path / "box", 1):
        pass


def test_a_full_disk_is_told_and_nothing_is_lost(
    tmp_path: Path, captures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a full disk is an internal error, or a capture counts as taken."""
    record(captures, "a")

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_copied", full)
    with pytest.raises(TransientError, match="No space left on device"):
        take(tmp_path / "box", captures)
    monkeypatch.undo()
    assert take(tmp_path / "box", captures) == (["a.arrows"], None)
