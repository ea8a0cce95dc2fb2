# SPDX-License-Identifier: Apache-2.0
"""The installed package under a real systemd and a real Prometheus, and what may go wrong there.

The package comes from `make deb`, which `make test` runs before; the guest has no network.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from dashboards.build import build
from lab.inside.client import Client
from lab.inside.systemd import Box
from lab.module import device
from lab.module.build import build as build_module
from lab.module.device import Parameters
from lab.module.run import run as run_module
from tests.build.paths import REPO, TRACEFS

DAEMON = "http://127.0.0.1:10049"
PROMETHEUS = "http://127.0.0.1:9090"
CAPTURES = Path("/var/lib/ghesrace/captures")
# What a guest under emulation does in seconds; tests/bench/burst.py is for 10^7 events.
STORM = Parameters(turns="free", period_us=0, linger_us=0, walker=False)
BURST_ROUNDS = 8000
# Half of an emulated CPU is a hundredth of a real one.
DROP_IN = "[Service]\nCPUQuota=\n"
CONFIG = "[recorder]\nafter_seconds = 2\nrepeat_seconds = 1\n[window]\nseconds = 20\n"


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            if found := true():
                return found
        except (OSError, urllib.error.URLError, ValueError, KeyError, IndexError):
            pass
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)


def metric(name: str, text: str | None = None) -> float:
    """Sum of the samples whose line begins with *name*."""
    lines = (text or get(f"{DAEMON}/metrics")).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def ready() -> bool:
    return get(f"{DAEMON}/-/ready") == "watching\n"


def leftovers() -> list[str]:
    found = [p.name for p in (TRACEFS / "instances").glob("ghesrace*")]
    lines = (TRACEFS / "dynamic_events").read_text().splitlines()
    return found + [line for line in lines if "ghesrace_" in line]


def race(rounds: int = 40) -> None:
    run_module(Parameters(fix="none", rounds=rounds))


def drop_in(box: Box, name: str, text: str) -> Path:
    file = Path("/etc/systemd/system/ghesrace.service.d") / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    box.do("systemctl", "daemon-reload")
    return file


@pytest.fixture(scope="module")
def deb() -> Path:
    found = sorted((REPO / "build").glob("ghesrace_*.deb"))
    assert found, "no package: run `make deb` first"
    return found[-1]


@pytest.fixture(scope="module")
def box(share: Path, deb: Path) -> Iterator[Box]:
    device.load(build_module())
    with Box(share / "systemd.log") as box:
        drop_in(box, "speed.conf", DROP_IN)
        begin = time.monotonic()
        box.do("dpkg", "-i", str(deb), timeout=300)
        print(f"installed in {time.monotonic() - begin:.0f} s")
        Path("/etc/ghesrace/ghesrace.toml").write_text(CONFIG)
        follow = ["journalctl", "-f", "-n", "all", "-u", "ghesrace", "-o", "short-precise"]
        journal = box.spawn(follow, share / "journal")
        try:
            yield box
        finally:
            box.run("systemctl", "stop", "ghesrace")
            journal.terminate()
            journal.wait()
    device.unload()


@pytest.fixture
def daemon(box: Box) -> Iterator[Box]:
    box.run("systemctl", "reset-failed", "ghesrace")
    box.do("systemctl", "start", "ghesrace", timeout=180)
    until(ready, 60, "ready")
    yield box
    box.do("systemctl", "stop", "ghesrace")
    assert leftovers() == []


@pytest.fixture
def prometheus(share: Path, tmp_path: Path) -> Iterator[None]:
    rules = (REPO / "dashboards/prometheus/rules.yml").read_text()
    # The shipped rules, but they forget in half a minute, so that the test sees it resolve.
    rules = rules.replace("[15m]", "[30s]").replace("< 900", "< 30")
    (tmp_path / "rules.yml").write_text(rules)
    (tmp_path / "prometheus.yml").write_text(
        "global: {scrape_interval: 2s, evaluation_interval: 2s}\n"
        f"rule_files: [{tmp_path}/rules.yml]\n"
        "scrape_configs:\n- job_name: ghesrace\n"
        "  static_configs: [{targets: ['127.0.0.1:10049']}]\n"
    )
    with (share / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={tmp_path}/prometheus.yml",
             f"--storage.tsdb.path={tmp_path}/data", "--enable-feature=exemplar-storage",
             "--web.listen-address=127.0.0.1:9090"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: "Ready" in get(f"{PROMETHEUS}/-/ready"), 90, "Prometheus")
        yield
    finally:
        process.terminate()
        process.wait()


def ask(path: str, **parameters: str) -> Any:
    url = f"{PROMETHEUS}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    return json.loads(get(url))["data"]


def firing() -> set[str]:
    return {a["labels"]["alertname"] for a in ask("alerts")["alerts"] if a["state"] == "firing"}


def exemplar() -> str:
    now = time.time()
    found = ask(
        "query_exemplars",
        query='ghesrace_findings_total{certainty="observed"}',
        start=str(now - 600),
        end=str(now + 10),
    )
    return str(found[0]["exemplars"][-1]["labels"]["capture_id"])


def panels() -> dict[str, bool]:
    """Panel -> whether its queries gave data."""
    answers = {}
    for name, model in build().items():
        for panel in model["panels"]:
            data = []
            for target in panel["targets"]:
                expr = target["expr"].replace("$__rate_interval", "1m")
                expr = expr.replace("$job", "ghesrace").replace("$instance", "127.0.0.1:10049")
                data += ask("query", query=expr)["result"]
            answers[f"{name}: {panel['title']}"] = bool(data)
    return answers


def test_race_fires_the_alert_whose_exemplar_names_the_evidence(
    daemon: Box, prometheus: None, firmware: Client, share: Path
) -> None:
    """If this fails, an operator who installed the package is not told of a race, or not where
    its evidence is, or the evidence proves nothing."""
    until(lambda: ask("query", query="ghesrace_watching")["result"], 30, "first scrape")
    assert "GhesraceRaceObserved" not in firing()
    firmware.report("nmi", 3)
    race()
    until(lambda: "GhesraceRaceObserved" in firing(), 60, "alert fires")
    capture = until(exemplar, 60, "exemplar")
    file = share / f"{capture}.arrows"
    file.write_bytes((CAPTURES / f"{capture}.arrows").read_bytes())
    check = [sys.executable, "-m", "ghesrace", "check", "--format", "json", str(file)]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)["findings"]
    assert any(f["severity"] == "observed" and f["slot"] == "ghes2015:irq" for f in found)
    text = get(f"{DAEMON}/metrics")
    (share / "metrics.txt").write_text(text)
    lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True,
                          text=True)  # fmt: skip
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")
    assert metric('ghesrace_events_total{context="nmi",kind="notify"}', text) >= 1
    with_data = panels()
    (share / "panels.json").write_text(json.dumps(with_data, indent=1) + "\n")
    empty = {name for name, data in with_data.items() if not data}
    # These show only what is wrong, or what was asked for.
    may_be_empty = (
        "Blind hosts",
        "Daemons that don't watch",
        "Recorders that fail",
        "Missing probe points",
        "Not supported",
        "Events by CPU",
        "What keeps it",
        "Lost",
        "Losses",
        "Missed",
    )
    assert [name for name in empty if not any(word in name for word in may_be_empty)] == []
    until(lambda: "GhesraceRaceObserved" not in firing(), 120, "alert resolves")


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


@pytest.fixture
def configured(box: Box) -> Iterator[Path]:
    """The configuration; it is as it was when the test ends."""
    file = Path("/etc/ghesrace/ghesrace.toml")
    try:
        yield file
    finally:
        box.run("systemctl", "stop", "ghesrace")
        file.write_text(CONFIG)


def test_the_page_shows_the_race_and_known_clients_get_its_evidence(
    configured: Path, daemon: Box, share: Path
) -> None:
    """If this fails, an operator sees no race where there is one, or can't fetch what shows it, or
    everybody can."""
    race()
    until(lambda: metric("ghesrace_recorder_captures_total") >= 1, 60, "a capture")
    page = until(lambda: "race-observed" in (text := get(f"{DAEMON}/")) and text, 30, "the page")
    (share / "page.html").write_text(page)
    assert 'class="dot access"' in page, "no picture"
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(f"{DAEMON}/captures")
    with refused.value as error:
        assert error.code == 403
    web = Path("/etc/ghesrace/web.yml")
    web.write_text(
        f"basic_auth_users: {{eve: '{bcrypt.hashpw(b'right', bcrypt.gensalt(4)).decode()}'}}"
    )
    configured.write_text(f'{CONFIG}[web]\nconfig_file = "{web}"\n')
    daemon.do("systemctl", "reload", "ghesrace")

    def known(path: str) -> bytes:
        token = base64.b64encode(b"eve:right").decode()
        asked = urllib.request.Request(
            f"{DAEMON}{path}", headers={"Authorization": f"Basic {token}"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return bytes(answer.read())

    def denied() -> bool:
        try:
            return not get(f"{DAEMON}/captures")
        except urllib.error.HTTPError as error:
            with error:
                return error.code == 401

    until(denied, 30, "the password is asked for")
    name = known("/captures").decode().split()[0]
    file = share / f"fetched-{name}"
    file.write_bytes(known(f"/captures/{name}"))
    assert file.read_bytes() == (CAPTURES / name).read_bytes()
    (share / "known.html").write_bytes(known("/"))
    check = [sys.executable, "-m", "ghesrace", "check", str(file)]
    assert subprocess.run(check, capture_output=True).returncode == 1


def test_an_address_that_comes_later(configured: Path, box: Box) -> None:
    """If this fails, a host whose network is slow at boot stays unwatched until somebody comes."""
    configured.write_text(f'{CONFIG}[web]\nlisten = ["127.0.0.1:10049", "192.0.2.9:10049"]\n')
    box.run("systemctl", "reset-failed", "ghesrace")
    box.do("systemctl", "restart", "--no-block", "ghesrace")  # the package starts it

    def status() -> str:
        return box.do("systemctl", "show", "-P", "StatusText", "ghesrace")

    until(lambda: "trying again" in status(), 60, "it waits")
    box.do("ip", "address", "add", "192.0.2.9/32", "dev", "lo")
    try:
        until(ready, 120, "ready")
        assert box.do("systemctl", "show", "-P", "NRestarts", "ghesrace").strip() == "0"
    finally:
        box.do("ip", "address", "del", "192.0.2.9/32", "dev", "lo")


@pytest.fixture(params=["bpf", "ftrace"])
def by_backend(box: Box, request: pytest.FixtureRequest) -> Iterator[str]:
    """The unit, started with one backend."""
    file = Path("/etc/ghesrace/ghesrace.toml")
    file.write_text(f'{CONFIG}[source]\nbackend = "{request.param}"\n')
    try:
        box.run("systemctl", "reset-failed", "ghesrace")
        begin = time.monotonic()
        box.do("systemctl", "restart", "ghesrace", timeout=400)  # the package starts it
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


def test_removal_leaves_nothing(box: Box) -> None:
    """If this fails, removing the package leaves probes, a unit or files behind."""
    box.do("systemctl", "start", "ghesrace", timeout=180)
    box.do("dpkg", "--purge", "ghesrace", timeout=120)
    assert leftovers() == []
    for path in ("/usr/lib/ghesrace", "/usr/bin/ghesrace", "/var/lib/ghesrace", "/etc/ghesrace"):
        assert not Path(path).exists(), path
    shown = box.run("systemctl", "show", "-P", "LoadState", "ghesrace").stdout.strip()
    assert shown in ("not-found", "masked")
