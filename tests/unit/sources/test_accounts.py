# SPDX-License-Identifier: Apache-2.0
"""The kernel's own loss counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ghesrace.errors import HostError, TransientError
from ghesrace.events import ALL_CPUS, NO_POINT, Cause, Events
from ghesrace.host.clocks import clock_now
from ghesrace.host.cpus import parse_cpus
from ghesrace.sources.accounts import Accounts, parse_profile, parse_stats
from ghesrace.sources.tracefs import Instance
from tests.build.trees import write_files

STATS = (
    "entries: 5\noverrun: {overrun}\ncommit overrun: {commit}\nbytes: 3\n"
    "oldest event ts:     0.000000\nnow ts:    21.812251\ndropped events: {dropped}\n"
    "read events: 0\n"
)
NAME = "ghesrace_1_2"


class Host:
    """A fake tracefs, /proc and /sys under one folder, with probes 0 (kprobe) and 1 (in m)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.group = f"tracing/instances/{NAME}/events/{NAME}"
        self.write("proc/sys/kernel/ftrace_enabled", "1\n")
        self.write("sys/devices/system/cpu/online", "0-1\n")
        self.write("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n")
        self.write("sys/module/m/initstate", "live\n")
        self.write("tracing/kprobe_profile", "  a      9     3\n")
        self.write(f"tracing/instances/{NAME}/tracing_on", "1\n")
        for event in ("a", "b"):
            self.write(f"{self.group}/{event}/enable", "1\n")
        self.write(f"{self.group}/enable", "1\n")
        for cpu in range(3):
            self.stats(cpu)
        self.counters: Counter[str] = Counter()
        instance = Instance(root / "tracing", NAME, 0)
        watched = {root / self.group / e / "enable": i for i, e in enumerate(("a", "b"))}
        self.accounts = Accounts(instance, {"a": 0}, watched, {"m": 1}, self.counters, "mono", root)

    def write(self, path: str, text: str) -> None:
        write_files(self.root, {path: text})

    def stats(self, cpu: int, overrun: int = 0, commit: int = 0, dropped: int = 0) -> None:
        text = STATS.format(overrun=overrun, commit=commit, dropped=dropped)
        self.write(f"tracing/instances/{NAME}/per_cpu/cpu{cpu}/stats", text)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    host.accounts.read()  # the kprobe's 3 misses before the run
    host.counters.clear()
    yield host
    host.accounts.close()


def told(losses: Events) -> list[tuple[int, int, int, int]]:
    return [(int(e["aux"]), int(e["cpu"]), int(e["size"]), int(e["point"])) for e in losses]


def test_nothing_lost_is_nothing_told(host: Host) -> None:
    """If this fails, a healthy run can never be clean."""
    assert len(host.accounts.read()) == 0
    assert host.counters.total() == 0


def test_window_reaches_from_read_to_read(host: Host) -> None:
    """If this fails, a counted miss can fall outside the window that is blamed."""
    before = clock_now("mono")
    host.accounts.read()
    between = clock_now("mono")
    host.write("tracing/kprobe_profile", "  a      9     5\n")
    losses = host.accounts.read()
    assert told(losses) == [(Cause.MISSED, ALL_CPUS, 2, 0)]
    assert before <= losses["addr"][0] <= between <= losses["ts"][0] <= clock_now("mono")
    assert host.counters["lost:missed"] == 2
    assert len(host.accounts.read()) == 0


def test_refused_writes_are_told_per_cpu(host: Host) -> None:
    """If this fails, events that the ring buffer refused are lost without a word."""
    host.stats(1, commit=2, dropped=3)
    assert told(host.accounts.read()) == [(Cause.DROPPED, 1, 5, NO_POINT)]
    assert len(host.accounts.read()) == 0


def test_new_cpu_is_a_loss(host: Host) -> None:
    """If this fails, what a CPU did before we saw it come online is forgotten."""
    host.write("sys/devices/system/cpu/online", "0-2\n")
    assert told(host.accounts.read()) == [(Cause.CPU_ONLINE, 2, 0, NO_POINT)]
    assert len(host.accounts.read()) == 0
    assert host.counters["uncounted losses"] == 1


