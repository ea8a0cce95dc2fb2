# SPDX-License-Identifier: Apache-2.0
"""This module turns what the kernel counts of its own losses into LOSS records, with every batch.

Where an overrun happened is told by the ring buffer's pages (ring/decode.py). The counters here
tell no place: per_cpu/*/stats, kprobe_profile, probes that stopped firing, CPUs and modules that
appeared, and the clock source. A loss that they show touches everything between the previous read
and this one.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from ghesrace.errors import TransientError
from ghesrace.events import (
    ALL_CPUS,
    NO_POINT,
    Cause,
    Events,
    Kind,
    as_events,
    empty,
    joined,
    loss,
    select,
)
from ghesrace.host.clocks import clock_now
from ghesrace.host.cpus import parse_cpus
from ghesrace.host.kallsyms import read_symbols
from ghesrace.points import families

from .tracefs import Instance

_MOST_COUNTED = 2**62  # no counter of a kernel gets there


def _count(digits: str) -> int:
    """Return a counter's value; in a file that somebody sent it may have any number of digits."""
    return min(int(digits), _MOST_COUNTED) if len(digits) < 20 else _MOST_COUNTED


def parse_stats(text: str) -> dict[str, int]:
    """Read the text of per_cpu/cpuN/stats into a dictionary from counter name to number. Lines
    whose value is no whole number are left out.

    >>> parse_stats("entries: 12\\noverrun: 3\\noldest event ts:  2725.1\\n")
    {'entries': 12, 'overrun': 3}
    """
    stats = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value.strip().isdecimal():
            stats[name] = _count(value.strip())
    return stats


def parse_profile(text: str) -> dict[str, tuple[int, int]]:
    """Read the text of kprobe_profile into a dictionary from event name to the number of hits and
    of missed hits (nmissed of the kprobe and of the kretprobe).

    >>> parse_profile("  p0_1_2_map    512    3\\n")
    {'p0_1_2_map': (512, 3)}
    """
    profile = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[1].isdecimal() and words[2].isdecimal():
            profile[words[0]] = _count(words[1]), _count(words[2])
    return profile


