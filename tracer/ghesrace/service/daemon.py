# SPDX-License-Identifier: Apache-2.0
"""`ghesrace daemon` runs a source, a watch, a recorder and the metrics, for months.

One thread reads, judges, records and publishes; HTTP threads only hand out what it left. The start
is a sequence of visible steps (health.HealthState). The exit code is 0 if it was told to stop, 2 if
the configuration is bad, 3 if this host can't run it, 4 after an internal error, and 75 if it wants
to be started again, because the source is gone, the plan is out of date, or it can't listen. On a
host that can't be traced it runs on and says so, unless the configuration is strict.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ghesrace import __version__
from ghesrace.checker.findings import Finding
from ghesrace.errors import (
    EXIT_INTERNAL,
    EXIT_OK,
    GhesraceError,
    HostError,
    InputError,
    TransientError,
)
from ghesrace.events import Cause, Events, Kind, select
from ghesrace.render.live import runbook
from ghesrace.service.evidence.recorder import FindingKey, FlightRecorder, finding_key, shown
from ghesrace.service.metrics import textfile
from ghesrace.service.metrics.access import WebConfig
from ghesrace.service.metrics.captures import Captures
from ghesrace.service.metrics.families import Exemplars, publish
from ghesrace.service.metrics.server import Bulletin, Page, WebServer
from ghesrace.sources import StoppableSource

from . import config
from .config import Config
from .health import Clocks, Health, HealthState, cpus_online
from .heap import Heap
from .journal import Log
from .page import LastSeen, status, told, told_without
from .sdnotify import Notifier
from .startup import Attach, Untraceable, attach_host
from .watch import Watch

EXIT_AGAIN = 75  # EX_TEMPFAIL, sysexits.h
STALE_S = 15.0  # Without a batch for so long the engine has stalled; a quiet host has one a second.
# So long it tries to listen. Five starts in a row then take longer than StartLimitIntervalSec= of
# the unit, so that systemd never gives up on an address that comes late.
LISTEN_S = 90.0
_MOST_WAIT_S = 15.0
_PUBLISH_S = 1.0


def clean_up() -> None:
    """Remove the instances and probes of runs that were killed, and print their names. Raises
    HostError if tracefs can't be changed.

        clean_up()  # takes root
    """
    from ghesrace.host.facts import find_tracefs
    from ghesrace.sources.tracefs import TRACEFS, remove_strays

    for name in remove_strays(find_tracefs() or TRACEFS):
        print(f"removed {name}")


def run(path: Path | None) -> int:
    """Run until SIGTERM or SIGINT, and return the exit code. Raises UsageError, before anything is
    attached, if the configuration is wrong.

        sys.exit(run(Path("ghesrace.toml")))
    """
    settings = config.load_or_default(path)
    log = Log(settings.log.level, journald="JOURNAL_STREAM" in os.environ)
    return Daemon(settings, path, log, Notifier()).run()


class Daemon:
    """A daemon object is one run of the daemon. *path* is the configuration that a reload reads
    again, and *attach* makes the source (startup.attach_host).

        code = Daemon(settings, path, Log(), Notifier()).run()
    """

    def __init__(
        self,
        settings: Config,
        path: Path | None,
        log: Log,
        notifier: Notifier,
        attach: Attach = attach_host,
    ) -> None:
        self._attach = attach
        self.settings = settings
        self.path = path
        self.log = log
        self.notify = notifier
        self.health = Health()
        self.exemplars = Exemplars()
        self.web = WebConfig(settings.web.config_file)
        kept = Captures(settings.recorder.directory)
        self.board = Bulletin(self._healthy, self._ready, settings.web.runbooks, kept)
        self.board.codes = self.health.http
        self._beat = time.monotonic()
        self._stop = threading.Event()
        self._reload = threading.Event()
        self._again: str | None = None
        self._source: StoppableSource | None = None
        self._logged: dict[FindingKey, float] = {}
        self._seen = LastSeen()
        self._clocks = Clocks()
        self._heap = Heap()
        self._online = cpus_online()
        self._web_error: str | None = None
        self._textfile_at = self._published_at = 0.0
        self._textfile_ok = True

    # -- the whole run -------------------------------------------------------------------

    def run(self) -> int:
        """Run until told to stop, and return the exit code."""
        self.log.say("start", version=__version__, pid=os.getpid())
        self._say_ignored()
        code = EXIT_INTERNAL
        try:
            with ExitStack() as stack:
                stack.enter_context(self._signals())
                self._listen(stack)
                try:
                    self._source = source = self._attach(
                        stack,
                        self.settings.source,
                        self.health,
                        self.enter,
                        self.log,
                        self._stop.is_set,
                    )
                except Untraceable as error:
                    code = self._say_so(stack, error)
                else:
                    watch, recorder = self._start(stack, source)
                    code = self._watch(watch, recorder, source)
        except TransientError as error:
            self.log.say("failed", "error", error=error.what, hint=error.hint)
            code = EXIT_AGAIN
        except InputError as error:  # It is our own batch that is wrong, and no input of the user.
            self.log.say("internal-error", "error", error=error.what)
            code = EXIT_INTERNAL
        except GhesraceError as error:
            self.log.say("failed", "error", error=error.what, hint=error.hint)
            code = error.exit_code
        if self._stop.is_set() and code == EXIT_AGAIN:
            code = EXIT_OK
        self.log.say("end", exit_code=code)
        return code

    def enter(self, state: HealthState, text: str) -> None:
        """Begin a step, which log, status and metrics show."""
        self.health.state = state
        self.log.say("state", state=state, text=text)
        if state not in (HealthState.WATCHING, HealthState.UNSUPPORTED, HealthState.STOPPING):
            self.notify.starting(text)

    def _listen(self, stack: ExitStack) -> None:
        """Open the addresses, again and again for LISTEN_S. Nothing is answered yet, because
        privileges are only given up while there is one thread."""
        self.enter(HealthState.LISTEN, "opening the addresses of the metrics")
        end, wait = time.monotonic() + LISTEN_S, 1.0
        addresses, web = config.addresses(self.settings), self.settings.web
        while True:
            try:
                self.server = WebServer(addresses, self.board, self.web, web.connections)
                break
            except TransientError as error:
                if time.monotonic() + wait > end:
                    raise
                self.log.say("cant-listen", "warning", error=error.what, again_in_s=wait)
                self.notify.starting(f"{error.what}: trying again in {wait:.0f} s")
                if self._stop.wait(wait):
                    raise
                wait = min(2 * wait, _MOST_WAIT_S)
        stack.callback(self.server.close)

    def _start(self, stack: ExitStack, source: StoppableSource) -> tuple[Watch, FlightRecorder]:
        watch = Watch(source.plan, self.settings.window.seconds)
        recorder = FlightRecorder(
            self.settings.recorder, source.plan, source.host, self._say_recorder, self._captured
        )
        recorder.start()
        stack.callback(self._end, watch, recorder)  # It also runs when the source goes away.
        self._verified = recorder.counters.verified
        self._publish(watch, recorder, now=True)
        self.server.serve()
        return watch, recorder

    def _say_so(self, stack: ExitStack, error: Untraceable) -> int:
        """Run until told to stop on a host that can't be traced, so that metrics, page and status
        say so."""
        self.health.unsupported = error.what
        self.log.say("unsupported", "error", error=error.what, hint=error.hint)
        stack.callback(self._end, None, None)
        self.enter(HealthState.UNSUPPORTED, error.what)
        self._publish(None, None, now=True)
        self.server.serve()
        self.notify.ready()
        while not self._stop.wait(_PUBLISH_S):
            self.notify.progress()
            if self._reload.is_set():
                self._reload.clear()
                self._take_over(None, None)
            self._publish(None, None, now=True)
        return EXIT_OK

    def _end(self, watch: Watch | None, recorder: FlightRecorder | None) -> None:
        """Finish what has begun, and write a last textfile which says that nobody watches."""
        self.enter(HealthState.STOPPING, "stopping")
        self.notify.stopping()
        if recorder is not None:
            recorder.stop()
        self._publish(watch, recorder, now=True)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, _frame: Any) -> None:
            self._stop.set()
            if self._source is not None:
                self._source.stop()

        def reload(number: int, _frame: Any) -> None:
            self._reload.set()

        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
        before = {number: signal.signal(number, to) for number, to in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # -- watching ------------------------------------------------------------------------

    def _watch(self, watch: Watch, recorder: FlightRecorder, source: StoppableSource) -> int:
        self.enter(HealthState.WATCHING, "watching")
        # The page still says that we do not watch. The first batch renews it.
        self._published_at = 0.0
        self.notify.ready()
        batches = source.batches()
        while True:
            begin = time.thread_time()
            batch = next(batches, None)
            self.health.cpu_source += time.thread_time() - begin
            if batch is None:
                break
            watch.feed(batch)
            begin = time.thread_time()
            recorder.add(batch)
            self.health.cpu_record += time.thread_time() - begin
            self.health.late = source.counters.get("late", 0)
            self._round(watch, recorder, batch)
            if self._stop.is_set() or self._again:
                source.stop()
        watch.finish()
        self._news(watch, recorder, watch.look(now=True))
        if self._again and not self._stop.is_set():
            self.log.say("again", "warning", why=self._again)
            return EXIT_AGAIN
        return EXIT_OK

    def _round(self, watch: Watch, recorder: FlightRecorder, batch: Events) -> None:
        """Do what follows each batch."""
        self._beat = time.monotonic()
        self.health.heartbeat = time.time()
        self.notify.progress()
        self._news(watch, recorder, watch.look())
        begin = time.thread_time()
        recorder.tick()
        self.health.cpu_record += time.thread_time() - begin
        self._look_at_host(batch)
        if self._reload.is_set():
            self._reload.clear()
            self._take_over(watch, recorder)
        self._publish(watch, recorder)

    def _news(self, watch: Watch, recorder: FlightRecorder, findings: list[Finding]) -> None:
        if not findings:
            return
        now = time.monotonic()
        for finding in findings:
            name = finding_key(finding)
            if now - self._logged.get(name, -1e18) < self.settings.recorder.repeat_seconds:
                continue
            self._logged.pop(name, None)
            self._logged[name] = now
            if len(self._logged) > 4096:
                del self._logged[next(iter(self._logged))]
            self.log.say(
                "finding",
                "error" if finding.severity == "observed" else "warning",
                pattern=finding.pattern,
                severity=finding.severity,
                slot=finding.slot or "-",
                access=finding.access or "-",
                cpus=",".join(map(str, finding.cpus)),
                count=finding.count,
                explanation=finding.explanation,
                runbook=f"{self.settings.web.runbooks}/{runbook(finding.severity)}.md",
            )
        recorder.found(findings)
        self._seen.note(findings, time.time())

    def _look_at_host(self, batch: Events) -> None:
        for event, seconds in self._clocks.look(self.health):
            self.log.say(event, "warning", seconds=seconds)
        online = cpus_online()
        if online != self._online:
            self.log.say("cpus", "warning", online=online, before=self._online)
            self._online = online
        self._heap.look()
        if (select(batch, Kind.LOSS)["cause"] == Cause.UNWATCHED).any():
            self._again = "a module brought GHES functions that have no probes: planning anew"

    # -- configuration -------------------------------------------------------------------

    def _take_over(self, watch: Watch | None, recorder: FlightRecorder | None) -> None:
        self.notify.reloading()
        try:
            settings, fixed = config.keep_fixed(self.settings, config.load_or_default(self.path))
            web = WebConfig(settings.web.config_file)
        except GhesraceError as error:
            self.health.reload_failures += 1
            self.health.reload_ok = False
            self.log.say("reload-refused", "error", error=error.what, hint=error.hint)
        else:
            for name in fixed:
                self.log.say("needs-restart", "warning", key=name)
            self.settings, self.web = settings, web
            self.log.level = settings.log.level
            self.board.runbooks = settings.web.runbooks
            self.board.captures.directory = settings.recorder.directory
            self._say_ignored()
            self.server.reload(web)
            if watch is not None and recorder is not None:
                watch.window_s = settings.window.seconds
                recorder.reload(settings.recorder)
            self.health.reloads += 1
            self.health.reload_ok = True
            self.log.say("reloaded")
        self.notify.ready()

    def _say_ignored(self) -> None:
        for what in self.web.access().ignored:
            self.log.say("web-config-ignored", "warning", what=what)

    # -- telling -------------------------------------------------------------------------

    def _publish(
        self, watch: Watch | None, recorder: FlightRecorder | None, *, now: bool = False
    ) -> None:
        moment = time.monotonic()
        if not now and moment - self._published_at < _PUBLISH_S:
            return
        self._published_at = moment
        begin = time.thread_time()
        per_cpu = self.settings.metrics.per_cpu
        made = publish(watch, self.health, recorder, self.exemplars, per_cpu=per_cpu)
        if watch is not None and recorder is not None:
            page = told(watch, self.health, recorder, self._seen, self.web.error)
        else:
            page = told_without(self.health, self.web.error)
        self.board.page = Page(made, page)
        if self.health.state in (HealthState.WATCHING, HealthState.UNSUPPORTED):
            self.notify.status(status(page, watch))
        if self.web.error != self._web_error:
            self._web_error = self.web.error
            if self._web_error:
                self.log.say("web-config-refused", "error", error=self._web_error)
        if self.settings.textfile.directory and (now or moment >= self._textfile_at):
            self._textfile_at = moment + self.settings.textfile.seconds
            self._write_textfile(made)
        self.health.cpu_publish += time.thread_time() - begin

    def _write_textfile(self, made: Any) -> None:
        try:
            textfile.write(Path(self.settings.textfile.directory), made)
        except HostError as error:
            if self._textfile_ok:
                self.log.say("textfile-failed", "error", error=error.what)
            self._textfile_ok = False
        else:
            self._textfile_ok = True

    def _healthy(self) -> tuple[bool, str]:
        age = time.monotonic() - self._beat
        if age > STALE_S and self.health.state is HealthState.WATCHING:
            return False, f"the engine stands still: no batch for {age:.0f} s"
        return True, f"{self.health.state}"

    def _ready(self) -> tuple[bool, str]:
        good, why = self._healthy()
        if self.health.unsupported:
            return False, f"this host can't be traced: {self.health.unsupported}"
        if not good or self.health.state is not HealthState.WATCHING:
            return False, why
        return True, "watching"

    def _say_recorder(self, event: str, **fields: object) -> None:
        self.log.say(event, "error" if event == "recorder-failed" else "info", **fields)

    def _captured(self, path: Path, keys: list[FindingKey]) -> None:
        """Name a capture that was written in the exemplars, and find out in a thread whether it
        shows its findings."""
        for pattern, severity, _, _ in keys:
            self.exemplars.add(pattern, severity, path.stem)
        threading.Thread(target=self._verify, args=(path, keys), daemon=True).start()

    def _verify(self, path: Path, keys: list[FindingKey]) -> None:
        try:
            found = shown(path, keys)
            missing = [name for name in keys if name not in found]
        except GhesraceError as error:
            self.log.say("capture-unreadable", "error", capture=path.stem, error=error.what)
            missing = keys
        good = not missing
        self._verified["yes" if good else "no"] += 1
        self.log.say("verified", "info" if good else "warning", capture=path.stem, reproduced=good)
