# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on a host: crashes, full disks, other tracers, CPUs, networks, typing errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.inside.systemd import Box
from tests.build.installed import (
    CAPTURES,
    CONFIG,
    drop_in,
    leftovers,
    metric,
    race,
    ready,
    until,
)
from tests.build.paths import TRACEFS


def test_an_address_that_comes_later(configured: Path, box: Box) -> None:
    """If this fails, a host whose network is slow at boot stays unwatched until somebody comes."""
    configured.write_text(f'{CONFIG}[web]\nlisten = ["127.0.0.1:10049", "192.0.2.9:10049"]\n')
    box.run("systemctl", "reset-failed", "ghesrace")
    box.do("systemctl", "restart", "--no-block", "ghesrace")

    def status() -> str:
        return box.do("systemctl", "show", "-P", "StatusText", "ghesrace")

    until(lambda: "trying again" in status(), 60, "it waits")
    box.do("ip", "address", "add", "192.0.2.9/32", "dev", "lo")
    try:
        until(ready, 120, "ready")
        assert box.do("systemctl", "show", "-P", "NRestarts", "ghesrace").strip() == "0"
    finally:
        box.do("ip", "address", "del", "192.0.2.9/32", "dev", "lo")


def test_kill_9_and_a_stalled_engine_end_in_a_restart(box: Box, share: Path) -> None:
    """If this fails, a crash or a hang leaves a host unwatched, or probes behind."""
    override = drop_in(box, "watchdog.conf", "[Service]\nWatchdogSec=8\n")
    box.do("systemctl", "start", "ghesrace", timeout=180)
    until(ready, 60, "ready")
    blind = {}
    for how, number in (("KILL", 1), ("STOP", 2)):
        started = metric("ghesrace_start_timestamp_seconds")
        beat = until(lambda: metric("ghesrace_heartbeat_timestamp_seconds"), 20, "a batch")
        box.do("systemctl", "kill", "-s", how, "ghesrace")
        until(
            lambda since=started: ready() and metric("ghesrace_start_timestamp_seconds") > since,
            120,
            f"restart after SIG{how}",
        )
        again = until(lambda: metric("ghesrace_heartbeat_timestamp_seconds"), 20, "a batch")
        blind[how] = again - beat
        assert 0 < blind[how] < 120
        restarts = box.do("systemctl", "show", "-P", "NRestarts", "ghesrace")
        assert int(restarts) == number
        assert len(list((TRACEFS / "instances").glob("ghesrace*"))) == 1
    (share / "blind.json").write_text(json.dumps(blind) + "\n")
    override.unlink()
    box.do("systemctl", "daemon-reload")
    box.do("systemctl", "stop", "ghesrace")
    assert leftovers() == []


def test_kill_9_without_a_restart_leaves_nothing(box: Box) -> None:
    """If this fails, stopping the unit after a crash leaves probes in the kernel for good."""
    box.do("systemctl", "start", "ghesrace", timeout=180)
    until(ready, 60, "ready")
    assert leftovers()
    box.do("systemctl", "kill", "-s", "KILL", "ghesrace")
    box.do("systemctl", "stop", "ghesrace")
    assert leftovers() == []


def test_disk_full_then_read_only_then_room(box: Box) -> None:
    """If this fails, a disk that refuses ends the watch, or costs evidence for good."""
    box.do("mount", "-t", "tmpfs", "-o", "size=16k,mode=750", "tmpfs", str(CAPTURES))
    try:
        _refused_and_taken(box)
    finally:
        box.do("systemctl", "stop", "ghesrace")
        box.do("umount", str(CAPTURES))


