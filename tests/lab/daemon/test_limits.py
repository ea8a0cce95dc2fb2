# SPDX-License-Identifier: Apache-2.0
"""What the unit takes from the daemon, and what the daemon does within that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.inside.systemd import Box
from lab.module.device import Parameters
from lab.module.run import run as run_module
from tests.build.installed import (
    CONFIG,
    DAEMON,
    INSTALLED,
    drop_in,
    get,
    leftovers,
    metric,
    ready,
    until,
)

# What a guest under emulation does in seconds; tests/bench/burst.py is for 10^7 events.
STORM = Parameters(turns="free", period_us=0, linger_us=0, walker=False)
BURST_ROUNDS = 8000


def test_installation_starts_nothing(box: Box) -> None:
    """If this fails, `apt install` traces a host that nobody has looked at."""
    assert INSTALLED == ["inactive", "disabled"]


def test_capabilities_are_gone_and_the_unit_is_limited(daemon: Box) -> None:
    """If this fails, a bug in the daemon is a bug with root's powers."""
    pid = daemon.do("systemctl", "show", "-P", "MainPID", "ghesrace").strip()
    for task in daemon.do("sh", "-c", f"cat /proc/{pid}/task/*/status").splitlines():
        name, _, value = task.partition(":")
        if name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            assert int(value, 16) == 0, task
        if name == "NoNewPrivs":
            assert value.strip() == "1"
    score = daemon.do("systemd-analyze", "security", "--no-pager", "ghesrace")
    assert float(score.split("Overall exposure level for ghesrace.service: ")[1].split()[0]) < 3.0


def rests() -> set[str]:
    lines = get(f"{DAEMON}/metrics").splitlines()
    named = [line for line in lines if line.startswith("ghesrace_verdict_rests_on{")]
    assert len(named) > 1
    return {line.split('"')[1] for line in named if line.endswith(" 1.0")}


def test_the_kernels_code_is_read_under_the_unit(daemon: Box) -> None:
    """If this fails, every window of the daemon takes on trust what it could read."""
    assert rests() == set()
    assert "resting on" not in get(f"{DAEMON}/")


def test_code_that_can_not_be_read_is_told(box: Box) -> None:
    """If this fails, a drop-in that takes capabilities away makes verdicts that nothing holds."""
    taken = "[Service]\nCapabilityBoundingSet=\nCapabilityBoundingSet=CAP_SYSLOG\n"
    file = drop_in(box, "fewer.conf", taken)
    try:
        box.run("systemctl", "reset-failed", "ghesrace")
        box.do("systemctl", "restart", "ghesrace", timeout=180)
        until(ready, 60, "ready")
        assert metric('ghesrace_source_info{backend="ftrace"') == 1
        assert rests() == {"implications"}
        assert "resting on implications" in get(f"{DAEMON}/")
    finally:
        box.run("systemctl", "stop", "ghesrace")
        file.unlink()
        box.do("systemctl", "daemon-reload")


@pytest.fixture(params=["bpf", "ftrace"])
def by_backend(box: Box, request: pytest.FixtureRequest) -> Iterator[str]:
    """The unit, started with one backend."""
    file = Path("/etc/ghesrace/ghesrace.toml")
    file.write_text(f'{CONFIG}[source]\nbackend = "{request.param}"\n')
    try:
        box.run("systemctl", "reset-failed", "ghesrace")
        begin = time.monotonic()
        box.do("systemctl", "restart", "ghesrace", timeout=400)
        until(ready, 60, "ready")
        print(f"{request.param}: started in {time.monotonic() - begin:.0f} s")
        yield request.param
    finally:
        box.run("systemctl", "stop", "ghesrace")
        file.write_text(CONFIG)
    assert leftovers() == []


def test_a_burst_is_survived_and_every_event_accounted_for(
    by_backend: str, box: Box, share: Path
) -> None:
    """If this fails, a storm ends the watch or its memory grows with it, or events are lost in
    silence; or `backend = "bpf"` does not start under the unit's limits, or can't count what it
    skips once its capabilities are gone."""
    assert metric(f'ghesrace_source_info{{backend="{by_backend}"') == 1
    first = metric("ghesrace_process_resident_memory_bytes")
    begin = time.monotonic()
    done = run_module(replace(STORM, rounds=BURST_ROUNDS))
    seconds = time.monotonic() - begin
    reads = done.summary["reads"]

    def counted() -> tuple[float, float]:
        text = get(f"{DAEMON}/metrics")
        maps = metric('ghesrace_events_total{context="irq",kind="map"}', text)
        return maps, metric("ghesrace_lost_events_total", text)

    # Each read was behind a map.
    until(lambda: sum(counted()) >= reads, 300, "a map or a loss for each read")
    until(
        lambda: metric('ghesrace_findings_total{certainty="observed",pattern="stale"') > 0,
        60,
        "a finding",
    )
    text = get(f"{DAEMON}/metrics")
    (share / f"burst-{by_backend}.txt").write_text(text)
    maps, lost = counted()
    rss = metric("ghesrace_process_resident_memory_bytes", text)
    print(
        f"{by_backend}: {reads} reads, {metric('ghesrace_events_total', text):.0f} events and "
        f"{lost:.0f} lost, {seconds:.0f} s; RSS {first / 2**20:.0f} -> {rss / 2**20:.0f} MiB"
    )
    assert maps <= reads + 100
    assert rss < 384 << 20  # MemoryHigh=
    assert ready()
    assert box.do("systemctl", "show", "-P", "NRestarts", "ghesrace").strip() == "0"