def test_probe_that_stops_firing_is_told_until_it_fires(host: Host) -> None:
    """If this fails, a probe that somebody disabled makes a run look clean."""
    host.write(f"{host.group}/a/enable", "0\n")
    host.write(f"{host.group}/enable", "X\n")
    for _ in range(2):
        assert told(host.accounts.read()) == [(Cause.PROBE_GONE, ALL_CPUS, 0, 0)]
    host.write(f"{host.group}/enable", "1\n")
    assert len(host.accounts.read()) == 0


def test_module_that_goes_takes_its_probe_with_it(host: Host) -> None:
    """If this fails, an unloaded module's functions seem to be watched."""
    host.write(f"{host.group}/b/enable", "1\n")
    (host.root / "sys/module/m/initstate").unlink()
    (host.root / "sys/module/m").rmdir()
    assert told(host.accounts.read()) == [(Cause.PROBE_GONE, ALL_CPUS, 0, 1)]


@pytest.mark.parametrize(
    "switch",
    [
        f"tracing/instances/{NAME}/tracing_on",
        "proc/sys/kernel/ftrace_enabled",
        "sys/kernel/debug/kprobes/enabled",
    ],
)
def test_global_switch_turns_everything_off(host: Host, switch: str) -> None:
    """If this fails, `echo 0` into a global switch ends the recording silently."""
    host.write(switch, "0\n")
    assert told(host.accounts.read()) == [(Cause.PROBE_GONE, ALL_CPUS, 0, NO_POINT)]


def test_our_own_stop_is_no_loss(host: Host) -> None:
    """If this fails, every run ends with a loss."""
    host.write(f"tracing/instances/{NAME}/tracing_on", "0\n")
    assert len(host.accounts.read(stopping=True)) == 0


def test_clock_source_change_is_told(host: Host) -> None:
    """If this fails, stamps across a clock-source switch are trusted."""
    path = "sys/devices/system/clocksource/clocksource0/current_clocksource"
    host.write(path, "hpet\n")
    assert told(host.accounts.read()) == [(Cause.CLOCK, ALL_CPUS, 0, NO_POINT)]
    assert len(host.accounts.read()) == 0


def test_instance_that_is_gone_is_transient(tmp_path: Path) -> None:
    """If this fails, a removed instance ends in a traceback or in endless silence."""
    host = Host(tmp_path)
    (host.root / f"tracing/instances/{NAME}/per_cpu/cpu0/stats").unlink()
    with pytest.raises(TransientError, match=NAME):
        host.accounts.read()


def test_files_are_kept_open_and_let_go(host: Host) -> None:
    """If this fails, our own open files keep the instance from being removed."""

    def held() -> list[str]:
        return [f.path for f in psutil.Process().open_files() if str(host.root) in f.path]

    assert any(NAME in path for path in held())
    host.accounts.close()
    assert held() == []
    assert len(host.accounts.read()) == 0


def test_parsers() -> None:
    """If this fails, counters are read from the wrong line."""
    assert parse_cpus("0-3,8,10-11\n") == (0, 1, 2, 3, 8, 10, 11)
    assert parse_cpus("\n") == ()
    stats = parse_stats(STATS.format(overrun=7, commit=1, dropped=2))
    assert (stats["overrun"], stats["commit overrun"], stats["dropped events"]) == (7, 1, 2)
    assert parse_profile("  p3_4_5_set      12      7\n junk\n") == {"p3_4_5_set": (12, 7)}


def test_clock_without_counterpart_is_refused() -> None:
    """If this fails, marks are on another clock than the events."""
    with pytest.raises(HostError, match="x86-tsc"):
        clock_now("x86-tsc")


def test_a_module_with_ghes_functions_that_came_later(host: Host) -> None:
    """Nothing watches it: its races would be called clean."""
    modules = "m 16384 0 - Live 0x0\n"
    host.write("proc/modules", modules + "plain 16384 0 - Live 0x0\nlate 16384 0 - Loading 0x0\n")
    symbols = "0 t other\t[plain]\n0 t ghes_ioremap_pfn_irq\t[m]\n"
    host.write("proc/kallsyms", symbols.replace("[m]", "[plain2]"))
    assert not len(host.accounts.read())
    host.write("proc/modules", modules + "late 16384 0 - Live 0x0\n")
    host.write("proc/kallsyms", symbols + "0 t ghes_ioremap_pfn_nmi\t[late]\n")
    losses = host.accounts.read()
    assert [(int(x["aux"]), int(x["point"])) for x in losses] == [(Cause.UNWATCHED, NO_POINT)]
    assert not len(host.accounts.read())