class Gauge:
    """A gauge is a kernel file that is read again and again. It is kept open, which saves most of
    the cost.

    >>> Gauge(Path("/proc/self/no-such-file")).text() is None
    True
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def text(self) -> str | None:
        """Return what the file says now, or None if it can't be read."""
        try:
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            text, chunk = b"", b"."
            while chunk:
                chunk = os.pread(self._fd, 1 << 16, len(text))
                text += chunk
            return text.decode("ascii", "replace")
        except OSError:
            self.close()
            return None

    def is_on(self, default: bool = False) -> bool:
        """Return whether the file says "1", or *default* if it can't be read."""
        text = self.text()
        return default if text is None else text.startswith("1")

    def close(self) -> None:
        """Close the file until the next `text()`, because an open file keeps its instance busy."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Accounts:
    """The accounts read the loss counters of one attached tracing instance.

    *points* maps the name of each kprobe event to its probe point. The names must be unique on the
    system, because kprobe_profile prints no group; fprobe events are not in it and have no miss
    counter in tracefs. *watched* maps the path of an `enable` file to its probe point, *modules* a
    module's name to a probe point inside it. *counters* is where losses are added up
    ("lost:<cause>"), *clock* is the trace clock, and *system* is the folder that holds /proc and
    /sys. Raises TransientError if the instance is gone.

        accounts = Accounts(instance, points, {}, {}, Counter(), "mono")
        losses = accounts.read()
    """

    def __init__(
        self,
        instance: Instance,
        points: dict[str, int],
        watched: dict[Path, int],
        modules: dict[str, int],
        counters: Counter[str],
        clock: str,
        system: Path = Path("/"),
    ) -> None:
        self._instance = instance
        self._points = points
        self._watched = watched
        self._groups = {path.parent.parent / "enable" for path in watched}
        self._modules = modules
        self._counters = counters
        self._system = system
        self._clock = clock
        self._since = clock_now(clock)
        self._gauges: dict[Path, Gauge] = {}
        self._dropped: dict[int, int] = {}
        self._missed = dict.fromkeys(points, 0)
        self._source = self._clocksource()
        self._live = self._live_modules()
        self.cpus = self.online()

    def close(self) -> None:
        """Close the files that were kept open. Before that the instance can't be removed."""
        for gauge in self._gauges.values():
            gauge.close()

    def _gauge(self, path: Path) -> Gauge:
        return self._gauges.setdefault(path, Gauge(path))

    def online(self) -> tuple[int, ...]:
        """Return the CPUs that are online now, in ascending order."""
        text = self._gauge(self._system / "sys/devices/system/cpu/online").text()
        if text is None:
            found = (self._instance.path / "per_cpu").glob("cpu*")
            return tuple(sorted(int(path.name[3:]) for path in found))
        return parse_cpus(text)

    def _stats(self, cpu: int) -> dict[str, int]:
        text = self._gauge(self._instance.path / f"per_cpu/cpu{cpu}/stats").text()
        if text is None:
            raise TransientError(
                f"the tracing instance {self._instance.path} is gone", "start again"
            )
        return parse_stats(text)

    def overrun(self, cpu: int) -> int:
        """Return how many events of *cpu* were overwritten so far. Raises TransientError if the
        instance is gone."""
        return self._stats(cpu).get("overrun", 0)

    def read(self, stopping: bool = False) -> Events:
        """Return LOSS records for what the counters say was lost since the last call.

        *stopping* says that we turned tracing off ourselves, which then is no loss. Raises
        TransientError if the instance is gone.
        """
        before = clock_now(self._clock)
        found = [
            *self._new_cpus(),
            *self._refused(),
            *self._skipped(),
            *self._vanished(stopping),
            *self._unwatched(),
        ]
        source = self._clocksource()
        if source != self._source:
            self._source = source
            found.append(self._loss(Cause.CLOCK))
        losses = select(joined([empty(), *found]), Kind.LOSS)
        # What was counted happened after the last read began and before this one ended.
        losses["begin"], losses["end"] = self._since, clock_now(self._clock)
        self._since = before
        return as_events(losses)

    def _loss(
        self, cause: Cause, cpu: int = ALL_CPUS, count: int = 0, point: int = NO_POINT
    ) -> Events:
        self._counters[f"lost:{cause.name.lower()}"] += count
        self._counters["uncounted losses"] += count == 0
        return loss(0, 0, cause, cpu, count, point)

    def _new_cpus(self) -> list[Events]:
        online = self.online()
        new = sorted(set(online) - set(self.cpus))
        self.cpus = online
        return [self._loss(Cause.CPU_ONLINE, cpu) for cpu in new]

    def _refused(self) -> list[Events]:
        found = []
        for cpu in self.cpus:
            stats = self._stats(cpu)
            # A commit overrun is a write refused because a nested one filled the whole buffer.
            total = stats.get("dropped events", 0) + stats.get("commit overrun", 0)
            more = total - self._dropped.get(cpu, 0)
            self._dropped[cpu] = total
            if more > 0:
                found.append(self._loss(Cause.DROPPED, cpu, more))
        return found

    def _profile(self) -> dict[str, tuple[int, int]]:
        text = self._gauge(self._instance.root / "kprobe_profile").text()
        return parse_profile(text or "")

    def hits(self) -> dict[int, int]:
        """Return how often the kprobe of each probe point fired so far."""
        profile = self._profile() if self._points else {}
        return {point: profile.get(event, (0, 0))[0] for event, point in self._points.items()}

    def _skipped(self) -> list[Events]:
        profile = self._profile() if self._points else {}
        found = []
        for event, point in self._points.items():
            more = profile.get(event, (0, 0))[1] - self._missed[event]
            if more > 0:
                self._missed[event] += more
                found.append(self._loss(Cause.MISSED, count=more, point=point))
        return found

    def _vanished(self, stopping: bool) -> list[Events]:
        """Return a loss for each probe point that no longer fires, at every read until it does."""
        # Both switch off kprobes that sit on ftrace sites, and the event still says "1".
        switches = [
            (self._system / "proc/sys/kernel/ftrace_enabled", True),
            (self._system / "sys/kernel/debug/kprobes/enabled", True),
        ]
        if not stopping:
            switches.append((self._instance.path / "tracing_on", False))
        if not all(self._gauge(path).is_on(default) for path, default in switches):
            return [self._loss(Cause.PROBE_GONE)]
        # A group's file says "1" if all its events are on, which saves a read per event.
        off = {group.parent for group in self._groups if not self._gauge(group).is_on()}
        gone = {
            point
            for path, point in self._watched.items()
            if path.parent.parent in off and not self._gauge(path).is_on()
        }
        for module, point in self._modules.items():
            if not (self._system / "sys/module" / module).is_dir():
                gone.add(point)
        return [self._loss(Cause.PROBE_GONE, point=point) for point in sorted(gone)]

    def _unwatched(self) -> list[Events]:
        """Return a loss for each module that maps GHES pages and was loaded after the probes were
        attached."""
        live = self._live_modules()
        new, self._live = live - self._live, live
        if not new:
            return []
        maps = {c.symbol for f in families() for p in f.points if p.role for c in p.candidates}
        try:
            found = read_symbols(self._system / "proc/kallsyms", maps)
        except OSError:
            return [self._loss(Cause.UNWATCHED)]  # Nothing tells that the new modules map none.
        modules = {symbol.module for symbols in found.values() for symbol in symbols}
        return [self._loss(Cause.UNWATCHED) for _ in modules & new]

    def _live_modules(self) -> set[str]:
        """Return the modules whose state is "Live", which are those whose symbols are in kallsyms.
        /proc/modules prints the state as the fifth word (kernel/module/procfs.c:m_show())."""
        text = self._gauge(self._system / "proc/modules").text() or ""
        lines = (line.split() for line in text.splitlines())
        return {words[0] for words in lines if len(words) > 4 and words[4] == "Live"}

    def _clocksource(self) -> str:
        base = self._system / "sys/devices/system/clocksource/clocksource0/current_clocksource"
        return self._gauge(base).text() or ""
