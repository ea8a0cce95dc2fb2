# SPDX-License-Identifier: Apache-2.0
"""The ftrace source attaches a plan through tracefs and yields what the kernel recorded.

To attach, it makes a private instance with tracing off, defines the probe events, sets their
filters, enables them, and turns tracing on. At each tick it reads the clock, takes out every CPU's
raw pages, decodes them, and reads the kernel's loss counters. All of it is undone in __exit__, or
by the next start after a kill -9.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ghesrace.errors import GhesraceError, TransientError
from ghesrace.events import NEVER, Cause, Events, empty, loss
from ghesrace.host.clocks import clock_now
from ghesrace.host.memory import ring_kb
from ghesrace.plan import Plan
from ghesrace.sources import tracefs
from ghesrace.sources.accounts import Accounts
from ghesrace.sources.live import LiveSource
from ghesrace.sources.ring.decode import Attached, Decoder, SlotTable
from ghesrace.sources.ring.pages import PageLayout, parse_format, parse_page_layout
from ghesrace.sources.tracefs import event_name
from ghesrace.sources.tracefs_text import condition, definition

# A batch takes at most so many pages of all CPUs together, or of each CPU where CPUs are many, so
# that a burst is taken piece by piece.
_PAGES, _PAGES_OF_CPU = 1024, 16
_MOST_KB = 4096


class FtraceSource(LiveSource):
    """This source records the live events of one plan through a private tracefs instance; see
    LiveSource.

    *root* is where tracefs is mounted, and *buffer_kb* the size of the ring buffer of each CPU in
    KiB (None chooses it by the host's memory). `counters["other"]` counts records of other fixmap
    slots. Entering the context raises HostError if this host can't attach the plan, or
    TransientError if it can't now. LiveSource has an example.
    """

    def __init__(
        self,
        plan: Plan,
        host: dict[str, Any],
        *,
        root: str = tracefs.TRACEFS,
        buffer_kb: int | None = None,
        tick: float = 0.2,
    ) -> None:
        super().__init__(plan, host, tick)
        self.instance: tracefs.Instance | None = None
        self._root = Path(root)
        self._buffer_kb = buffer_kb
        self._pipes: dict[int, int] = {}
        self._attached: list[Attached] = []
        self._layout = PageLayout()
        self._complete = 0  # ns: everything before was read, losses included

    def _attach(self) -> None:
        instance = self.instance = tracefs.Instance.create(self._root)
        instance.set("trace_clock", self.plan.clock)
        cpus = len(list((instance.path / "per_cpu").glob("cpu*")))
        size = self._buffer_kb or ring_kb(cpus, most=_MOST_KB, charged=False)
        instance.set("buffer_size_kb", str(size))
        if (instance.path / "options/record-cmd").exists():
            # Otherwise the kernel would note the tasks' names at every sched_switch.
            instance.set("options/record-cmd", "0")
        self._layout = parse_page_layout(instance.get("events/header_page"))
        points: dict[str, int] = {}
        watched: dict[Path, int] = {}
        modules: dict[str, int] = {}
        for point, probe in enumerate(self.plan.probes):
            if probe.mechanism == "tracepoint":
                event = probe.symbol.replace(":", "/")
            else:
                name = event_name(instance, point, probe)
                event = f"{instance.name}/{name}"
                instance.define(definition(self.plan, probe, instance.name, name))
                if probe.mechanism in ("kprobe", "kretprobe"):
                    points[name] = point
                module, colon, _ = probe.symbol.partition(":")
                if colon:
                    modules[module] = point
            directory = f"events/{event}"
            if (only := condition(probe)) is not None:
                instance.set(f"{directory}/filter", only)
            self._attached.append(
                Attached(point, probe, parse_format(instance.get(f"{directory}/format")))
            )
            watched[instance.path / directory / "enable"] = point
        for path in watched:
            tracefs.write(path, "1")
        self._start = clock_now(self.plan.clock)
        self._decoder = Decoder(
            SlotTable(self.plan), self._attached, self._layout, self._start, self.counters
        )
        self._accounts = Accounts(
            instance, points, watched, modules, self.counters, self.plan.clock
        )
        for cpu in self._accounts.cpus:
            self._open(cpu)
        instance.set("tracing_on", "1")

    def _detach(self) -> None:
        for fd in self._pipes.values():
            os.close(fd)
        self._pipes.clear()
        if self._accounts is not None:
            self._accounts.close()
            self._accounts = None
        if self.instance is not None:
            self.instance.remove()
            self.instance = None

    def _open(self, cpu: int) -> None:
        assert self.instance is not None
        path = self.instance.path / f"per_cpu/cpu{cpu}/trace_pipe_raw"
        try:
            self._pipes[cpu] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise TransientError(f"can't open {path}: {error.strerror}", "start again") from error

    def _freeze(self) -> None:
        assert self.instance is not None
        self.instance.set("tracing_on", "0")
        time.sleep(0.01)  # This lets a writer that is inside the ring buffer commit.

    def _drain(self, complete: int) -> tuple[dict[int, Events], list[Events], int]:
        assert self._accounts is not None
        self._complete = complete
        for cpu in set(self._accounts.cpus) - set(self._pipes):
            self._open(cpu)
        chunks: dict[int, bytearray] = {}
        left = []
        pages = max(_PAGES // len(self._pipes), _PAGES_OF_CPU)
        for cpu, fd in self._pipes.items():
            data, emptied = self._read_pages(cpu, fd, pages)
            left += [] if emptied else [cpu]
            if data:
                chunks[cpu] = data
        if not chunks:
            return {}, [], NEVER
        events = self._decoder.feed(chunks, complete)
        behind = min((self._decoder.cpus[cpu].last_ts for cpu in left), default=NEVER)
        return {cpu: events[events["cpu"] == cpu] for cpu in chunks}, [], behind

    def _count(self, accounts: Accounts, final: bool, now: int) -> list[Events]:
        counted = accounts.read(stopping=self._stop.is_set())
        return [counted, self._unplaced(accounts, now)] if final else [counted]

    def _read_pages(self, cpu: int, fd: int, pages: int) -> tuple[bytearray, bool]:
        """Return at most so many raw *pages* of one CPU, in order, and whether its ring buffer was
        read until it was empty."""
        data = bytearray()
        while len(data) < pages * self._layout.size:
            try:
                page = os.read(fd, self._layout.size)
            except (BlockingIOError, InterruptedError):
                return data, True
            except OSError as error:
                raise TransientError(
                    f"reading the trace of CPU {cpu} failed: {error.strerror}", "start again"
                ) from error
            if len(page) != self._layout.size:
                return data, True
            data += page
        return data, False

    def _unplaced(self, accounts: Accounts, now: int) -> Events:
        """Return losses for the overruns that the kernel counted and no page told of. Each is
        placed between the CPU's last event, or what was read of it before, and *now* (ns)."""
        found = [empty()]
        for cpu, state in self._decoder.cpus.items():
            with suppress(GhesraceError):
                more = accounts.overrun(cpu) - state.overrun
                if more > 0:
                    self.counters["lost:overrun"] += more
                    begin = min(max(state.last_ts, self._complete), now)
                    found.append(loss(begin, now, Cause.OVERRUN, cpu, more))
        return np.concatenate(found)
