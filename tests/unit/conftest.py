# SPDX-License-Identifier: Apache-2.0
"""Captures of one verdict each, and the plans of the two usual hosts."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ghesrace.events import PAGE_SIZE, Context, Flag, Kind
from ghesrace.plan import Plan
from tests.build import trees
from tests.build.captures import capture
from tests.build.plans import plan_of
from tests.build.trace import A, B, Trace, V, bounce


def pytest_sessionstart() -> None:
    """What a shell starts in the background ignores Ctrl-C, which some tests send to themselves."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def observed(tmp_path: Path) -> Path:
    return capture(tmp_path / "observed.arrows", bounce())


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return capture(tmp_path / "clean.arrows", bounce(flush=True))


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    trace = Trace()
    for frame in (A, B, A, B):
        trace.report(0, frame)
    return capture(tmp_path / "predicted.arrows", trace)


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    return capture(tmp_path / "quiet.arrows", Trace())


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """One of each neighbour of the race, all on CPU 0, and harmless ones."""
    trace = Trace()
    trace.report(0, A, flush=True)
    trace.report(0, A)  # which another order makes stale
    for begin in (V, V + PAGE_SIZE, V + (4 << 20)):
        trace.add(0, Kind.EDIT, Context.TASK, addr=begin, size=PAGE_SIZE)
        trace.page(0, B, ctx=Context.NMI, flush=True)
        trace.add(0, Kind.EDIT_END, Context.TASK)
    trace.add(0, Kind.SHOOTDOWN, Context.TASK, flags=Flag.IRQS_OFF)
    # Last, as no other order of holds is predicted from here on: they overlapped.
    trace.add(0, Kind.NOTIFY)
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.page(0, B, ctx=Context.NMI, flush=True)  # in the irq's use of the slot
    trace.add(0, Kind.UNMAP, slot=0)
    trace.add(0, Kind.SHOOTDOWN, flags=Flag.IRQS_OFF)
    trace.add(0, Kind.NOTIFY_END)
    return capture(tmp_path / "everything.arrows", trace)


@pytest.fixture
def x86(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, vmlinux_btf=trees.x86_btf())


@pytest.fixture
def arm64(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, trees.ARM64_GHES, arch="arm64", vmlinux_btf=trees.arm64_btf())
