# SPDX-License-Identifier: Apache-2.0
"""The ftrace source: what needs no kernel. The rest is in tests/lab/test_ftrace.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest

from ghesrace.errors import HostError
from ghesrace.events import NEVER, Kind, select
from ghesrace.plan import Plan, Probe
from ghesrace.sources.accounts import Accounts
from ghesrace.sources.ftrace.source import FtraceSource
from ghesrace.sources.ring.decode import CpuState, Decoder, SlotTable
from ghesrace.sources.ring.pages import PageLayout


def test_host_without_tracefs_is_told_so(tmp_path: Path) -> None:
    """If this fails, a host that can't trace gets a traceback instead of exit 3."""
    plan = Plan("x86_64", "t", (), (Probe("x", "MAP", "f", "kprobe"),))
    source = FtraceSource(plan, {}, root=str(tmp_path))
    with pytest.raises(HostError, match="no tracefs"):
        source.__enter__()
    with pytest.raises(HostError, match="not attached"):
        next(source.batches())


def test_clock_that_user_space_lacks_is_refused_before_anything_is_attached() -> None:
    """If this fails, the marks of a capture are on another clock than its events."""
    with pytest.raises(HostError, match="x86-tsc"):
        FtraceSource(Plan("x86_64", "t", (), (), clock="x86-tsc"), {})


class Counted:
    """The kernel's counters of CPU 1: ten events were overwritten."""

    cpus = (0, 1)

    def overrun(self, cpu: int) -> int:
        return 10 * cpu


@pytest.mark.parametrize(("last", "begin"), [(100, 500), (700, 700), (2_000, 900)])
def test_a_loss_that_is_only_counted_begins_no_earlier_than_what_was_read(
    last: int, begin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a loss reaches back before a MARK that is written already: what was judged by
    then would be judged otherwise if the same file is cut elsewhere."""
    source = FtraceSource(Plan("x86_64", "t", (), ()), {})
    decoder = Decoder(SlotTable(source.plan), [], PageLayout(), 50, source.counters)
    decoder.cpus.update({0: CpuState(last), 1: CpuState(last, overrun=4)})
    accounts = cast("Accounts", Counted())
    monkeypatch.setattr(source, "_decoder", decoder, raising=False)
    monkeypatch.setattr(source, "_accounts", accounts)
    fd = os.open(os.devnull, os.O_RDONLY)  # of both CPUs nothing is left to read
    monkeypatch.setattr(source, "_pipes", {0: fd, 1: fd})
    assert source._drain(500)[1:] == ([], NEVER)
    os.close(fd)
    [row] = select(source._unplaced(accounts, 900), Kind.LOSS)
    assert (row["cpu"], row["begin"], row["end"], row["count"]) == (1, begin, 900, 6)
