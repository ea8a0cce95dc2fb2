# SPDX-License-Identifier: Apache-2.0
"""Firmware, scenarios and their server, against a plain file for the guest's memory."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ghesrace.errors import HostError, TransientError, UsageError
from lab import paths
from lab.boards.pc import Pc
from lab.boards.virt import Virt
from lab.firmware import cper, hest, scenario
from lab.firmware import server as control
from lab.firmware.firmware import Firmware, GuestMemory
from lab.firmware.hest import Notify
from lab.firmware.scenario import Beat, Player, Scenario
from lab.firmware.server import Control
from lab.inside.client import Client

PLACED = {p.source.name: p for p in hest.place()}


class Recorder(GuestMemory):
    """Notes the order of the writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.writes: list[tuple[int, int]] = []

    def write(self, address: int, data: bytes) -> None:
        self.writes.append((address, len(data)))
        super().write(address, data)

    def set_word(self, address: int, value: int) -> None:
        self.writes.append((address, 4))
        super().set_word(address, value)


class Guest:
    """Stands for the kernel: acknowledges what an interrupt announces, unless told not to."""

    def __init__(self, memory: GuestMemory) -> None:
        self.memory = memory
        self.deaf = 0  # so many interrupts get lost
        self.gone = False
        self.seen: list[str] = []

    def _serve(self, kind: Notify) -> None:
        if self.gone:
            raise TransientError("QEMU is gone")
        if self.deaf:
            self.deaf -= 1
            return
        for name, p in PLACED.items():
            if p.source.notify is kind and self.memory.word(p.block):
                self.seen.append(name)
                self.memory.set_word(p.block, 0)

    def nmi(self) -> None:
        self._serve(Notify.NMI)

    def irq(self, gsi: int) -> None:
        assert gsi == hest.SHARED_GSI
        self._serve(Notify.EXTERNAL)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Recorder]:
    ram = tmp_path / "ram"
    with ram.open("wb") as file:
        file.truncate(hest.BASE + hest.REGION)
    recorder = Recorder(ram)
    yield recorder
    recorder.close()


@pytest.fixture
def guest(memory: Recorder) -> Guest:
    return Guest(memory)


@pytest.fixture
def firmware(memory: Recorder, guest: Guest) -> Firmware:
    return Firmware(memory, guest, hest.place())


def test_post_writes_block_status_last(firmware: Firmware, memory: Recorder) -> None:
    """A kernel that sees the status before the data reads a half-written record."""
    block = PLACED["nmi"].block
    assert firmware.post("nmi")
    assert memory.writes[-1] == (block, 4)
    assert all(address >= block + 4 for address, _ in memory.writes[:-1])
    assert memory.word(block) == cper.CORRECTED_ONE_ENTRY


def test_post_lands_in_the_file(firmware: Firmware, tmp_path: Path) -> None:
    """The file is the guest's RAM: offset = guest-physical address."""
    firmware.post("irq-cross")
    want = cper.status_block(0)
    with (tmp_path / "ram").open("rb") as ram:
        ram.seek(PLACED["irq-cross"].block)
        assert ram.read(len(want)) == want


def test_a_pending_record_is_not_overwritten(firmware: Firmware) -> None:
    """Overwriting would tear the record that the kernel is reading."""
    assert firmware.post("nmi")
    assert not firmware.post("nmi")
    assert firmware.counts()["sources"]["nmi"] == {"posted": 1, "acknowledged": 0, "busy": 1}


def test_acknowledgement_is_counted_once(firmware: Firmware, guest: Guest) -> None:
    """Tests compare these counts with what they saw: twice would hide a miss."""
    firmware.post("nmi")
    guest.nmi()
    assert firmware.wait("nmi", 1)
    assert firmware.wait("nmi", 1)
    assert firmware.counts()["sources"]["nmi"] == {"posted": 1, "acknowledged": 1, "busy": 0}


def test_wait_gives_up(firmware: Firmware) -> None:
    """A guest that hangs must not hang the host."""
    firmware.post("polled")
    assert not firmware.wait("polled", 0.01)


def test_report_raises_what_the_source_wants(firmware: Firmware, guest: Guest) -> None:
    """An NMI for an IRQ source would be lost, and so would the record."""
    assert firmware.report("nmi")
    assert firmware.report("irq")
    assert firmware.report("polled")
    assert guest.seen == ["nmi", "irq"]
    assert firmware.counts()["raised"] == {"nmi": 1, "irq": 1, "hed": 0}


def test_unknown_source(firmware: Firmware) -> None:
    """A typing error gets the list of names, not a KeyError."""
    with pytest.raises(UsageError, match="there are: nmi, nmi-cross"):
        firmware.post("nmj")


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


@pytest.fixture
def client(tmp_path: Path, firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(control, "_RETRY_S", 0.05)
    monkeypatch.setattr(control, "_SETTLE_S", 0.05)
    share = tmp_path / "share"
    server = Control(share, firmware, Player(firmware))
    yield Client(share, patience_s=20)
    server.stop()
    server.close()


def test_client_reports(client: Client, guest: Guest) -> None:
    """Tests in the guest order single records: each must arrive exactly once."""
    assert client.report("nmi-cross", 3) == 3
    assert guest.seen == ["nmi-cross"] * 3
    assert client.counts()["sources"]["nmi-cross"]["acknowledged"] == 3


def test_report_repeats_a_lost_notification(client: Client, guest: Guest) -> None:
    """NMIs merge and interrupts get masked: without a second try the guest waits for ever."""
    guest.deaf = 2
    assert client.report("irq") == 1
    assert client.counts()["sources"]["irq"]["posted"] == 1
    assert client.counts()["raised"]["irq"] == 3


def test_post_then_notify(client: Client, guest: Guest) -> None:
    """The two halves can be had one by one, for tests that need something in between."""
    assert client.post("nmi")
    assert not client.post("nmi")
    assert guest.seen == []
    client.notify("nmi", 2)
    assert guest.seen == ["nmi"]
    assert client.counts()["raised"]["nmi"] == 2


def test_start_and_stop_tell_the_guest_to_bounce(client: Client, tmp_path: Path) -> None:
    """The guest's agent steers the IRQ by this file: unset, irq-bounce stays on one CPU."""
    playing = paths.playing(tmp_path / "share")
    client.start("mixed")
    assert json.loads(playing.read_text()) == {
        "scenario": "mixed",
        "bounce": True,
        "loads": 0,
    }
    while not client.counts()["sources"]["irq"]["acknowledged"]:
        time.sleep(0.01)
    client.stop()
    assert json.loads(playing.read_text()) == {
        "scenario": None,
        "bounce": False,
        "loads": 0,
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
