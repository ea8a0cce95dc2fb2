# SPDX-License-Identifier: Apache-2.0
"""This module turns the state of a watch, a recorder and the daemon into Prometheus's metric
families.

One table says which metrics there are, and a test holds dashboards, rules and docs to it. Families
are made from counters that live elsewhere, so there is no second bookkeeping. Every label set is
there from the first scrape, and no label holds an address, a pid or a CPU (except with `per_cpu`).
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import psutil
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.samples import Exemplar, Sample

from ghesrace import __version__
from ghesrace.checker.model import Class, class_word
from ghesrace.checker.report import Verdict
from ghesrace.events import Cause, Context
from ghesrace.host.clocks import clock_now
from ghesrace.plan import Plan
from ghesrace.service.evidence.recorder import FlightRecorder
from ghesrace.service.health import Health, HealthState, cpus_online
from ghesrace.service.tally import EVENT_KINDS, REMAP_BOUNDS, STAGES
from ghesrace.service.watch import Watch
from ghesrace.unknowns import UNKNOWNS

PREFIX = "ghesrace_"
_MOST_REASON = 200  # characters
REASONS = ("not-checked", "no-traffic", "truncated", "probe-failed", "losses", "uncertain", "other")
SEVERITIES = ("observed", "predicted")
CODES = (
    *("200", "400", "401", "403", "404", "405", "413", "414", "429", "431", "500", "503"),
    "other",
)

# The table maps a name to (type, help, labels). A counter's name is written without its `_total`.
TABLE: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "build_info": ("gauge", "Version of ghesrace; always 1.", ("version", "python")),
    "kernel_info": ("gauge", "The kernel that is watched; always 1.", ("release", "arch")),
    "source_info": ("gauge", "Where events come from; always 1.", ("backend", "clock")),
    "state": ("gauge", "1 for the step that the daemon is in.", ("state",)),
    "watching": ("gauge", "1 while probes are attached and batches go through the engine.", ()),
    "supported": (
        "gauge",
        "0 where this host can't be traced, and why; then nothing is watched.",
        ("reason",),
    ),
    "start_timestamp_seconds": ("gauge", "When the daemon started.", ()),
    "heartbeat_timestamp_seconds": (
        "gauge",
        "When the last batch went through the engine; a quiet host has one a second.",
        (),
    ),
    "events": ("counter", "Events by kind and by the context of their CPU.", ("kind", "context")),
    "episodes": ("counter", "Judged episodes by what saved them.", ("slot", "class")),
    "handoffs": ("counter", "Successive episodes of a slot on two CPUs.", ("slot",)),
    "latent_entries": (
        "counter",
        "Episodes whose CPU may have held another frame's translation when they began.",
        ("slot",),
    ),
    "unmap_to_remap_seconds": (
        "histogram",
        "Time from an unmap to the slot's next map on another CPU.",
        (),
    ),
    "findings": (
        "counter",
        "Times that a race pattern was observed or predicted; the exemplar names a capture.",
        ("pattern", "certainty"),
    ),
    "distinct_findings": ("gauge", "Findings that differ.", ("pattern", "certainty")),
    "pattern_checked": ("gauge", "1 if the plan has what the pattern needs.", ("pattern",)),
    "window_verdict": ("gauge", "1 for the verdict of the running window.", ("verdict",)),
    "window_reason": ("gauge", "1 for what keeps the running window from clean.", ("reason",)),
    "verdict_rests_on": (
        "gauge",
        "1 for what the verdicts rest on because nothing on this host could tell it.",
        ("unknown",),
    ),
    "window_start_timestamp_seconds": ("gauge", "When the running window began.", ()),
    "windows": ("counter", "Windows that are over, by verdict.", ("verdict",)),
    "lost_events": (
        "counter",
        "Events known to be lost, by where and why.",
        ("stage", "cause"),
    ),
    "losses": (
        "counter",
        "Records of a loss, those of unknown size included, by where and why.",
        ("stage", "cause"),
    ),
    "missed_probe_hits": ("counter", "Hits that the kernel skipped, by probe point.", ("probe",)),
    "late_events": ("counter", "Events that came after they were promised to be complete.", ()),
    "order_uncertainty_seconds": (
        "gauge",
        "Error to reckon with in the order of two CPUs' stamps.",
        (),
    ),
    "probe_points_attached": ("gauge", "Probes that are attached and fire.", ()),
    "probe_points_failed": ("gauge", "Probes that were attached and fire no more.", ()),
    "probe_points_missing": (
        "gauge",
        "Probe points that a pattern needs and this kernel does not offer.",
        (),
    ),
    "last_event_timestamp_seconds": ("gauge", "Stamp of the newest event; 0 for none.", ()),
    "last_notification_timestamp_seconds": (
        "gauge",
        "Stamp of the newest GHES notification; 0 for none.",
        (),
    ),
    "recorder_enabled": ("gauge", "1 if the flight recorder is on.", ()),
    "recorder_healthy": ("gauge", "0 if the last try to use its folder failed.", ()),
    "recorder_pending": ("gauge", "Kinds of findings whose evidence is not on disk yet.", ()),
    "recorder_captures": ("counter", "Captures written.", ()),
    "recorder_verified": (
        "counter",
        "Captures read back and judged, by whether they show their findings.",
        ("reproduced",),
    ),
    "recorder_suppressed": (
        "counter",
        "Findings that were counted but not recorded (again), by why.",
        ("reason",),
    ),
    "recorder_errors": ("counter", "Failed tries to keep evidence, by cause.", ("cause",)),
    "recorder_deleted": ("counter", "Captures deleted to stay within the budget.", ()),
    "recorder_files": ("gauge", "Captures in the folder.", ()),
    "recorder_bytes": ("gauge", "Their size.", ()),
    "recorder_budget_bytes": ("gauge", "What they may take together.", ()),
    "recorder_free_bytes": ("gauge", "Room on the file system of the folder.", ()),
    "recorder_memory_bytes": ("gauge", "Recent events in memory.", ()),
    "stage_cpu_seconds": (
        "counter",
        "CPU time of the engine's thread: source (read and decode), check, window, count, "
        "report, record, publish.",
        ("stage",),
    ),
    "process_cpu_seconds": ("counter", "CPU time of the daemon, user and system.", ()),
    "process_resident_memory_bytes": ("gauge", "RSS of the daemon.", ()),
    "process_threads": ("gauge", "Threads of the daemon.", ()),
    "host_cpus_online": ("gauge", "CPUs of the host that are online.", ()),
    "suspends": ("counter", "Times that the host slept.", ()),
    "clock_steps": ("counter", "Times that the host's wall clock was set.", ()),
    "config_reloads": ("counter", "Configurations taken over since the start.", ()),
    "config_reload_failures": ("counter", "Reloads refused; the old configuration stays.", ()),
    "config_last_reload_successful": ("gauge", "0 if the last reload was refused.", ()),
    "http_requests": ("counter", "Answers by status code.", ("code",)),
    "cpu_events": ("counter", "Events by CPU (only with metrics.per_cpu).", ("cpu",)),
    "cpu_lost_events": ("counter", "Lost events by CPU (only with metrics.per_cpu).", ("cpu",)),
}


@dataclass(slots=True)
class Exemplars:
    """This remembers the newest capture of each (pattern, severity) by its id, and when it was
    written (Unix seconds).

    >>> exemplars = Exemplars()
    >>> exemplars.add("stale", "observed", "ghesrace-20260101T000000Z-stale-1")
    >>> exemplars.newest["stale", "observed"][0]
    'ghesrace-20260101T000000Z-stale-1'
    """

    newest: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)

    def add(self, pattern: str, severity: str, capture: str) -> None:
        """Remember that *capture* (an id) was written for a finding."""
        self.newest[pattern, severity] = (capture, time.time())


class _Families:
    """This collects samples under the names of TABLE."""

    def __init__(self) -> None:
        self.made: dict[str, Metric] = {}

    def _family(self, name: str) -> tuple[Metric, tuple[str, ...]]:
        kind, text, labels = TABLE[name]
        if name not in self.made:
            self.made[name] = Metric(PREFIX + name, text, kind)
        return self.made[name], labels

    def add(
        self, name: str, value: float, *labels: object, exemplar: Exemplar | None = None
    ) -> None:
        """Add a sample; *labels* are the values of the family's labels, in their order."""
        family, names = self._family(name)
        suffix = "_total" if TABLE[name][0] == "counter" else ""
        values = dict(zip(names, map(str, labels), strict=True))
        sample = Sample(PREFIX + name + suffix, values, float(value), None, exemplar)
        family.samples.append(sample)

    def one_of(self, name: str, current: str | None, choices: Iterable[str]) -> None:
        """Add a sample for each of *choices*, which is 1 for the *current* one and 0 for others."""
        for choice in choices:
            self.add(name, choice == current, choice)

    def histogram(
        self, name: str, bounds: tuple[float, ...], counts: list[int], total: float
    ) -> None:
        """Add a histogram. *counts* has one number more than *bounds*, for the open last bucket,
        and *total* is the sum of what was observed."""
        family, _ = self._family(name)
        below = 0
        for bound, count in zip((*bounds, float("inf")), counts, strict=True):
            below += count
            le = "+Inf" if bound == float("inf") else repr(bound)
            family.samples.append(Sample(f"{PREFIX}{name}_bucket", {"le": le}, float(below)))
        family.samples.append(Sample(f"{PREFIX}{name}_count", {}, float(below)))
        family.samples.append(Sample(f"{PREFIX}{name}_sum", {}, float(total)))


