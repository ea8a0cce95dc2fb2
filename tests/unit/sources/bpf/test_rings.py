# SPDX-License-Identifier: Apache-2.0
"""The rings' reader against a model of their writers: programs that nest on one CPU."""

from __future__ import annotations

import mmap
import os
import random
import re
from collections.abc import Iterator
from importlib import resources

import numpy as np
import pytest

from ghesrace.events import EVENT, NEVER, Cause, Context, Kind, select
from ghesrace.sources.bpf import rings as bpfrings
from ghesrace.sources.bpf.rings import CONTEXTS, HEADER, RECORD, Rings, cpu_dtype, in_order

RECORDS, POINTS, CPUS = 16, 3, 2


class Kernel:
    """What the programs of probes/ghesrace.bpf.c do, on memory of our own."""

    def __init__(self) -> None:
        self.fds: list[int] = []
        self.rows = self.make(cpu_dtype(POINTS), CPUS)
        flat = self.make(RECORD, CPUS * CONTEXTS * RECORDS)
        self.records = flat.reshape(CPUS, CONTEXTS, RECORDS)
        self.clock = 1000
        self.number = 0
        self.spans: dict[int, tuple[int, int]] = {}  # number -> when its program ran

    def make(self, dtype: np.dtype, count: int) -> np.ndarray:
        size = -(-dtype.itemsize * count // mmap.PAGESIZE) * mmap.PAGESIZE
        self.fds.append(os.memfd_create("rings"))
        os.ftruncate(self.fds[-1], size)
        return np.frombuffer(mmap.mmap(self.fds[-1], size), dtype, count)

    def rings(self) -> Rings:
        return Rings(self.fds, records=RECORDS, points=POINTS, cpus=CPUS, start=5)

    def run(self, cpu: int, level: int, interrupts: Iterator[int] | None = None) -> None:
        """One program; each step of it may be interrupted by programs of the levels given."""
        header = self.rows[cpu]["ring"][level]
        begin, me = self.tick(), self.number
        self.number += 1
        if header["busy"]:
            header["nested"] += 1
            return
        header["busy"], header["seen"] = 1, header["seen"] + 1
        record = self.records[cpu, level, int(header["head"]) % RECORDS]

        def step() -> None:
            above = next(interrupts, -1) if interrupts else -1
            if above > level:
                self.run(cpu, above, interrupts)

        for other in range(CONTEXTS):
            step()
            record["at"][other] = self.rows[cpu]["ring"][other]["head"]
        step()
        event = record["event"]
        event["ts"], event["seq"], event["ctx"] = self.tick(), header["head"], level
        event["addr"], event["cpu"] = me, cpu
        step()
        header["head"] += 1
        header["busy"] = 0
        self.spans[me] = begin, self.tick()

    def filter(self, cpu: int, level: int) -> None:
        """One program whose filter says no."""
        header = self.rows[cpu]["ring"][level]
        header["seen"] += 1
        header["filtered"] += 1

    def tick(self) -> int:
        self.clock += 1
        return self.clock


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def test_layout_is_the_c_files() -> None:
    """If this fails, every field that BPF writes is read as another."""
    text = resources.files("ghesrace_probes").joinpath("ghesrace.bpf.c").read_text()
    sizes = {"u64": 8, "u32": 4, "u16": 2, "s16": 2, "u8": 1}

    def members(struct: str) -> list[tuple[str, int]]:
        body = re.search(rf"^struct {struct} {{\n(.*?)^}};", text, re.M | re.S)
        assert body is not None
        found = re.findall(r"^\t(\w+) (\w+)(?:\[(\d+)\])?;", body[1], re.M)
        return [(name, sizes[kind] * int(count or 1)) for kind, name, count in found]

    def dtype_of(dtype: np.dtype) -> list[tuple[str, int]]:
        assert dtype.names is not None
        return [(name, dtype[name].itemsize) for name in dtype.names]

    assert members("event") == dtype_of(EVENT)
    # C aligns each of these fields to its size, which adds no padding: the offsets agree.
    at = 0
    for name, size in dtype_of(EVENT):
        assert EVENT.fields is not None
        assert EVENT.fields[name][1] == at
        assert at % size == 0
        at += size
    assert RECORD.itemsize == 56 + 4 * CONTEXTS
    assert members("ring") == dtype_of(HEADER)
    assert "struct cpu {\n\tstruct ring ring[4];\n\tu64 hits[POINTS];" in text
    assert cpu_dtype(POINTS).itemsize == 4 * 64 + 8 * POINTS


def test_contexts_come_in_program_order(kernel: Kernel) -> None:
    """If this fails, an NMI between two events of a task stands before or behind both."""
    rings = kernel.rings()
    order = [0, 3, 0, 2, 3, 2, 0, 1, 3, 2, 1, 0]
    for level in order:
        kernel.run(0, level)
    events, losses = rings.read(0, kernel.tick())[0][0]
    assert events["ctx"].tolist() == order
    assert events["addr"].tolist() == list(range(len(order)))
    assert np.all(np.diff(events["seq"].astype(int)) == 1)
    assert len(losses) == 0
    assert rings.read(0, kernel.tick())[0] == {}


@pytest.mark.parametrize("seed", range(60))
def test_interrupts_anywhere_and_reads_anywhere(kernel: Kernel, seed: int) -> None:
    """If this fails, an interrupt inside a program, or a read between, breaks the order."""
    choose = random.Random(seed)
    rings, got = kernel.rings(), []
    for _ in range(60):
        steps = (choose.choice((-1,) * 6 + (1, 2, 3)) for _ in range(1000))
        kernel.run(0, choose.choice((0, 0, 1, 2, 3)), steps)
        while rings.fill() > 0.4 or choose.random() < 0.3:
            more = rings.read(0, kernel.tick())[0]
            if 0 not in more:
                break
            got.append(more[0][0])
    for _ in range(5):
        got += [events for events, _ in rings.read(0, kernel.tick())[0].values()]
    events = np.concatenate(got)
    numbers = events["addr"].tolist()
    assert sorted(numbers) == sorted(kernel.spans)
    assert np.all(np.diff(events["seq"].astype(int)) == 1)
    # Whatever was over before another program began stands before it.
    place = {number: i for i, number in enumerate(numbers)}
    for a, (_, end) in kernel.spans.items():
        for b, (begin, _) in kernel.spans.items():
            if end < begin:
                assert place[a] < place[b], (a, b)


def test_a_lapped_ring_is_a_counted_loss_in_place(kernel: Kernel) -> None:
    """If this fails, records that were overwritten unread are missing without a word."""
    rings = kernel.rings()
    kernel.run(1, 2)
    first = rings.read(0, kernel.tick())[0][1][0]
    for _ in range(3 * RECORDS):
        kernel.run(1, 2)
    kernel.run(1, 3)
    events, losses = rings.read(0, kernel.tick())[0][1]
    [lost] = select(losses, Kind.LOSS)
    assert (lost["cause"], lost["cpu"]) == (Cause.OVERRUN, 1)
    # The record at the head may be half written: it is not trusted.
    assert len(events) == RECORDS - 1 + 1
    assert lost["count"] == 3 * RECORDS - (RECORDS - 1)
    assert (lost["begin"], lost["end"]) == (first["ts"][0], events["ts"][0])
    # The buffer's positions of what was lost are left out.
    assert events["seq"][0] == first["seq"][-1] + lost["count"] + 1
    assert events["ctx"].tolist() == [Context.IRQ] * (RECORDS - 1) + [Context.NMI]


def test_a_program_that_finds_its_ring_busy_is_counted(kernel: Kernel) -> None:
    """If this fails, a preempted program's rival vanishes."""
    rings = kernel.rings()
    kernel.rows[0]["ring"][0]["busy"] = 1
    kernel.run(0, 0)
    events, losses = rings.read(77, 99)[0][0]
    assert len(events) == 0
    assert losses[["addr", "ts", "size", "aux"]].tolist() == [(77, 99, 1, Cause.DROPPED)]
    assert rings.read(99, 100)[0] == {}


def test_the_identity_is_checked(kernel: Kernel) -> None:
    """If this fails, a program that loses a record between seen and kept goes unnoticed."""
    rings = kernel.rings()
    kernel.run(0, 1)
    kernel.filter(0, 1)
    assert not rings.violated()
    counts = rings.counts()
    assert (counts.seen, counts.kept, counts.filtered) == (2, 1, 1)
    kernel.rows[0]["ring"][1]["seen"] += 1
    assert rings.violated()


def test_no_more_is_kept_and_filtered_than_was_seen(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a hit that comes while the counters are read is told as filtered and not as
    seen, and the account of a capture says that more was kept than there was."""

    class Running:
        """The headers of a CPU whose programs run on between two reads of a counter."""

        def __init__(self, headers: np.ndarray) -> None:
            self.headers = headers

        def __getitem__(self, name: str) -> np.ndarray:
            read = self.headers[name].copy()
            kernel.filter(0, 0)
            kernel.run(0, 1)
            return read

    rings = kernel.rings()
    of_a_cpu = rings._headers
    monkeypatch.setattr(rings, "_headers", lambda cpu: Running(of_a_cpu(cpu)))
    counts = rings.counts()
    assert counts.filtered, "no program ran meanwhile: nothing was tested"
    assert counts.seen >= counts.kept + counts.filtered
    rings.close()


def test_what_was_there_before_is_left_out(kernel: Kernel) -> None:
    """If this fails, events from before all probes were attached are judged."""
    kernel.run(0, 0)
    kernel.filter(0, 0)
    rings = kernel.rings()
    assert rings.read(0, 1)[0] == {}
    assert rings.counts().seen == 0
    kernel.run(0, 0)
    assert rings.read(0, 1)[0][0][0]["addr"].tolist() == [1]


def test_a_burst_is_read_piece_by_piece(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a burst on many CPUs takes the daemon's memory, a CPU is never read, or what
    was not read yet passes for complete."""
    monkeypatch.setattr(bpfrings, "MOST_RECORDS_AT_ONCE", 3)
    rings = kernel.rings()
    for cpu in (0, 1):
        for _ in range(5):
            kernel.run(cpu, 2)
    found, behind = rings.read(0, 2000)
    assert (list(found), behind) == ([0], 5)  # of the other nothing was read since the start
    for _ in range(5):
        kernel.run(0, 2)
    found, behind = rings.read(0, 3000)
    assert (list(found), behind) == ([1], 2000)
    found, behind = rings.read(0, 4000)
    assert (list(found), behind) == ([0], NEVER)
    for cpu in (0, 1):
        for _ in range(5):
            kernel.run(cpu, 2)
    rings.freeze()
    found, behind = rings.read(0, 5000)
    assert (sorted(found), behind) == ([0, 1], NEVER)
    assert rings.counts().kept == rings.delivered == 25


def test_positions_wrap() -> None:
    """If this fails, the order is wrong after 2^32 records: in hours of a storm."""
    rings = [np.zeros(0, RECORD) for _ in range(CONTEXTS)]
    high, low = rings[3], rings[0] = np.zeros(3, RECORD), np.zeros(2, RECORD)
    high["event"]["seq"] = [0xFFFFFFFF, 0x100000000, 0x100000001]
    low["event"]["seq"] = [7, 8]
    low["at"][:, 3] = [0, 1]  # 2^32 and 2^32 + 1: after one NMI, and after two
    near = np.array([7, 0, 0, 0xFFFFFFFF])
    high["event"]["addr"], low["event"]["addr"] = [1, 3, 5], [2, 4]
    found = in_order(rings, near, 40)
    assert found["addr"].tolist() == [1, 2, 3, 4, 5]
    assert found["seq"].tolist() == [40, 41, 42, 43, 44]


def test_nothing_to_merge() -> None:
    """If this fails, a quiet CPU breaks the reader."""
    none = [np.zeros(0, RECORD)] * CONTEXTS
    assert in_order(none, np.zeros(CONTEXTS, np.int64), 0).tolist() == []
