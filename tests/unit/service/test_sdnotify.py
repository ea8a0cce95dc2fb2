# SPDX-License-Identifier: Apache-2.0
"""What the service manager hears, on a socket of our own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ghesrace.service import sdnotify
from ghesrace.service.sdnotify import Notifier


class Ear:
    """A bound socket; `heard` takes what came so far."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    made = Ear(str(tmp_path / "notify"))
    with made.socket:
        yield made


@pytest.fixture
def environment(ear: Ear) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(ear.socket.getsockname())}


def test_each_message_is_one_datagram(ear: Ear, environment: dict[str, str]) -> None:
    """systemd takes a datagram as a whole: RELOADING without its time is refused."""
    notifier = Notifier(environment)
    notifier.starting("attaching", patience_s=2)
    notifier.ready()
    notifier.reloading()
    notifier.stopping()
    first, ready, reloading, stopping = ear.heard()
    assert first == "STATUS=attaching\nEXTEND_TIMEOUT_USEC=2000000"
    assert ready == "READY=1"
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert stopping == "STOPPING=1\nSTATUS=stopping"


def test_a_status_is_sent_when_it_changes(ear: Ear, environment: dict[str, str]) -> None:
    """Each batch would send one, or `systemctl status` show an old one."""
    notifier = Notifier(environment)
    for text in ("a", "a", "b", "a"):
        notifier.status(text)
    assert ear.heard() == ["STATUS=a", "STATUS=b", "STATUS=a"]


def test_an_abstract_socket() -> None:
    """In a container the manager's socket has no file: nothing would ever be heard."""
    name = f"ghesrace-test-{os.getpid()}"
    ear = Ear("\0" + name)
    with ear.socket:
        assert Notifier({"NOTIFY_SOCKET": f"@{name}"}).send("READY=1")
        assert ear.heard() == ["READY=1"]


def test_nobody_listens(tmp_path: Path) -> None:
    """Started by hand, or under a manager that died, the daemon would end in a traceback."""
    assert not Notifier({}).send("READY=1")
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).send("READY=1")


def test_the_watchdog_is_fed_four_times_in_its_time(
    ear: Ear, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd would kill a healthy daemon, or each batch cost a system call."""
    now = 1000.0
    monkeypatch.setattr(sdnotify.time, "monotonic", lambda: now)
    notifier = Notifier({**environment, "WATCHDOG_USEC": "4000000"})
    for _ in range(40):
        notifier.progress()
        now += 0.1
    assert ear.heard() == ["WATCHDOG=1"] * 4


@pytest.mark.parametrize("asked", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_PID": "1"}])
def test_a_watchdog_that_is_not_ours_is_left_alone(
    ear: Ear, environment: dict[str, str], asked: dict[str, str]
) -> None:
    """A child, which inherits the variables, would keep a hanging daemon alive."""
    usec = {"WATCHDOG_USEC": "4000000"} if "WATCHDOG_PID" in asked else {}
    Notifier({**environment, **usec, **asked}).progress()
    assert ear.heard() == []