@dataclass(slots=True)
class Published:
    """This has the families as of one moment; the encoders of prometheus-client take it."""

    families: list[Metric] = field(default_factory=list)

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        yield from self.families

    @property
    def registry(self) -> CollectorRegistry:
        """This is the object itself, because the encoders of prometheus-client 0.16 are typed to
        take a registry, but only call `collect`."""
        return cast(CollectorRegistry, self)


def publish(
    watch: Watch | None,
    health: Health,
    recorder: FlightRecorder | None = None,
    exemplars: Exemplars | None = None,
    *,
    per_cpu: bool = False,
) -> Published:
    """Return all metrics as of now: only the daemon's own without a *watch*, where nothing can be
    watched. Call it in the thread that feeds the watch, because nothing here is locked.

    >>> published = publish(Watch(Plan("x86_64", "6.12", (), ()), 3600.0), Health())
    >>> next(published.collect()).name
    'ghesrace_build_info'
    """
    out = _Families()
    _identity(out, health)
    if watch is None:
        machine = platform.machine()  # The kernel calls it arm64, and so do plans.
        out.add("kernel_info", 1, platform.release(), "arm64" if machine == "aarch64" else machine)
        _daemon(out, health)
        return Published(list(out.made.values()))
    plan, unix = watch.plan, _unix_of(watch.plan)
    out.add("kernel_info", 1, plan.release, plan.arch)
    out.add("source_info", 1, health.backend, plan.clock)
    out.add("heartbeat_timestamp_seconds", health.heartbeat)
    _watched(out, watch, exemplars or Exemplars(), unix)
    _verdict(out, watch, unix)
    _coverage(out, watch, health, unix)
    if recorder is not None:
        _recorder(out, recorder)
    _stages(out, watch, health)
    _daemon(out, health)
    if per_cpu:
        for cpu in sorted(set(watch.plan.cpus) | set(watch.tally.cpu_events)):
            out.add("cpu_events", watch.tally.cpu_events.get(cpu, 0), cpu)
            out.add("cpu_lost_events", watch.tally.cpu_lost.get(cpu, 0), cpu)
    return Published(list(out.made.values()))


