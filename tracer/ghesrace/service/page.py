# SPDX-License-Identifier: Apache-2.0
"""This gathers what the daemon's page for people says."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ghesrace.checker.findings import Finding
from ghesrace.host.clocks import clock_now
from ghesrace.plan import Plan
from ghesrace.render.live import Told, headline

from .evidence.recorder import FlightRecorder
from .health import Health, HealthState
from .watch import Identity, Watch, identity

_MOST = 200  # findings that are copied for the page
_MOST_REMEMBERED = 4096


class LastSeen:
    """This remembers when (Unix seconds) each finding was found last, of the newest few thousand.

    >>> LastSeen().of(Finding("stale", "observed", "read", "irq", (0, 1), None, "", []))
    ''
    """

    def __init__(self) -> None:
        self._when: dict[Identity, float] = {}

    def note(self, findings: Iterable[Finding], now: float) -> None:
        """Remember that *findings* were found *now*."""
        for finding in findings:
            name = identity(finding)
            self._when.pop(name, None)
            self._when[name] = now
            if len(self._when) > _MOST_REMEMBERED:
                del self._when[next(iter(self._when))]

    def of(self, finding: Finding) -> str:
        """Return when *finding* was found last, or "" if that is not known any more."""
        return utc(self._when.get(identity(finding), 0.0))


def utc(seconds: float) -> str:
    """Return Unix *seconds* as people read them; "" for 0.

    >>> utc(0), utc(1e9)
    ('', '2001-09-09 01:46:40 UTC')
    """
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds)) if seconds else ""


def told(
    watch: Watch, health: Health, recorder: FlightRecorder, seen: LastSeen, refused: str | None
) -> Told:
    """Return what the page says as of now. Call it in the thread that feeds the *watch*; what it
    returns is not touched by that thread any more. *refused* is why the last web configuration was
    not taken over, or None.

        page = told(watch, Health(), recorder, LastSeen(), None)
    """
    plan, window, tally = watch.plan, watch.window, watch.tally
    found = watch.report.findings[:_MOST]
    return Told(
        verdict=window.verdict.word if window else "inconclusive",
        rests_on=plan.unknowns,
        reasons=tuple(window.reasons) if window else ("no-traffic: nothing was read yet",),
        since=_when(plan, window.begin) if window else "",
        now=utc(time.time()),
        facts=(
            ("State", str(health.state)),
            ("Kernel", f"{plan.release} ({plan.arch})"),
            ("Backend", health.backend),
            ("Started", utc(health.started)),
            ("Events", f"{int(tally.kinds.sum()):,}"),
            ("Last notification", _when(plan, tally.last_notification) or "none yet"),
            ("Findings", f"{sum(watch.findings.values()):,}"),
        ),
        health=_health(watch, health, recorder, refused),
        # The engine goes on counting in its own.
        findings=tuple(replace(f, occurrences=list(f.occurrences)) for f in found),
        latest=tuple(seen.of(f) for f in found),
        clock_error_ns=plan.clock_error_ns,
    )


def told_without(health: Health, refused: str | None) -> Told:
    """Return what the page says where nothing can be watched. *refused* is as for `told`.

    >>> told_without(Health(unsupported="it has no kprobes"), None).reasons
    ("not-checked: this host can't be traced: it has no kprobes",)
    """
    why = f"this host can't be traced: {health.unsupported}"
    return Told(
        watched=False,
        reasons=(f"not-checked: {why}",),
        now=utc(time.time()),
        facts=(
            ("State", str(health.state)),
            ("Kernel", f"{platform.release()} ({platform.machine()})"),
            ("Started", utc(health.started)),
        ),
        health=(("Probes", f"none: {why}", False), *_configured(health, refused)),
    )


def status(told: Told, watch: Watch | None) -> str:
    """Return the line that `systemctl status` shows, of what the page says.

    >>> status(told_without(Health(unsupported="it has no kprobes"), None), None)
    "NOT WATCHING: this host can't be traced: it has no kprobes"
    """
    reasons = "; ".join(told.reasons)
    if watch is None:
        return f"NOT WATCHING: {reasons.partition(': ')[2][:200]}"
    why = f" ({reasons})" if watch.window and reasons else ""
    blind = f", {len(watch.tally.gone)} PROBES FAILED" if watch.tally.gone else ""
    return f"{headline(told)}{why[:200]}, {sum(watch.findings.values()):,} findings{blind}"


def _when(plan: Plan, ns: int) -> str:
    """Return a stamp of the capture's clock as people read it; "" for 0, which is never."""
    return utc(time.time() - (clock_now(plan.clock) - ns) / 1e9) if ns else ""


def _health(
    watch: Watch, health: Health, recorder: FlightRecorder, refused: str | None
) -> tuple[tuple[str, str, bool], ...]:
    gone, lost = len(watch.tally.gone), int(watch.tally.lost.sum())
    attached = len(watch.plan.probes) - gone
    folder = recorder.folder
    kept = f"{folder.files:,} captures, {folder.bytes >> 20:,} of {folder.budget >> 20:,} MiB"
    if not recorder.settings.enabled:
        kept = "off: findings are counted, and no evidence is kept"
    elif not recorder.healthy:
        kept = f"can't write to its folder; {kept}"
    missing = "; ".join(unseen.what for unseen in health.missing)
    unchecked = "; ".join(f"{name}: {why}" for name, why in watch.plan.not_checked.items())
    beating = health.state is HealthState.WATCHING
    lines = [
        ("Last batch", utc(health.heartbeat) or "none yet", beating),
        ("Probes", f"{attached} attached, {gone} failed", not gone),
        ("Probe points missing", missing or "none", not missing),
        ("Patterns not checked", unchecked or "none", not unchecked),
        ("Events lost", f"{lost:,}", not lost),
        ("Evidence", kept, recorder.healthy),
    ]
    return (*lines, *_configured(health, refused))


def _configured(health: Health, refused: str | None) -> Iterator[tuple[str, str, bool]]:
    if not health.reload_ok:
        yield "Configuration", "the last reload was refused, the old one holds", False
    if refused:
        yield "Web configuration", f"refused, the old one holds: {refused}", False
