# SPDX-License-Identifier: Apache-2.0
"""The BPF source's accounts of what was missed; attaching is seen in tests/lab/test_bpf.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ghesrace.errors import HostError
from ghesrace.events import Cause, Events, Kind, select
from ghesrace.plan import Plan, Probe
from ghesrace.sources.bpf import source
from ghesrace.sources.bpf.rings import RECORD
from ghesrace.sources.bpf.source import BpfSource, ring_records

PLAN = Plan(
    "x86_64",
    "t",
    (),
    (Probe("a", "MAP", "f", "kprobe"), Probe("b", "UNMAP", "g", "fentry")),
    backend="bpf",
)


class Kernel:
    """Counters of the kernel's and of the programs', set by the test. `busy`: so many looks at
    which point 0 is hit while we ask."""

    def __init__(self) -> None:
        self.hit = {0: 0}  # of kprobes
        self.ran = np.array([0, 0])
        self.skipped = [0, 0]
        self.busy = 0

    def hits(self) -> np.ndarray:  # of the rings: what ran
        if self.busy:
            self.busy -= 1
            self.ran = self.ran + np.array([1, 0])
            self.hit[0] += 1
        return self.ran.copy()

    def misses(self) -> list[int]:
        return list(self.skipped)


class Counted:
    """The kernel's own account of kprobe hits."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def hits(self) -> dict[int, int]:
        return dict(self.kernel.hit)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def live(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> BpfSource:
    """A source that is attached to *kernel*, on a clock that ticks by 10 ns."""
    ticks = iter(range(1000, 10**9, 10))
    monkeypatch.setattr(source, "clock_now", lambda _: next(ticks))
    made: Any = BpfSource(PLAN, {})
    made._rings = made._loaded = kernel
    made._unrun, made._settled, made._misses, made._asked = {0: 0}, {0: 500}, [0, 0], 500
    return made


def told(losses: list[Events]) -> list[tuple[int, int, int]]:
    """(point, number, cause) of each."""
    found = [select(part, Kind.LOSS) for part in losses]
    return [row for part in found for row in part[["point", "count", "cause"]].tolist()]


@pytest.mark.parametrize("kilobytes", [1, 64, 100, 1024, 8192, 1 << 30])
def test_rings_take_no_more_memory_than_they_may(kilobytes: int) -> None:
    """A host with many CPUs would run out of locked memory, or a ring not be a power of two."""
    records = ring_records(kilobytes)
    assert records & (records - 1) == 0
    assert source._MIN_RECORDS <= records <= source._MAX_RECORDS
    four = 4 * RECORD.itemsize
    if source._MIN_RECORDS < records < source._MAX_RECORDS:
        assert records * four <= kilobytes * 1024 < 2 * records * four


def test_a_plan_of_the_other_backend_is_refused() -> None:
    """ftrace's mechanisms would be written as C."""
    with pytest.raises(HostError, match="not for BPF"):
        BpfSource(Plan("x86_64", "t", (), ()), {})


def test_a_run_that_was_skipped_is_lost_since_we_asked_before(
    live: BpfSource, kernel: Kernel
) -> None:
    """An NMI that hit a running program would be lost without a word, or lost for ever."""
    kernel.skipped = [0, 3]
    [lost] = live._skipped()
    assert told([lost]) == [(1, 3, Cause.MISSED)]
    [lost] = select(lost, Kind.LOSS)
    assert lost["begin"] == 500
    kernel.skipped = [0, 4]
    [later] = live._skipped()
    assert (told([later]), live.counters["lost:missed"]) == ([(1, 1, Cause.MISSED)], 4)
    # A run that was skipped while we asked may be in either count: the two windows overlap.
    assert lost["end"] > select(later, Kind.LOSS)["begin"][0]
    assert live._skipped() == []


def test_a_hit_without_a_run_is_lost(live: BpfSource, kernel: Kernel) -> None:
    """A kprobe whose program did not run (bpf_prog_active) would have seen nothing, unsaid."""
    account: Any = Counted(kernel)
    kernel.hit, kernel.ran = {0: 7}, np.array([5, 0])
    assert told(live._not_run(account, False)) == [(0, 2, Cause.MISSED)]
    assert live._not_run(account, False) == []
    kernel.hit, kernel.ran = {0: 9}, np.array([7, 0])  # two more, both seen
    assert live._not_run(account, False) == []


def test_a_point_that_is_hit_while_we_ask_is_asked_again(live: BpfSource, kernel: Kernel) -> None:
    """Hits between two reads would be losses that never were, and no capture ever clean."""
    account: Any = Counted(kernel)
    kernel.busy = 6
    assert live._not_run(account, False) == []
    kernel.busy = 10**6  # it never stands still
    assert live._not_run(account, False) == []
    assert told(live._not_run(account, True)) == [(0, 0, Cause.MISSED)]  # at the end: unknown
    assert live.counters["uncounted losses"] == 1