def standard() -> list[Metric]:
    """Return the process metrics that every Prometheus client has, without our prefix, as of now:
    process_cpu_seconds_total, process_resident_memory_bytes, process_open_fds and so on.

    They are for /metrics alone: in a textfile they would collide with node_exporter's own.

    >>> "process_start_time_seconds" in [family.name for family in standard()]
    True
    """
    return list(ProcessCollector(registry=CollectorRegistry()).collect())


def _unix_of(plan: Plan) -> Callable[[int], float]:
    """Return a function from ns of the capture's clock to Unix seconds; 0 (never) stays 0."""
    now = time.time() - clock_now(plan.clock) / 1e9
    return lambda ns: ns / 1e9 + now if ns else 0.0


def _identity(out: _Families, health: Health) -> None:
    out.add("build_info", 1, __version__, platform.python_version())
    out.add("supported", not health.unsupported, health.unsupported[:_MOST_REASON])
    out.one_of("state", health.state, HealthState)
    out.add("watching", health.state is HealthState.WATCHING)
    out.add("start_timestamp_seconds", health.started)


def _watched(
    out: _Families, watch: Watch, exemplars: Exemplars, unix: Callable[[int], float]
) -> None:
    tally, report = watch.tally, watch.report
    for kind in EVENT_KINDS:
        for context in Context:
            count = int(tally.kinds[kind, context])
            out.add("events", count, kind.name.lower(), context.name.lower())
    for slot in report.slots:
        for cls in Class:
            out.add("episodes", slot.classes[cls], slot.name, class_word(cls))
        out.add("handoffs", slot.handoffs, slot.name)
        out.add("latent_entries", slot.latent, slot.name)
    out.histogram(
        "unmap_to_remap_seconds", REMAP_BOUNDS, tally.remap.tolist(), tally.remap_sum_ns / 1e9
    )
    for pattern in report.patterns:
        for severity in SEVERITIES:
            count = watch.findings.get((pattern, severity), 0)
            capture = exemplars.newest.get((pattern, severity))
            exemplar = None
            if capture is not None:
                exemplar = Exemplar({"capture_id": capture[0]}, float(count), capture[1])
            out.add("findings", count, pattern, severity, exemplar=exemplar)
            same = sum(f.pattern == pattern and f.severity == severity for f in report.findings)
            out.add("distinct_findings", same, pattern, severity)
    out.add("last_event_timestamp_seconds", unix(tally.last_event))
    out.add("last_notification_timestamp_seconds", unix(tally.last_notification))


