# SPDX-License-Identifier: Apache-2.0
"""The host's side of the control channel."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ghesrace.errors import UsageError
from lab import paths
from lab.inside.client import Client
from tests.build.guest import Guest


def test_report_repeats_a_lost_notification(client: Client, guest: Guest) -> None:
    """NMIs merge and interrupts get masked: without a second try the guest waits for ever."""
    guest.deaf = 2
    assert client.report("irq") == 1
    assert client.counts()["sources"]["irq"]["posted"] == 1
    assert client.counts()["raised"]["irq"] == 3


def test_start_and_stop_tell_the_guest_to_bounce(client: Client, tmp_path: Path) -> None:
    """The guest's agent steers the IRQ by this file: unset, irq-bounce stays on one CPU."""
    playing = paths.playing(tmp_path / "share")
    client.start("mixed")
    assert json.loads(playing.read_text()) == {
        "scenario": "mixed",
        "bounce": True,
        "loads": 0,
        "together": False,
    }
    while not client.counts()["sources"]["irq"]["acknowledged"]:
        time.sleep(0.01)
    client.stop()
    assert json.loads(playing.read_text()) == {
        "scenario": None,
        "bounce": False,
        "loads": 0,
        "together": False,
    }


def test_the_channel_survives_nonsense(client: Client) -> None:
    """One bad request must not end the channel for the rest of the boot."""
    with pytest.raises(UsageError, match="no error source"):
        client.report("nonsense")
    with pytest.raises(UsageError, match="no scenario"):
        client.start("nonsense")
    with pytest.raises(UsageError, match="not a request"):
        client.call("nonsense")
    with pytest.raises(UsageError, match="not a request"):
        client.call("report", sauce="nmi")
    assert client.report("nmi") == 1
