# SPDX-License-Identifier: Apache-2.0
"""The flight recorder keeps recent batches in memory, and writes them to a capture file on a
finding.

What is kept is bounded by bytes, not by time, because the two halves of a race can be hours apart,
and `check` must find it again in the file. A file has everything in memory and then what follows
for a while. It gets its name when it is complete (folder.py keeps the folder).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ghesrace.checker.engine import Engine
from ghesrace.checker.findings import Finding
from ghesrace.errors import GhesraceError
from ghesrace.events import Events, Kind
from ghesrace.plan import Plan
from ghesrace.service.config import RecorderSettings as Settings
from ghesrace.sources.capture.file import CaptureSource, CaptureWriter

from .folder import Folder

_OVERHEAD = 256  # bytes that an array costs besides its events
_MERGE = 64 << 10  # bytes up to which small batches are put together
_RETRY_S = 10.0
_MOST_AFTER_S = 60.0  # seconds up to which new findings prolong a file
_MOST_KEYS = 4096
_ROWS = 1 << 15

FindingKey = tuple[str, str, str | None, str | None]  # pattern, severity, access, slot


def finding_key(finding: Finding) -> FindingKey:
    """Return what is equal for two findings if they are the same for the recorder. CPUs and frames
    are left out, because there are too many of them."""
    return finding.pattern, finding.severity, finding.access, finding.slot


def shown(path: Path, keys: list[FindingKey]) -> list[FindingKey]:
    """Return those of *keys* that the engine finds in the capture at *path*, as `check` would.

    Raises InputError if the capture can't be read.

        found = shown(path, [("stale", "observed", "read", "ghes:irq")])
    """
    source = CaptureSource(path)
    engine = Engine(source.plan)
    for batch in source.batches():
        engine.feed(batch)
    engine.finish()
    found = {finding_key(finding) for finding in engine.report().findings}
    return [name for name in keys if name in found]


class RecentEvents:
    """This keeps the newest batches, up to *limit* bytes in memory. The oldest are dropped first.

    >>> from ghesrace.events import mark
    >>> recent = RecentEvents(limit=1 << 20)
    >>> recent.add(mark(1)), recent.add(mark(2))  # a later mark says all that an earlier one does
    (None, None)
    >>> [batch["ts"].tolist() for batch in recent.batches()]
    [[2]]
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._batches: deque[Events] = deque()

    def add(self, batch: Events) -> None:
        """Take one batch, which ends with a MARK."""
        if self._batches:
            last = self._batches[-1]
            if (last["kind"] == Kind.MARK).all() and (batch["kind"] == Kind.MARK).all():
                self._drop(self._batches.pop())  # A later mark says all that an earlier one does.
            elif last.nbytes + batch.nbytes <= min(_MERGE, self.limit // 16):
                self._drop(self._batches.pop())
                batch = np.concatenate((last, batch))
        self._batches.append(batch)
        self.bytes += batch.nbytes + _OVERHEAD
        while self.bytes > self.limit and len(self._batches) > 1:
            self._drop(self._batches.popleft())

    def _drop(self, batch: Events) -> None:
        self.bytes -= batch.nbytes + _OVERHEAD

    def batches(self) -> list[Events]:
        """Return all batches in memory, the oldest first."""
        return list(self._batches)


@dataclass(slots=True)
class Counters:
    """The counters tell what the recorder did so far.

    `captures` were written whole; `suppressed` counts findings by why no file was begun for them,
    `errors` by cause. `verified` counts captures by whether they show their findings when they are
    read back and judged.
    """

    captures: int = 0
    suppressed: dict[str, int] = field(
        default_factory=lambda: {"repeated": 0, "rate": 0, "disabled": 0}
    )
    errors: dict[str, int] = field(
        default_factory=lambda: {"no_space": 0, "read_only": 0, "other": 0}
    )
    verified: dict[str, int] = field(default_factory=lambda: {"yes": 0, "no": 0})


@dataclass(slots=True)
class _Open:
    """This is the capture that is being written. `until` and `latest` are when it ends, and when it
    ends whatever is found (seconds of the recorder's clock)."""

    id: str
    writer: CaptureWriter
    keys: list[FindingKey]
    until: float
    latest: float


class FlightRecorder:
    """The recorder is given every batch (`add`) and every finding (`found`), and writes captures. A
    disk that refuses never makes it raise.

    *say* is called with (event, fields) for the log, and *done* with a capture's path and the keys
    of its findings. *clock* returns monotonic seconds.

        recorder = FlightRecorder(Config().recorder, source.plan, source.host, say, done)
        recorder.start()
        for batch in source.batches():
            watch.feed(batch)
            recorder.add(batch)
            recorder.found(watch.look())
            recorder.tick()
        recorder.stop()
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        host: dict[str, Any],
        say: Callable[..., None],
        done: Callable[[Path, list[FindingKey]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.memory = RecentEvents(settings.memory_mib << 20)
        self.folder = Folder(settings.directory, settings.budget_mib << 20)
        self.counters = Counters()
        self.healthy = True
        self._plan, self._host = plan, host
        self._say, self._done, self._clock = say, done, clock
        self._open: _Open | None = None
        self._wanted: dict[FindingKey, None] = {}  # found, not in a file yet; in order
        self._recorded: dict[FindingKey, float] = {}  # when a file of it was begun
        self._begun: deque[float] = deque()  # of the files of the last hour
        self._retry_at = 0.0

    def start(self) -> None:
        """Make the folder, and save what a killed run left unfinished."""
        if not self.settings.enabled:
            return
        try:
            for name in self.folder.start():
                self._say("recovered", capture=name)
        except OSError as error:
            self._failed(error, "start")

    def reload(self, settings: Settings) -> None:
        """Take over new settings. The memory and an open file stay as they are."""
        self.settings = settings
        self.folder = Folder(settings.directory, settings.budget_mib << 20)
        self.start()

    def add(self, batch: Events) -> None:
        """Take one batch (EVENT, shape (n,)), after the engine took it."""
        if self.settings.enabled:
            self.memory.add(batch)
        if self._open is not None:
            self._guarded(lambda: self._continue(batch))

    def found(self, findings: list[Finding]) -> None:
        """Take findings that are new or happened again, and begin a capture if one is wanted."""
        now = self._clock()
        for finding in findings:
            name = finding_key(finding)
            if not self.settings.enabled:
                self.counters.suppressed["disabled"] += 1
            elif name in self._wanted or self._recently(name, now) or self._holds(name):
                self.counters.suppressed["repeated"] += 1
            elif self._open is not None:  # The open file has its events already.
                self._remember(name, now)
                self._open.keys.append(name)
                self._open.until = min(now + self.settings.after_seconds, self._open.latest)
            else:
                self._wanted[name] = None
        self._begin(now)

    def tick(self) -> None:
        """Finish an open file if it is time, retry what failed, and look after the folder. Call it
        once per batch."""
        now = self._clock()
        if self._open is not None and now >= self._open.until:
            self._guarded(self._finish)
        self._begin(now)
        if self.settings.enabled and self.folder.due(now):
            error = self.folder.look(now)
            if error is not None:
                self._failed(error, "look")
            elif not self.healthy and not self._wanted:
                self.healthy = True
                self._say("recorder-recovered")

    def stop(self) -> None:
        """Finish an open file, because the run is over."""
        self._retry_at = 0.0
        self._begin(self._clock())
        if self._open is not None:
            self._guarded(self._finish)

    @property
    def pending(self) -> int:
        """This is how many findings there are whose evidence is not on the disk yet."""
        return len(self._wanted) + (len(self._open.keys) if self._open is not None else 0)

    def _holds(self, name: FindingKey) -> bool:
        return self._open is not None and name in self._open.keys

    def _recently(self, name: FindingKey, now: float) -> bool:
        return now - self._recorded.get(name, -1e18) < self.settings.repeat_seconds

    def _remember(self, name: FindingKey, now: float) -> None:
        self._recorded.pop(name, None)
        self._recorded[name] = now
        if len(self._recorded) > _MOST_KEYS:
            del self._recorded[next(iter(self._recorded))]

    def _begin(self, now: float) -> None:
        if not self._wanted or self._open is not None or now < self._retry_at:
            return
        while self._begun and now - self._begun[0] >= 3600:
            self._begun.popleft()
        if len(self._begun) >= self.settings.captures_per_hour:
            self.counters.suppressed["rate"] += len(self._wanted)
            self._wanted.clear()
            return
        self._guarded(lambda: self._write(now))

    def _write(self, now: float) -> None:
        batches = self.memory.batches()
        self.folder.make_room(self.memory.bytes)
        name = self.folder.new_id(next(iter(self._wanted))[0])
        evidence = {
            "capture": name,
            "findings": [
                {"pattern": p, "severity": s, "access": a, "slot": slot}
                for p, s, a, slot in self._wanted
            ],
        }
        host = {**self._host, "evidence": evidence}
        try:
            writer = CaptureWriter(self.folder.part(name), self._plan, host)
        except GhesraceError:
            self.folder.discard(name)
            raise
        until = now + self.settings.after_seconds
        latest = now + max(_MOST_AFTER_S, self.settings.after_seconds)
        self._open = _Open(name, writer, list(self._wanted), until, latest)
        waiting = 0
        for batch in batches:
            writer.write(batch)
            waiting += len(batch)
            if waiting >= _ROWS:  # A reader holds a whole batch, and ours has a memory limit.
                writer.flush()
                waiting = 0
        writer.flush()
        self._begun.append(now)
        for wanted in self._wanted:
            self._remember(wanted, now)
        self._wanted.clear()

    def _continue(self, batch: Events) -> None:
        assert self._open is not None
        self._open.writer.write(batch)

    def _finish(self) -> None:
        assert self._open is not None
        current = self._open
        current.writer.close()
        path = self.folder.publish(current.id)
        self._open = None
        self.counters.captures += 1
        if not self.healthy:
            self.healthy = True
            self._say("recorder-recovered")
        self._say("captured", capture=current.id, path=str(path), events=current.writer.rows)
        self._done(path, current.keys)

    def _guarded(self, act: Callable[[], None]) -> None:
        """Do *act*. If the disk refuses, drop the file and try again later from memory."""
        try:
            act()
        except (OSError, GhesraceError) as error:
            lost = self._open
            self._open = None
            if lost is not None:
                for name in lost.keys:  # Memory still holds them, so the next try writes them.
                    self._recorded.pop(name, None)
                    self._wanted[name] = None
                with suppress(OSError, GhesraceError):
                    lost.writer.close(ended_well=False)
                self.folder.discard(lost.id)
            self._failed(error, "write")

    def _failed(self, error: Exception, doing: str) -> None:
        cause = self.folder.cause(error)
        self.counters.errors[cause] += 1
        self._retry_at = self._clock() + _RETRY_S
        if self.healthy or doing == "write":
            what = error.what if isinstance(error, GhesraceError) else str(error)
            self._say("recorder-failed", cause=cause, doing=doing, error=what)
        self.healthy = False
