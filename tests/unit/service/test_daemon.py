# SPDX-License-Identifier: Apache-2.0
"""The daemon on a made-up source: states, signals, reload, exit codes, what systemd hears."""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ghesrace.errors import HostError, TransientError
from ghesrace.events import Cause, Events, Kind, empty, loss, mark
from ghesrace.service import config
from ghesrace.service.daemon import EXIT_AGAIN, STALE_S, Daemon
from ghesrace.service.evidence.recorder import shown
from ghesrace.service.health import (
    Health,
    HealthState,
)
from ghesrace.service.journal import Log
from ghesrace.service.sdnotify import Notifier
from ghesrace.service.startup import Untraceable
from tests.build.trace import A, B, Trace, plan

pytestmark = pytest.mark.slow

Rest = Callable[[int], Events | None]


class Live:
    """A source that plays a race, then quiet batches; *extra* adds to batch number n."""

    def __init__(self, extra: Rest | None = None, race: bool = True) -> None:
        self.plan, self.host = plan(), {"arch": "x86_64", "release": "test"}
        self.counters: Counter[str] = Counter(late=2)
        self._extra, self._race = extra, race
        self._stopped = threading.Event()
        self.left = False

    def stop(self) -> None:
        self._stopped.set()

    def batches(self) -> Iterator[Events]:
        trace, number, final = Trace(time.monotonic_ns()), 0, False
        while not final:
            final = self._stopped.wait(0.02)
            number += 1
            if self._race and number == 3:
                for cpu, frame in ((0, A), (1, B)):
                    trace.report(cpu, frame)
            parts = [*trace.records, empty()]
            trace.records.clear()
            trace.now += 2_000_000_000
            more = self._extra(number) if self._extra else None
            yield np.concatenate([*parts, more if more is not None else empty(), mark(trace.now)])


class Manager:
    """What systemd would hear."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self.lines: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with self._socket:
            while (text := self._socket.recv(4096).decode()) != "END":
                self.lines += text.splitlines()

    def heard(self) -> list[str]:
        """Everything that was said; nobody listens any more."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"END", self.path)
        self._thread.join()
        return self.lines


class Rig:
    """A daemon in a thread of the test, driven by *script* from another one."""

    def __init__(self, tmp_path: Path, source: Live, **text: str) -> None:
        self.file = tmp_path / "ghesrace.toml"
        self.configure(tmp_path, **text)
        self.manager = Manager(tmp_path)
        self.log = io.StringIO()
        self.source = source
        environment = {"NOTIFY_SOCKET": self.manager.path, "WATCHDOG_USEC": "400000"}
        self.daemon = Daemon(
            config.load(self.file),
            self.file,
            Log("debug", self.log),
            Notifier(environment),
            self.attach,
        )

    def configure(self, tmp_path: Path, more: str = "", window: str = "3600") -> None:
        self.file.write_text(
            f'[recorder]\ndirectory = "{tmp_path}/captures"\nafter_seconds = 0.1\n'
            f'[web]\nlisten = ["127.0.0.1:0"]\n[window]\nseconds = {window}\n{more}'
        )

    def attach(self, stack: ExitStack, settings: Any, health: Health, *rest: Any) -> Live:
        health.backend = "fake"
        stack.callback(lambda: setattr(self.source, "left", True))
        return self.source

    def run(self, script: Callable[[], None], wanted: HealthState = HealthState.WATCHING) -> int:
        failed: list[BaseException] = []

        def act() -> None:
            try:
                until(lambda: self.daemon.health.state is wanted)
                script()
            except BaseException as error:
                failed.append(error)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=act)
        thread.start()
        code = self.daemon.run()
        thread.join()
        if failed:
            raise failed[0]
        return code

    def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.daemon.server.ports[0]}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _patient() -> Iterator[None]:
    """A stray SIGTERM of a failed script must not kill pytest."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, before)


def test_finding_is_told_everywhere_and_sigterm_ends_it_well(tmp_path: Path) -> None:
    """If this fails, the race appears and metrics, log, evidence or systemd don't know."""
    rig = Rig(tmp_path, Live())

    def script() -> None:
        until(lambda: 'reproduced="yes"} 1.0' in rig.get("/metrics")[1])
        text = rig.get("/metrics")[1]
        assert 'ghesrace_supported{reason=""} 1.0' in text
        assert 'ghesrace_findings_total{certainty="observed",pattern="stale"} 1.0' in text
        assert 'ghesrace_window_verdict{verdict="race-observed"} 1.0' in text
        assert "ghesrace_late_events_total 2.0" in text
        assert rig.get("/-/ready") == (200, "watching\n")
        assert "race-observed" in rig.get("/")[1]
        until(lambda: any("race-observed" in line for line in rig.manager.lines))

    assert rig.run(script) == 0
    lines = rig.manager.heard()
    assert rig.source.left
    assert "READY=1" in lines
    assert lines.count("WATCHDOG=1") >= 2
    assert lines.index("READY=1") < lines.index("STOPPING=1")
    [capture] = (tmp_path / "captures").glob("*.arrows")
    key = ("stale", "observed", "read", "irq")
    assert shown(capture, [key]) == [key]
    log = rig.log.getvalue()
    assert log.count(": finding ") + log.count("error: finding") >= 1
    assert f"capture={capture.stem}" in log
    assert "end exit_code=0" in log


