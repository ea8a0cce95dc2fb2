# SPDX-License-Identifier: Apache-2.0
"""The lab itself: the kernel in the guest really does what the other tests rely on."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from lab.firmware import hest
from lab.inside.client import Client
from tests.build.paths import TRACEFS

EVENT = "p:labtest/setfix native_set_fixmap idx=$arg1:u32 phys=$arg2:x64"
LINE = re.compile(r"\[(\d+)\] .{5}\s+[\d.]+: setfix: .* idx=(\d+) phys=0x([0-9a-f]+)")

FRAMES = {p.source.name: p.frames for p in hest.place()}
IN_REGION = range(hest.BASE, hest.BASE + hest.REGION)


@dataclass(frozen=True)
class Map:
    cpu: int
    index: int
    frame: int


def _append(path: Path, line: str) -> None:
    # Not open("a"): Python seeks to the end, which tracefs refuses
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, line.encode() + b"\n")
    finally:
        os.close(file)


class SlotTrace:
    """A private trace instance with one kprobe event on the fixmap setter."""

    def __init__(self) -> None:
        self.instance = TRACEFS / "instances" / "labtest"
        self.instance.mkdir()
        _append(TRACEFS / "kprobe_events", EVENT)
        (self.instance / "buffer_size_kb").write_text("16384")
        self.enable = self.instance / "events" / "labtest" / "setfix" / "enable"
        self.enable.write_text("1")

    def take(self) -> list[Map]:
        """The maps of HEST blocks since the last call, in time order."""
        text = (self.instance / "trace").read_text()
        (self.instance / "trace").write_text("")
        found = [
            Map(int(m[1]), int(m[2]), int(m[3], 16))
            for m in map(LINE.search, text.splitlines())
            if m
        ]
        return [m for m in found if m.frame in IN_REGION]

    def close(self) -> None:
        self.enable.write_text("0")
        self.instance.rmdir()
        _append(TRACEFS / "kprobe_events", "-:labtest/setfix")


@pytest.fixture
def maps() -> Iterator[SlotTrace]:
    trace = SlotTrace()
    yield trace
    trace.close()


@pytest.mark.parametrize("source", [s.name for s in hest.SOURCES])
def test_the_kernel_acknowledges_every_source(firmware: Client, source: str) -> None:
    """A source that the kernel does not serve would make every scenario silently smaller."""
    before = firmware.counts()["sources"][source]["acknowledged"]
    assert firmware.report(source, 2) == 2
    assert firmware.counts()["sources"][source]["acknowledged"] == before + 2


@pytest.mark.parametrize("source", ["nmi-cross", "irq-cross"])
def test_one_crossing_report_maps_two_frames_at_one_address(
    firmware: Client, maps: SlotTrace, source: str
) -> None:
    """Without it no lock hold has two frames, and the page-by-page half of the race is untried."""
    firmware.report(source)
    first, second = FRAMES[source]
    seen = maps.take()
    pairs = [(a, b) for a, b in pairwise(seen) if (a.frame, b.frame) == (first, second)]
    assert pairs
    assert all(a.cpu == b.cpu and a.index == b.index for a, b in pairs)


def test_nmi_and_irq_sources_use_different_slots(firmware: Client, maps: SlotTrace) -> None:
    """Were both in one slot, the scenarios would not exercise the two locks."""
    firmware.report("nmi")
    firmware.report("irq")
    seen = maps.take()
    nmi = {m.index for m in seen if m.frame in FRAMES["nmi"]}
    irq = {m.index for m in seen if m.frame in FRAMES["irq"]}
    assert (len(nmi), len(irq)) == (1, 1)
    assert nmi != irq


def test_mixed_reaches_a_thousand_hand_offs(firmware: Client, maps: SlotTrace, share: Path) -> None:
    """The stock kernel is judged on at least 1,000 hand-offs: fewer would prove nothing."""
    last: dict[int, int] = {}
    hand_offs: Counter[int] = Counter()
    per_cpu: Counter[tuple[int, int]] = Counter()
    started = time.monotonic()
    firmware.start("mixed")
    while hand_offs.total() < 1000 and time.monotonic() < started + 240:
        time.sleep(5)
        for m in maps.take():
            per_cpu[m.index, m.cpu] += 1
            hand_offs[m.index] += last.get(m.index, m.cpu) != m.cpu
            last[m.index] = m.cpu
    seconds = time.monotonic() - started
    lines = [f"{seconds:.0f} s, hand-offs by slot: {dict(hand_offs)}"]
    lines += [f"slot {i} cpu {c}: {n / seconds:.1f} maps/s" for (i, c), n in per_cpu.items()]
    (share / "mixed.txt").write_text("\n".join(lines) + "\n")
    assert hand_offs.total() >= 1000
    assert all(n > 0 for n in hand_offs.values())
    assert len(hand_offs) == 2
    assert all(per_cpu[i, c] > 0 for i in hand_offs for c in (0, 1))


def test_stopping_ends_the_traffic(firmware: Client, maps: SlotTrace) -> None:
    """A scenario that went on would spoil the next test's counts."""
    firmware.start("nmi-storm")
    time.sleep(2)
    counts = firmware.stop()
    assert counts["raised"]["nmi"] > 0
    maps.take()
    time.sleep(3)
    assert not [m for m in maps.take() if m.frame in FRAMES["nmi"]]
    assert firmware.counts()["raised"] == counts["raised"]
