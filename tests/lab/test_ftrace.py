# SPDX-License-Identifier: Apache-2.0
"""The ftrace source on a real kernel."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ghesrace.errors import HostError
from ghesrace.events import ALL_CPUS, Cause, Context, Events, Kind
from ghesrace.host.facts import read_facts
from ghesrace.plan import Compare, Fetch, InTask, Plan, Probe
from ghesrace.planning.resolve import resolve
from ghesrace.sources.ftrace.source import FtraceSource
from lab.inside.client import Client
from tests.build.paths import TRACEFS

CPU1 = Path("/sys/devices/system/cpu/cpu1/online")
# An event of the kernel's own text output: "comm-pid [cpu] flags seconds: event: (ip) a=1 b=2".
LINE = re.compile(r"-(\d+)\s+\[(\d+)\] (\S+)\s+(\d+)\.(\d+): (\w+): (.*)")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return resolve(read_facts())


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    yield
    assert not list((TRACEFS / "instances").glob("ghesrace*"))
    assert "ghesrace" not in (TRACEFS / "dynamic_events").read_text()


def take(source: FtraceSource) -> Events:
    """Everything that is still to come from a source that is told to stop."""
    source.stop()
    return np.concatenate(list(source.batches()))


def of(events: Events, kind: Kind) -> Events:
    return events[events["kind"] == kind]


def text_lines(source: FtraceSource) -> list[tuple[int, int, str, str, str]]:
    """(cpu, microseconds, flags, event, arguments) as the kernel itself prints the buffer."""
    assert source.instance is not None
    found = [LINE.search(line) for line in source.instance.get("trace").splitlines()]
    return [
        (int(m[2]), int(m[4]) * 10**6 + int(m[5]), m[3], m[6], m[7]) for m in found if m is not None
    ]


def test_bulk_decoding_equals_the_kernels_own_text(plan: Plan, firmware: Client) -> None:
    """If this fails, events differ from what the kernel recorded: everything built on it is off."""
    with FtraceSource(plan, {}, buffer_kb=16384) as source:
        firmware.start("mixed")
        time.sleep(6)
        firmware.stop()
        assert source.instance is not None
        source.instance.set("tracing_on", "0")
        lines = text_lines(source)
        events = take(source)
    events = events[events["kind"] < Kind.LOSS]
    # Records of other fixmap slots are filtered in the kernel: nothing may be left out.
    assert source.counters["other"] == 0
    assert len(events) == len(lines) > 500
    for cpu in np.unique(events["cpu"]).tolist():
        mine = events[events["cpu"] == cpu]
        theirs = [line for line in lines if line[0] == cpu]
        assert [(int(t) + 500) // 1000 for t in mine["ts"]] == [line[1] for line in theirs]
        for event, (_, _, flags, name, text) in zip(mine, theirs, strict=True):
            probe = plan.probes[event["point"]]
            if probe.mechanism == "tracepoint":
                assert name == probe.symbol.partition(":")[2]
                assert f"delta_ns: {event['size']} " in text
            else:
                assert name.startswith(f"p{event['point']}_")
            values = dict(re.findall(r"(\w+)=(\w+)", text))
            if "phys" in values:
                assert event["phys"] == int(values["phys"], 16)
            if "addr" in values:
                assert event["addr"] == int(values["addr"], 16)
            if "index" in values:
                assert plan.slots[event["slot"]].index == int(values["index"])
            where = flags[2]
            if where in "Zz":
                assert event["ctx"] == Context.NMI
            elif where in "hH":
                assert event["ctx"] == Context.IRQ
            else:
                assert event["ctx"] == (Context.SOFTIRQ if where == "s" else Context.TASK)
            assert bool(event["flags"] & 1) == (flags[0] in "dD")


def test_every_nmi_is_seen_or_accounted(plan: Plan, firmware: Client) -> None:
    """If this fails, NMIs whose kprobes were skipped are missing without a loss record."""
    with FtraceSource(plan, {}, buffer_kb=16384) as source:
        firmware.start("nmi-storm")
        time.sleep(8)
        firmware.stop()
        events = take(source)
    notified = of(events, Kind.NOTIFY)
    seen = int((notified["ctx"] == Context.NMI).sum())
    losses = of(events, Kind.LOSS)
    unmatched = int((losses["aux"] == Cause.NMI_UNMATCHED).sum())
    refs = len(of(events, Kind.NMI_REF))
    assert refs > 100
    assert refs == seen + unmatched
    missed = int(losses["size"][losses["aux"] == Cause.MISSED].sum())
    assert missed >= unmatched
    assert source.lost == int(losses["size"].sum())


def lseek_plan(plan: Plan) -> Plan:
    """One probe that this process fires at will and numbers itself."""
    probe = Probe(
        "lseek",
        "INV_PAGE",
        "vfs_llseek",
        "kprobe",
        {"addr": Fetch(2)},
        filter=InTask(os.getpid()),
    )
    return Plan(plan.arch, plan.release, plan.slots, (probe,), cpus=plan.cpus)


def test_overrun_is_told_where_it_happened(plan: Plan) -> None:
    """If this fails, a loss is misplaced or miscounted, and a run that lost events is clean."""
    os.sched_setaffinity(0, {0})
    numbered = iter(range(1, 10**9))
    try:
        with tempfile.TemporaryFile() as file, FtraceSource(lseek_plan(plan), {}, buffer_kb=8) as s:

            def fire(count: int) -> None:
                for _ in range(count):
                    os.lseek(file.fileno(), next(numbered), os.SEEK_SET)

            batches = s.batches()
            fire(50)
            got = [next(batches)]
            for count in (3000, 40, 5000):
                fire(count)
                got.append(next(batches))
            s.stop()
            got += list(batches)
            total = next(numbered) - 1
    finally:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    events = np.concatenate(got)
    events = events[events["kind"] != Kind.MARK]
    is_loss = events["kind"] == Kind.LOSS
    losses = events[is_loss]
    assert set(losses["aux"].tolist()) == {Cause.OVERRUN}
    assert len(losses) >= 2
    assert len(events) - len(losses) + int(losses["size"].sum()) == total
    assert s.counters["kept"] + s.lost == total
    expected, previous = 1, 0
    for i, event in enumerate(events):
        if is_loss[i]:
            expected += int(event["size"])
            assert event["addr"] >= previous
            assert event["ts"] == events["ts"][i + 1]
        else:
            assert event["addr"] == expected
            expected, previous = expected + 1, int(event["ts"])
    assert np.all(np.diff(events["seq"].astype(np.int64)) > 0)


def test_probe_that_is_disabled_meanwhile_is_a_loss(plan: Plan) -> None:
    """If this fails, another tool that disables our probe makes the run look clean."""
    with FtraceSource(lseek_plan(plan), {}) as source:
        batches = source.batches()
        assert len(of(next(batches), Kind.LOSS)) == 0
        assert source.instance is not None
        for enable in source.instance.path.glob(f"events/{source.instance.name}/p0_*/enable"):
            enable.write_text("0")
        losses = of(next(batches), Kind.LOSS)
        source.stop()
        list(batches)
    assert losses["aux"].tolist() == [Cause.PROBE_GONE]
    assert losses["point"].tolist() == [0]
    assert losses["cpu"].tolist() == [ALL_CPUS]


def test_cpu_that_comes_online_is_a_loss_and_is_read(plan: Plan) -> None:
    """If this fails, a hot-plugged CPU is invisible and nothing says so."""
    CPU1.write_text("0")
    try:
        with tempfile.TemporaryFile() as file, FtraceSource(lseek_plan(plan), {}) as source:
            batches = source.batches()
            next(batches)
            CPU1.write_text("1")
            got = [next(batches)]
            os.sched_setaffinity(0, {1})
            os.lseek(file.fileno(), 77, os.SEEK_SET)
            source.stop()
            events = np.concatenate(got + list(batches))
    finally:
        CPU1.write_text("1")
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    losses = of(events, Kind.LOSS)
    assert (Cause.CPU_ONLINE, 1) in zip(losses["aux"].tolist(), losses["cpu"].tolist(), strict=True)
    fired = of(events, Kind.INV_PAGE)
    assert (77, 1) in zip(fired["addr"].tolist(), fired["cpu"].tolist(), strict=True)


def test_refused_probe_says_why_and_leaves_nothing(plan: Plan) -> None:
    """If this fails, a bad probe ends in errno numbers, or leaves half an instance behind."""
    bad = Probe("bad", "INV_PAGE", "no_such_function", "kprobe")
    broken = Plan(plan.arch, plan.release, plan.slots, (*plan.probes, bad))
    with pytest.raises(HostError, match=r"no_such_function.*Invalid probed address"):
        FtraceSource(broken, {}).__enter__()
    wrong = Probe("bad", "INV_PAGE", "vfs_llseek", "kprobe", filter=Compare("nonsense", "==", 1))
    broken = Plan(plan.arch, plan.release, plan.slots, (wrong,))
    with pytest.raises(HostError, match="Field not found"):
        FtraceSource(broken, {}).__enter__()


def test_two_recordings_at_once_do_not_disturb_each_other(plan: Plan) -> None:
    """If this fails, the start of one recording removes another's probes."""
    with FtraceSource(plan, {}) as first, FtraceSource(plan, {}) as second:
        assert first.instance is not None
        assert second.instance is not None
        assert first.instance.path.is_dir()
        assert first.instance.path != second.instance.path
        assert len(take(first)) >= 1
        assert len(take(second)) >= 1