def test_reload_takes_over_and_a_broken_one_keeps_the_old(tmp_path: Path) -> None:
    """If this fails, a typo stops the watch, or an operator believes in a change that is not."""
    rig = Rig(tmp_path, Live(race=False))

    def script() -> None:
        rig.file.write_text("[recoder]\n")
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: rig.daemon.health.reload_failures == 1)
        assert rig.daemon.settings.window.seconds == 3600
        rig.configure(tmp_path, window="60", more="[source]\nstrict = true\n")
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: rig.daemon.health.reloads == 1)
        assert rig.daemon.settings.window.seconds == 60
        assert not rig.daemon.settings.source.strict
        until(lambda: "ghesrace_config_reloads_total 1.0" in rig.get("/metrics")[1])
        text = rig.get("/metrics")[1]
        assert "ghesrace_config_reload_failures_total 1.0" in text
        assert "ghesrace_config_last_reload_successful 1.0" in text

    assert rig.run(script) == 0
    log = rig.log.getvalue()
    assert "[recorder]?" in log
    assert "needs-restart key=source" in log
    heard = rig.manager.heard()
    assert heard.count("RELOADING=1") == 2
    assert heard.count("READY=1") == 3


def test_a_module_that_was_not_planned_for_ends_in_another_start(tmp_path: Path) -> None:
    """If this fails, the daemon watches an old plan while a module maps GHES pages unseen."""

    def unwatched(number: int) -> Events | None:
        return loss(1, 2, Cause.UNWATCHED) if number == 10 else None

    rig = Rig(tmp_path, Live(unwatched))
    assert rig.daemon.run() == EXIT_AGAIN
    assert "planning anew" in rig.log.getvalue()
    assert list((tmp_path / "captures").glob("*.arrows"))  # what was found is kept


def test_source_that_goes_away_ends_in_another_start(tmp_path: Path) -> None:
    """If this fails, the daemon stays up and blind when its tracing instance is removed."""

    def gone(number: int) -> Events | None:
        if number == 20:
            raise TransientError("the instance is gone", "start again")
        return None

    rig = Rig(tmp_path, Live(gone))
    assert rig.daemon.run() == EXIT_AGAIN
    assert 'error="the instance is gone"' in rig.log.getvalue()
    [capture] = (tmp_path / "captures").iterdir()  # what was begun is finished
    key = ("stale", "observed", "read", "irq")
    assert shown(capture, [key]) == [key]


@pytest.mark.parametrize(
    ("error", "code"), [(HostError("no kprobes"), 3), (TransientError("busy"), EXIT_AGAIN)]
)
def test_exit_codes_of_a_failed_start(tmp_path: Path, error: Exception, code: int) -> None:
    """If this fails, systemd restarts what can't work, or leaves down what would."""
    rig = Rig(tmp_path, Live())

    def refuse(*_: Any) -> Live:
        raise error

    rig.daemon._attach = refuse
    assert rig.daemon.run() == code


def test_stalled_engine_is_neither_healthy_nor_fed(tmp_path: Path) -> None:
    """If this fails, a daemon that hangs looks alive: to the probe, or to the watchdog."""
    rig = Rig(tmp_path, Live())
    rig.daemon.health.state = HealthState.WATCHING
    assert rig.daemon._healthy()[0]
    rig.daemon._beat -= STALE_S + 1
    assert not rig.daemon._healthy()[0]
    assert not rig.daemon._ready()[0]
    assert "WATCHDOG=1" not in rig.manager.heard()  # only a batch feeds it


def test_textfile_follows_and_ends_with_not_watching(tmp_path: Path) -> None:
    """If this fails, node_exporter tells of a living daemon long after it ended."""
    (tmp_path / "text").mkdir()
    rig = Rig(tmp_path, Live(), more=f'[textfile]\ndirectory = "{tmp_path}/text"\n')
    file = tmp_path / "text" / "ghesrace.prom"
    assert rig.run(lambda: until(file.exists)) == 0
    text = file.read_text()
    assert "ghesrace_watching 0.0" in text
    assert 'ghesrace_state{state="stopping"} 1.0' in text


