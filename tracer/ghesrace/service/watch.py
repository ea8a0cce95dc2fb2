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
from ghesrace.events import Events, Kind, empty
from ghesrace.plan import Plan

from .tally import Tally

# Asking for a report costs more than a batch on hosts with many CPUs, so it may take at most this
# share of the time.
_REPORT_SHARE = 0.05
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
        self._window_stale = True

    def feed(self, batch: Events) -> None:
        """Take one batch (EVENT, shape (n,)).

        Raises InputError for what no source of ours makes.
        """
        begin = time.thread_time()
        judged = self.engine.feed(batch)
        checked = time.thread_time()
        self._window_engine.follow(self.engine, batch)
        windowed = time.thread_time()
        self.tally.count(batch, judged)
        self.cpu.check += checked - begin
        self.cpu.window += windowed - checked
        self.cpu.count += time.thread_time() - windowed
        self._unseen_by_report |= bool(judged) or bool((batch["kind"] != Kind.MARK).any())
        self._window_stale = True
        if self.window is None and self.tally.watermark:
            self.window = Window(self.tally.watermark)

    def finish(self) -> None:
        """Judge what is left, because the stream is over. Raises InputError as `feed` does."""
        self.tally.count(empty(), self.engine.finish())
        self._window_engine.follow(self.engine, empty())
        self._unseen_by_report, self._next_report = True, 0.0

    def look(self, *, now: bool = False) -> list[Finding]:
        """Return the findings that are new, or occurred again, since the last look, and update
        `report`, `findings` and `window`. Unless *now* is set, nothing is done if the last look
        cost too much to look again already."""
        begin = time.monotonic()
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
