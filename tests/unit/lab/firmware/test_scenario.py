# SPDX-License-Identifier: Apache-2.0
"""Scenarios: data, and the thread that plays them."""

from __future__ import annotations

import time

import pytest

from ghesrace.errors import TransientError, UsageError
from lab.boards.pc import Pc
from lab.boards.virt import Virt
from lab.firmware import scenario
from lab.firmware.firmware import Firmware
from lab.firmware.scenario import Beat, Player, Scenario
from tests.build.guest import Guest


def test_player_takes_sources_in_turn(
    firmware: Firmware, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one source only, both CPUs would map the same frame: class same-frame, no test."""
    beats = (Beat(("nmi", "nmi-cross"), 200),)
    monkeypatch.setitem(scenario.SCENARIOS, "fast", Scenario("", beats))
    player = Player(firmware)
    player.start("fast")
    while len(guest.seen) < 6:
        time.sleep(0.005)
    player.stop()
    assert guest.seen[:6] == ["nmi", "nmi-cross"] * 3
    assert player.playing is None
    seen = len(guest.seen)
    time.sleep(0.05)
    assert len(guest.seen) == seen
    assert player.log[0]["scenario"] == "fast"


@pytest.mark.slow
def test_player_keeps_the_rate(
    firmware: Firmware, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow scenario that runs away would starve a guest under tracing."""
    monkeypatch.setitem(scenario.SCENARIOS, "slow", Scenario("", (Beat(("nmi",), 20),)))
    player = Player(firmware)
    player.start("slow")
    time.sleep(0.5)
    player.stop()
    assert 1 <= len(guest.seen) <= 11


@pytest.mark.slow
def test_player_leaves_a_slow_guest_alone(
    firmware: Firmware, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NMIs at full rate into a guest that is still at the first would starve it for good."""
    monkeypatch.setitem(scenario.SCENARIOS, "fast", Scenario("", (Beat(("nmi",), 500),)))
    monkeypatch.setattr(scenario, "_REPEAT_S", 0.2)
    guest.deaf = 1000
    player = Player(firmware)
    player.start("fast")
    time.sleep(0.7)
    player.stop()
    assert 2 <= firmware.counts()["raised"]["nmi"] <= 4
    assert firmware.counts()["sources"]["nmi"]["posted"] == 1


def test_player_reports_a_lost_machine(firmware: Firmware, guest: Guest) -> None:
    """Were it swallowed, a scenario without traffic would look like one that found nothing."""
    guest.gone = True
    player = Player(firmware)
    player.start("nmi-storm")
    time.sleep(0.1)
    with pytest.raises(TransientError, match="gone"):
        player.stop()


def test_scenarios_name_sources_that_exist(firmware: Firmware) -> None:
    """A wrong name in the data would end the player's thread in the middle of a run."""
    boards = [{source.name for source in board.sources} for board in (Pc, Virt)]
    for name, entry in scenario.SCENARIOS.items():
        assert all(beat.per_second > 0 for beat in entry.beats), name
        named = {source for beat in entry.beats for source in beat.sources}
        assert any(named <= sources for sources in boards), name
    with pytest.raises(UsageError, match="no error source is called 'sea'"):
        Player(firmware).start("sea-slow")
    with pytest.raises(UsageError, match="there are: idle"):
        Player(firmware).start("storm")
