# SPDX-License-Identifier: Apache-2.0
"""The guest's side of the control channel."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ghesrace.errors import HostError, TransientError
from lab import paths
from lab.inside.client import Client
from tests.build.guest import Guest


def test_client_reports(client: Client, guest: Guest) -> None:
    """Tests in the guest order single records: each must arrive exactly once."""
    assert client.report("nmi-cross", 3) == 3
    assert guest.seen == ["nmi-cross"] * 3
    assert client.counts()["sources"]["nmi-cross"]["acknowledged"] == 3


def test_post_then_notify(client: Client, guest: Guest) -> None:
    """The two halves can be had one by one, for tests that need something in between."""
    assert client.post("nmi")
    assert not client.post("nmi")
    assert guest.seen == []
    client.notify("nmi", 2)
    assert guest.seen == ["nmi"]
    assert client.counts()["raised"]["nmi"] == 2


def test_requests_from_several_threads(client: Client, guest: Guest) -> None:
    """Two programs of the guest may talk at once; no answer may go to the wrong one."""
    done: list[int] = []
    threads = [
        threading.Thread(target=lambda: done.append(client.report("nmi", 2))) for _ in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert done == [2] * 4
    assert len(guest.seen) == 8


def test_no_host_behind_the_channel(tmp_path: Path) -> None:
    """A dead host gives an error that says so, not an endless wait."""
    paths.requests(tmp_path).mkdir(parents=True)
    with pytest.raises(TransientError, match="did not answer"):
        Client(tmp_path, patience_s=0.05).counts()


def test_client_outside_a_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real host the client must refuse, and say what to do."""
    monkeypatch.delenv(paths.ENV, raising=False)
    with pytest.raises(HostError, match="python -m lab run"):
        Client()