def _verdict(out: _Families, watch: Watch, unix: Callable[[int], float]) -> None:
    window = watch.window
    words = [verdict.word for verdict in Verdict]
    # Before the first batch nothing is known, so the verdict is inconclusive.
    out.one_of("window_verdict", (window.verdict if window else Verdict.INCONCLUSIVE).word, words)
    given = {_reason(text) for text in window.reasons} if window else {"no-traffic"}
    for reason in REASONS:
        out.add("window_reason", reason in given, reason)
    for unknown in UNKNOWNS:
        out.add("verdict_rests_on", unknown in watch.plan.unknowns, unknown)
    out.add("window_start_timestamp_seconds", unix(window.begin if window else 0))
    for verdict, count in watch.windows.items():
        out.add("windows", count, verdict.word)


def _reason(text: str) -> str:
    word = text.partition(":")[0]
    return word if word in REASONS else "other"


def _coverage(out: _Families, watch: Watch, health: Health, unix: Callable[[int], float]) -> None:
    tally, plan = watch.tally, watch.plan
    for pattern, result in watch.report.patterns.items():
        out.add("pattern_checked", result.checked, pattern)
    for cause in Cause:
        labels = STAGES[cause], cause.name.lower()
        out.add("lost_events", int(tally.lost[cause]), *labels)
        out.add("losses", int(tally.losses[cause]), *labels)
    missed: dict[str, int] = {}
    for probe, count in zip(plan.probes, tally.missed.tolist(), strict=True):
        missed[probe.point] = missed.get(probe.point, 0) + count
    for point, count in missed.items():
        out.add("missed_probe_hits", count, point)
    out.add("late_events", health.late)
    out.add("order_uncertainty_seconds", plan.clock_error_ns / 1e9)
    live = len(plan.probes) - len(tally.gone) if health.state is HealthState.WATCHING else 0
    out.add("probe_points_attached", live)
    out.add("probe_points_failed", len(tally.gone))
    out.add("probe_points_missing", len(health.missing))


def _recorder(out: _Families, recorder: FlightRecorder) -> None:
    counters, folder = recorder.counters, recorder.folder
    out.add("recorder_enabled", recorder.settings.enabled)
    out.add("recorder_healthy", recorder.healthy)
    out.add("recorder_pending", recorder.pending)
    out.add("recorder_captures", counters.captures)
    for name, counts in (
        ("recorder_verified", counters.verified),
        ("recorder_suppressed", counters.suppressed),
        ("recorder_errors", counters.errors),
    ):
        for label, count in counts.items():
            out.add(name, count, label)
    out.add("recorder_deleted", folder.deleted)
    out.add("recorder_files", folder.files)
    out.add("recorder_bytes", folder.bytes)
    out.add("recorder_budget_bytes", folder.budget)
    out.add("recorder_free_bytes", folder.free)
    out.add("recorder_memory_bytes", recorder.memory.bytes)


def _stages(out: _Families, watch: Watch, health: Health) -> None:
    stages = {
        "source": health.cpu_source,
        "check": watch.cpu.check,
        "window": watch.cpu.window,
        "count": watch.cpu.count,
        "report": watch.cpu.report,
        "record": health.cpu_record,
        "publish": health.cpu_publish,
    }
    for stage, seconds in stages.items():
        out.add("stage_cpu_seconds", seconds, stage)


def _daemon(out: _Families, health: Health) -> None:
    process = psutil.Process()
    with process.oneshot():
        times = process.cpu_times()
        out.add("process_cpu_seconds", times.user + times.system)
        out.add("process_resident_memory_bytes", process.memory_info().rss)
        out.add("process_threads", process.num_threads())
    out.add("host_cpus_online", cpus_online())
    out.add("suspends", health.suspends)
    out.add("clock_steps", health.clock_steps)
    out.add("config_reloads", health.reloads)
    out.add("config_reload_failures", health.reload_failures)
    out.add("config_last_reload_successful", health.reload_ok)
    for code in CODES:
        out.add("http_requests", health.http.get(code, 0), code)
