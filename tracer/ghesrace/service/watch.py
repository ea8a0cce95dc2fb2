# SPDX-License-Identifier: Apache-2.0
"""A watch judges a live stream. It has an engine for good, one for the running window, and the
tally.

The engine that runs from start to stop finds and counts, however far apart the two halves of a
race are. Its verdict can only get worse, so after one lost event it says nothing more about
today. The verdict of the running window is therefore that of a second engine, which takes over what
the first one judged and is replaced when the window is over. What the first one found in the window
makes that verdict worse.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ghesrace.checker.engine import Engine
from ghesrace.checker.findings import Finding
from ghesrace.checker.report import Report, Verdict
from ghesrace.events import Events, Kind, empty, joined, promised
from ghesrace.plan import Plan

from .tally import Tally

# Asking for a report costs more than a batch on hosts with many CPUs, so it may take at most this
# share of the time.
_REPORT_SHARE = 0.05
# When batches hold nothing but MARKs, so many of them are fed, which judges all there is. After
# that one is fed in so much of the stream's time.
_SETTLED, _HOLD_NS = 4, 10_000_000_000
_TOGETHER_ROWS, _TOGETHER_NS = 4096, 1_000_000_000

Severities = dict[tuple[str, str], int]  # (pattern, severity) -> occurrences
Identity = tuple[object, ...]


def identity(finding: Finding) -> Identity:
    """Return what is equal for two findings of one engine if they are the same finding."""
    f = finding
    return f.pattern, f.severity, f.access, f.slot, f.cpus, f.frames, f.reordered


@dataclass(slots=True)
class Window:
    """A window knows when it began (ns of the capture's clock), its verdict so far, and the
    verdict's reasons."""

    begin: int
    verdict: Verdict = Verdict.INCONCLUSIVE
    reasons: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Cpu:
    """This counts the CPU seconds that were spent on judging and counting, by stage."""

    check: float = 0.0
    window: float = 0.0
    count: float = 0.0
    report: float = 0.0


class Watch:
    """A watch is fed with batches, and `look` tells what is new. *window_s* is how long a window
    lasts, in seconds. Memory is bounded as the engine's is, unless the engine for good keeps
    *all_occurrences*.

    >>> from ghesrace.events import mark
    >>> watch = Watch(Plan("x86_64", "6.12", (), ()), window_s=3600.0)
    >>> watch.feed(mark(1_000))
    >>> watch.look(now=True)
    []
    >>> watch.window.begin
    1000
    """

    def __init__(self, plan: Plan, window_s: float, *, all_occurrences: bool = False) -> None:
        self.plan = plan
        self.window_s = window_s
        self.engine = Engine(plan, all_occurrences=all_occurrences)
        self.tally = Tally(plan)
        self.report: Report = self.engine.report()
        self.window: Window | None = None
        self.windows = dict.fromkeys(Verdict, 0)  # those that are over
        self.findings: Severities = self._severities()
        self.cpu = Cpu()
        self._window_engine = self.engine.follower()
        self._window_base = dict(self.findings)
        self._grown: dict[Identity, int] = {}
        self._last = dict(self.findings)
        self._unseen_by_report = False
        self._next_report = 0.0
        self._waiting: list[Events] = []
        self._waiting_rows = 0
        self._since = 0  # the newest MARK that was fed
        self._quiet = 0  # batches of MARKs alone, in a row
        self._fed_mark = 0
        self._held: Events | None = None
        self._window_stale = True

    def feed(self, batch: Events) -> None:
        """Take one batch (EVENT, shape (n,)). Raises InputError for what no source of ours makes.

        Small batches are put together for up to a second, because a batch costs the engine
        milliseconds, however little is in it.
        """
        self._waiting.append(batch)
        self._waiting_rows += len(batch)
        newest = promised(batch)
        self._since = self._since or newest
        if self._waiting_rows >= _TOGETHER_ROWS or newest - self._since >= _TOGETHER_NS:
            self._feed_waiting()

    def _feed_waiting(self) -> None:
        if not self._waiting:
            return
        batch = joined(self._waiting)
        self._since = promised(batch)
        self._waiting.clear()
        self._waiting_rows = 0
        begin = time.thread_time()
        if self._held_back(batch):
            return
        uncounted = batch
        for judged in self.engine.steps(batch):
            checked = time.thread_time()
            self._window_engine.follow(self.engine, uncounted)
            windowed = time.thread_time()
            self.tally.count(uncounted, judged)
            uncounted = empty()
            self.cpu.check += checked - begin
            self.cpu.window += windowed - checked
            begin = time.thread_time()
            self.cpu.count += begin - windowed
            self._unseen_by_report |= bool(judged)
        self._unseen_by_report |= bool((batch["kind"] != Kind.MARK).any())
        self._window_stale = True
        if self.window is None and self.tally.watermark:
            self.window = Window(self.tally.watermark)

    def _held_back(self, batch: Events) -> bool:
        """Return whether *batch*, which holds only MARKs, may wait. When nothing has come for a
        while, nothing is left to be judged, and a later MARK says all that an earlier one does."""
        if (batch["kind"] != Kind.MARK).any():
            self._quiet, self._held = 0, None
            return False
        self._quiet += 1
        newest = int(batch["ts"].max(initial=0))
        if self._quiet <= _SETTLED or newest - self._fed_mark >= _HOLD_NS:
            self._fed_mark, self._held = newest, None
            return False
        self._held = batch
        self.tally.count(batch, [])
        return True

    def finish(self) -> None:
        """Judge what is left, because the stream is over. Raises InputError as `feed` does."""
        self._feed_waiting()
        if self._held is not None:
            self.engine.feed(self._held)
            self._window_engine.follow(self.engine, self._held)
        self.tally.count(empty(), self.engine.finish())
        self._window_engine.follow(self.engine, empty())
        self._unseen_by_report, self._next_report = True, 0.0

    def look(self, *, now: bool = False) -> list[Finding]:
        """Return the findings that are new, or occurred again, since the last look, and update
        `report`, `findings` and `window`. Unless *now* is set, nothing is done if the last look
        cost too much to look again already."""
        begin = time.monotonic()
        if now:
            self._feed_waiting()
        over = self._window_over()
        if not (now or over) and begin < self._next_report:
            return []
        grown: list[Finding] = []
        spent = time.thread_time()
        if self._unseen_by_report or now:
            self._unseen_by_report = False
            self.report = self.engine.report()
            grown = self._what_grew()
        if self._window_stale or over:
            self._window_stale = False
            self._judge_window()
        if over:
            self._roll()
        self.cpu.report += time.thread_time() - spent
        took = time.monotonic() - begin
        self._next_report = time.monotonic() + took / _REPORT_SHARE
        return grown

    def _severities(self) -> Severities:
        found: Severities = {}
        for name, result in self.report.patterns.items():
            found[name, "observed"] = result.observed
            found[name, "predicted"] = result.predicted
        return found

    def _what_grew(self) -> list[Finding]:
        grown = []
        for finding in self.report.findings:
            name = identity(finding)
            if finding.count > self._grown.get(name, 0):
                self._grown[name] = finding.count
                grown.append(finding)
        # A prediction is withdrawn when what it predicts happens, but a counter must not shrink.
        latest = self._severities()
        for key, count in latest.items():
            more = count - self._last.get(key, 0)
            self.findings[key] = self.findings.get(key, 0) + max(more, 0)
        self._last = latest
        return grown

    def _judge_window(self) -> None:
        if self.window is None:
            return
        report = self._window_engine.report()
        found = [
            severity
            for (pattern, severity), count in self.findings.items()
            if count > self._window_base.get((pattern, severity), 0)
        ]
        verdict = report.verdict
        if "predicted" in found:
            verdict = max(verdict, Verdict.PREDICTED)
        if "observed" in found:
            verdict = max(verdict, Verdict.OBSERVED)
        self.window.verdict, self.window.reasons = verdict, report.reasons

    def _window_over(self) -> bool:
        window = self.window
        return window is not None and self.tally.watermark - window.begin >= self.window_s * 1e9

    def _roll(self) -> None:
        assert self.window is not None
        self.windows[self.window.verdict] += 1
        self._window_engine = self.engine.follower()
        self._window_base = dict(self.findings)
        self.window = Window(self.tally.watermark)
        self._judge_window()
