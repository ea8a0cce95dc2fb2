# SPDX-License-Identifier: Apache-2.0
"""Perf buffers: what the kernel writes into them, made by hand, and what is read out of it."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest

from ghesrace.errors import HostError
from ghesrace.events import EVENT, Cause
from ghesrace.host import syscalls
from ghesrace.sources.bpf import perf
from ghesrace.sources.bpf.perf import LOST, SAMPLE, PerfBuffers, parse
from ghesrace.sources.bpf.rings import cpu_dtype

POINTS, CPUS = 3, 2
MS = 1_000_000


def sample(seq: int, level: int = 0, ts: int = 0, addr: int = 0) -> bytes:
    """One PERF_RECORD_SAMPLE as kernel/events/core.c writes it for a program's raw data."""
    record = np.zeros(1, SAMPLE)
    record["type"], record["bytes"], record["raw"] = 9, SAMPLE.itemsize, EVENT.itemsize + 4
    event = record["event"]
    event["seq"], event["ctx"], event["ts"], event["addr"] = seq, level, ts, addr
    return record.tobytes()


def lost(count: int) -> bytes:
    """One PERF_RECORD_LOST."""
    record = np.zeros(1, LOST)
    record["type"], record["bytes"], record["lost"] = 2, LOST.itemsize, count
    return record.tobytes()


class Kernel:
    """The maps and the buffers; `online` is what the host says."""

    def __init__(self) -> None:
        self.rows = np.zeros(CPUS, cpu_dtype(POINTS))
        self.waiting: dict[int, bytes] = {}
        self.online = [0, 1]
        self.opened: list[int] = []
        self.refuse: OSError | None = None

    def lookup(self, fd: int, key: int, size: int) -> bytearray:
        assert (fd, size) == (7, self.rows.itemsize)
        return bytearray(self.rows[key].tobytes())

    def update(self, fd: int, key: int, value: int) -> None:
        assert (fd, value) == (8, 100 + key)

    def buffer(self, cpu: int, pages: int) -> object:
        kernel = self
        if self.refuse:
            raise self.refuse
        kernel.opened.append(cpu)

        class Fake:
            fd = 100 + cpu

            def take(self) -> np.ndarray:
                return np.frombuffer(kernel.waiting.pop(cpu, b""), np.uint8)

            def close(self) -> None:
                kernel.opened.remove(cpu)

        return Fake()

    def run(self, cpu: int, level: int, ts: int, *, kept: bool = True) -> None:
        """One program; *kept*: whether there was room."""
        header = self.rows[cpu]["ring"][level]
        if kept:
            new = sample(int(header["head"]), level, ts)
            self.waiting[cpu] = self.waiting.get(cpu, b"") + new
        header["seen"] += 1
        header["head"] += 1


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(syscalls, "lookup", made.lookup)
    monkeypatch.setattr(syscalls, "update", made.update)
    monkeypatch.setattr(perf, "PerfBuffer", made.buffer)
    return made


@pytest.fixture
def opened(kernel: Kernel) -> Callable[[], PerfBuffers]:
    def make() -> PerfBuffers:
        return PerfBuffers(
            [7, 8], records=16, points=POINTS, cpus=CPUS, start=5, online=lambda: kernel.online
        )

    return make


def test_records_of_all_sizes() -> None:
    """If this fails, one PERF_RECORD_LOST or foreign record shifts all events behind it."""
    foreign = np.array([5, 16 << 16], "<u4").tobytes() + bytes(8)  # PERF_RECORD_THROTTLE, say
    data = sample(0) + lost(3) + sample(4) + sample(5) + foreign + lost(2) + sample(8) + lost(1)
    events, count = parse(np.frombuffer(data, np.uint8))
    assert events["seq"].tolist() == [0, 4, 5, 8]
    assert count == 6
    assert len(parse(np.zeros(0, np.uint8))[0]) == 0


def test_the_order_is_the_buffers(kernel: Kernel, opened: Callable[[], PerfBuffers]) -> None:
    """If this fails, an NMI between two events of a task stands before or behind both."""
    buffers = opened()
    for at, level in enumerate([0, 3, 0, 2, 3, 1]):
        kernel.run(1, level, 10 + at)
    found = buffers.read(0, 100)[0]
    assert list(found) == [1]
    events, losses = found[1]
    assert events["ctx"].tolist() == [0, 3, 0, 2, 3, 1]
    assert events["seq"].tolist() == list(range(6))
    assert len(losses) == 0
    assert buffers.delivered == 6
    assert buffers.read(0, 101)[0] == {}