def test_marks_only_is_quiet(tmp_path: Path) -> None:
    """If this fails, a quiet host's window is clean, or its daemon not ready."""
    rig = Rig(tmp_path, Live(race=False))

    def script() -> None:
        until(lambda: rig.daemon.health.heartbeat > 0)
        until(lambda: 'reason="no-traffic"} 1.0' in rig.get("/metrics")[1])
        assert rig.get("/-/ready")[0] == 200

    assert rig.run(script) == 0
    assert not list((tmp_path / "captures").iterdir())
    assert Kind.MARK > Kind.LOSS


def test_the_status_says_what_the_verdict_rests_on(tmp_path: Path) -> None:
    """If this fails, a host whose kernel code could not be read is called clean as if it was."""
    source = Live(race=False)
    source.plan = replace(source.plan, unknowns=("implications",))
    rig = Rig(tmp_path, source)
    told = "inconclusive, resting on implications (no-traffic)"

    def script() -> None:
        until(lambda: "inconclusive, resting on implications</h1>" in rig.get("/")[1])
        assert "<li>no-traffic" in rig.get("/")[1]
        until(lambda: any(told in line for line in rig.manager.lines))

    assert rig.run(script) == 0
    rig.manager.heard()


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """A port of somebody else."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other


def occupied(tmp_path: Path, other: socket.socket) -> Rig:
    rig = Rig(tmp_path, Live(race=False))
    web = config.WebSettings(listen=(f"127.0.0.1:{other.getsockname()[1]}",))
    rig.daemon.settings = msgspec.structs.replace(rig.daemon.settings, web=web)
    return rig


def test_an_address_that_comes_later_works(tmp_path: Path, taken: socket.socket) -> None:
    """If this fails, a host whose network is slow at boot is never scraped, or never watched."""
    rig = occupied(tmp_path, taken)
    begin = time.monotonic()
    threading.Timer(0.5, taken.close).start()
    assert rig.run(lambda: until(lambda: rig.get("/-/ready")[0] == 200)) == 0
    assert time.monotonic() - begin < 10
    assert "cant-listen" in rig.log.getvalue()
    assert any("trying again in 1 s" in line for line in rig.manager.heard())


def test_an_address_that_never_comes_is_another_start(
    tmp_path: Path, taken: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, systemd gives up on a port that is only busy; or probes come and go for
    nothing while it is."""
    monkeypatch.setattr("ghesrace.service.daemon.LISTEN_S", 2.5)
    rig = occupied(tmp_path, taken)
    rig.daemon._attach = lambda *_: pytest.fail("attached before it listens")
    assert rig.daemon.run() == EXIT_AGAIN
    log = rig.log.getvalue()
    assert log.count("cant-listen") == 1  # after a second, then two more would be too long
    assert "web.listen" in log


def test_sigterm_while_it_waits_for_an_address(tmp_path: Path, taken: socket.socket) -> None:
    """If this fails, `systemctl stop` hangs and ends in SIGKILL."""
    rig = occupied(tmp_path, taken)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    begin = time.monotonic()
    assert rig.daemon.run() == 0
    assert time.monotonic() - begin < 5


def untraceable(tmp_path: Path, **text: str) -> Rig:
    rig = Rig(tmp_path, Live(), **text)

    def refuse(*_: Any) -> Live:
        raise Untraceable("it has no kprobes", "run `ghesrace doctor`")

    rig.daemon._attach = refuse
    return rig


def test_a_host_that_can_not_be_traced_runs_on_and_says_so(tmp_path: Path) -> None:
    """If this fails, a fleet's unsupported hosts look down, or blind, or watched."""
    (tmp_path / "text").mkdir()
    rig = untraceable(tmp_path, more=f'[textfile]\ndirectory = "{tmp_path}/text"\n')
    texts: list[str] = []

    def script() -> None:
        until(lambda: rig.get("/metrics")[0] == 200)
        texts.append(rig.get("/metrics")[1])
        assert rig.get("/-/healthy")[0] == 200
        status, why = rig.get("/-/ready")
        assert (status, "it has no kprobes" in why) == (503, True)
        assert "it has no kprobes" in rig.get("/")[1]
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: rig.daemon.health.reloads == 1)
        until(lambda: "WATCHDOG=1" in rig.manager.lines)

    assert rig.run(script, HealthState.UNSUPPORTED) == 0
    lines = rig.manager.heard()
    assert lines.index("READY=1") < lines.index("STOPPING=1")
    assert any("NOT WATCHING" in line and "no kprobes" in line for line in lines)
    for text in (*texts, (tmp_path / "text" / "ghesrace.prom").read_text()):
        assert 'ghesrace_supported{reason="it has no kprobes"} 0.0' in text
        assert "ghesrace_watching 0.0" in text
        # What GhesraceBlind asks for is not there.
        for name in ("heartbeat", "probe_points", "window_verdict"):
            assert f"ghesrace_{name}" not in text
    assert not (tmp_path / "captures").exists()