def _refused_and_taken(box: Box) -> None:
    box.do("systemctl", "start", "ghesrace", timeout=180)
    until(ready, 60, "ready")
    race()
    until(lambda: metric('ghesrace_recorder_errors_total{cause="no_space"}') >= 1, 60, "full")
    assert metric("ghesrace_recorder_healthy") == 0
    until(lambda: metric("ghesrace_findings_total") > 0, 60, "found")
    assert ready()
    box.do("mount", "-o", "remount,ro,size=64m", str(CAPTURES))
    until(lambda: metric('ghesrace_recorder_errors_total{cause="read_only"}') >= 1, 60, "ro")
    box.do("mount", "-o", "remount,rw,size=64m", str(CAPTURES))
    until(lambda: metric('ghesrace_recorder_verified_total{reproduced="yes"}') >= 1, 60, "room")
    assert metric("ghesrace_recorder_healthy") == 1


def test_blind_and_seeing_again(daemon: Box) -> None:
    """If this fails, a daemon whose probes were switched off looks quiet."""
    until(lambda: metric("ghesrace_probe_points_attached") > 10, 20, "the first batch")
    attached = metric("ghesrace_probe_points_attached")
    switch = Path("/proc/sys/kernel/ftrace_enabled")
    switch.write_text("0")
    try:
        until(lambda: metric("ghesrace_probe_points_attached") == 0, 20, "blind")
        assert metric('ghesrace_window_reason{reason="probe-failed"}') == 1
    finally:
        switch.write_text("1")
    until(lambda: metric("ghesrace_probe_points_attached") == attached, 20, "seeing")


def test_instance_in_use_can_not_be_removed_and_switching_it_off_is_noticed(daemon: Box) -> None:
    """If this fails, somebody's clean-up of tracefs makes the daemon blind without a word."""
    [instance] = (TRACEFS / "instances").glob("ghesrace*")
    with pytest.raises(OSError, match="busy"):
        instance.rmdir()
    (instance / "tracing_on").write_text("0")
    until(lambda: metric("ghesrace_probe_points_attached") == 0, 20, "blind")
    (instance / "tracing_on").write_text("1")
    until(lambda: metric("ghesrace_probe_points_attached") > 10, 20, "seeing")


def test_another_tracer_of_the_same_functions_takes_nothing(daemon: Box) -> None:
    """If this fails, a function tracer beside us hides a race."""
    before = metric("ghesrace_findings_total")
    functions = ["ghes_copy_tofrom_phys", "native_set_fixmap", "flush_tlb_one_kernel"]
    (TRACEFS / "set_ftrace_filter").write_text("\n".join(functions))
    (TRACEFS / "current_tracer").write_text("function")
    try:
        race()
        until(lambda: metric("ghesrace_findings_total") > before, 30, "finding")
    finally:
        (TRACEFS / "current_tracer").write_text("nop")
        (TRACEFS / "set_ftrace_filter").write_text("")
    assert ready()


def test_cpu_offline_and_online_is_accounted(daemon: Box) -> None:
    """If this fails, a CPU that came up is not read (the daemon has no capability left), or what
    it did before is not a loss."""
    online = Path("/sys/devices/system/cpu/cpu1/online")
    online.write_text("0")
    try:
        until(lambda: metric("ghesrace_host_cpus_online") == 1, 20, "offline")
    finally:
        online.write_text("1")
    until(lambda: metric('ghesrace_losses_total{cause="cpu_online"') == 1, 20, "loss")
    before = metric("ghesrace_events_total")
    race(10)
    until(lambda: metric("ghesrace_events_total") > before, 20, "events")
    assert ready()


def test_broken_reload_keeps_the_old_configuration(daemon: Box) -> None:
    """If this fails, a typo and a reload stop the watch."""
    file = Path("/etc/ghesrace/ghesrace.toml")
    file.write_text("[recoder]\n")
    try:
        daemon.do("systemctl", "reload", "ghesrace")
        until(lambda: metric("ghesrace_config_reload_failures_total") == 1, 20, "refused")
        assert ready()
    finally:
        file.write_text(CONFIG)
    daemon.do("systemctl", "reload", "ghesrace")
    until(lambda: metric("ghesrace_config_last_reload_successful") == 1, 20, "taken over")