def test_a_full_buffer_is_a_counted_loss_in_place(
    kernel: Kernel, opened: Callable[[], PerfBuffers]
) -> None:
    """If this fails, what the buffer could not take is missing without a word."""
    buffers = opened()
    kernel.run(0, 2, 10)
    for ts in (11, 12, 13):
        kernel.run(0, 2, ts, kept=False)
    kernel.waiting[0] += lost(3)
    kernel.run(0, 2, 14)
    kernel.run(0, 3, 15)
    events, losses = buffers.read(0, 100)[0][0]
    assert losses[["addr", "ts", "size", "aux", "cpu"]].tolist() == [(10, 14, 3, Cause.OVERRUN, 0)]
    assert events["seq"].tolist() == [0, 4, 5]
    assert buffers.announced == 3
    counts = buffers.counts()
    assert counts.seen == counts.kept == buffers.delivered + 3
    assert not buffers.violated()


def test_a_loss_that_nothing_follows(kernel: Kernel, opened: Callable[[], PerfBuffers]) -> None:
    """If this fails, a storm's last events are lost in silence when it ends in a full buffer."""
    buffers = opened()
    kernel.run(0, 3, 10)
    buffers.read(0, 100 * MS)
    kernel.run(0, 3, 11, kept=False)
    # For a moment an event can be counted and not yet be there.
    assert buffers.read(0, 200 * MS)[0] == {}
    events, losses = buffers.read(0, 350 * MS)[0][0]
    assert len(events) == 0
    assert losses[["addr", "ts", "size", "aux"]].tolist() == [(10, 350 * MS, 1, Cause.OVERRUN)]
    assert buffers.read(0, 900 * MS)[0] == {}
    # What was called lost and comes after all is not counted twice.
    kernel.waiting[0] = sample(1, 3, 11)
    assert buffers.read(0, 950 * MS)[0] == {}
    kernel.run(0, 3, 12, kept=False)
    buffers.freeze()
    assert buffers.read(0, 960 * MS)[0][0][1]["size"].tolist() == [1]
    assert buffers.delivered == 1


def test_cpus_come_and_go(kernel: Kernel, opened: Callable[[], PerfBuffers]) -> None:
    """If this fails, a CPU that was offline once is blind for good, and nobody says so."""
    kernel.online = [0]
    buffers = opened()
    assert kernel.opened == [0]
    kernel.run(1, 0, 10, kept=False)  # before we saw that it is there
    assert buffers.read(0, 1 * MS)[0] == {}
    kernel.online = [0, 1]
    buffers.read(0, 2 * MS)
    kernel.run(1, 0, 20)
    events, losses = buffers.read(0, 3 * MS)[0][1]
    assert len(events) == 1
    assert losses["size"].tolist() == [1]
    kernel.run(1, 0, 30)
    kernel.online = [0]
    assert len(buffers.read(0, 4 * MS)[0][1][0]) == 1  # what it left behind
    assert kernel.opened == [0]
    kernel.run(1, 0, 40, kept=False)
    kernel.run(1, 0, 41, kept=False)
    buffers.read(0, 5 * MS)
    events, losses = buffers.read(0, 200 * MS)[0][1]
    assert losses[["size", "aux"]].tolist() == [(2, Cause.DROPPED)]
    kernel.online = [0, 1]
    buffers.read(0, 201 * MS)
    assert kernel.opened == [0, 1]
    buffers.close()
    assert kernel.opened == []


def test_what_an_nmi_overwrote_is_lost(kernel: Kernel, opened: Callable[[], PerfBuffers]) -> None:
    """If this fails, an event written over by an NMI (before 5.2) is taken for the NMI's twin."""
    buffers = opened()
    kernel.run(0, 0, 10, kept=False)
    kernel.run(0, 3, 11)
    kernel.waiting[0] += sample(0, 3, 11) + sample(1 << 40, 1, 12) + sample(0, 200, 12)
    kernel.run(0, 0, 13)
    events, losses = buffers.read(0, 100)[0][0]
    # The task's event became the NMI's second self: of three with that number one is kept.
    assert events["ctx"].tolist() == [3, 0]
    assert losses["size"].tolist() == [1]


def test_nested_programs_and_a_start_in_the_middle(
    kernel: Kernel, opened: Callable[[], PerfBuffers]
) -> None:
    """If this fails, what came before the start is judged, or a program's rival vanishes."""
    kernel.run(0, 0, 1)
    kernel.rows[0]["hits"] = [4, 0, 1]
    kernel.rows[1]["hits"] = [1, 0, 1]
    buffers = opened()
    assert buffers.hits().tolist() == [5, 0, 2]
    assert buffers.read(0, 100)[0] == {}
    kernel.rows[0]["ring"][0]["nested"] = 2
    losses = buffers.read(77, 99)[0][0][1]
    assert losses[["addr", "ts", "size", "aux"]].tolist() == [(77, 99, 2, Cause.DROPPED)]
    assert buffers.counts().seen == 0
    kernel.rows[0]["ring"][0]["seen"] += 1
    assert buffers.violated()


def test_a_refusal_says_what_to_do(kernel: Kernel, opened: Callable[[], PerfBuffers]) -> None:
    """If this fails, a user without the right meets a traceback."""
    kernel.refuse = OSError(1, os.strerror(1))
    with pytest.raises(HostError, match=r"no perf buffer on CPU 0.*not permitted"):
        opened()
