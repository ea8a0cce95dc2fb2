# SPDX-License-Identifier: Apache-2.0
"""The BPF source attaches a plan as BPF programs and reads the rings that they fill.

To attach, it makes kprobe events in a private tracefs instance (only for what has no trampoline),
compiles the programs in a child process, loads and attaches them, and reads the rings from there
on. At the end the rings are read up to where they stand, and only then is anything detached.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from ghesrace.errors import HostError
from ghesrace.events import NEVER, Cause, Events, Kind, loss, select
from ghesrace.host.clocks import clock_now
from ghesrace.host.cpus import parse_cpus
from ghesrace.host.memory import ring_kb
from ghesrace.plan import Plan
from ghesrace.sources import tracefs
from ghesrace.sources.accounts import Accounts, Gauge
from ghesrace.sources.live import SETTLED_NS, LiveSource
from ghesrace.sources.tracefs import event_name
from ghesrace.sources.tracefs_text import definition

from . import load, program
from .attach import RING_MAPS, Loaded
from .pack import Pack
from .perf import PerfBuffers
from .rings import RECORD, Rings

_KPROBES = ("kprobe", "kretprobe")
_TICK = 0.05
_COUNT_NS = 150_000_000  # between two looks at the kernel's counters; must be below SETTLED_NS
_MAX_RECORDS, _MIN_RECORDS = 1 << 14, 1 << 8
_CONTEXTS = 4
_MOST_KB = 8192  # twice that of ftrace: a record takes twice the room, and each context has a ring
_STILL_TRIES, _STILL_S = 20, 10.0


def ring_records(kilobytes: int) -> int:
    """Return how many records a ring gets, a power of two, so that one CPU's rings take at most
    *kilobytes* KiB, unless that is less than the smallest ring.

    >>> ring_records(1024)
    2048
    """
    fit = kilobytes * 1024 // (_CONTEXTS * RECORD.itemsize)
    return max(_MIN_RECORDS, min(_MAX_RECORDS, 1 << max(fit.bit_length() - 1, 0)))


class BpfSource(LiveSource):
    """This source records the live events of one plan (`backend` "bpf") through BPF programs; see
    LiveSource.

    *root* is where tracefs is mounted, and *buffer_kb* the size of the rings of each CPU in KiB
    (None chooses it by the host's memory). The programs are those of *pack*; without one they are
    compiled here. `counters["other"]` counts hits that the plan's filters rejected in the kernel.
    Raises HostError if the plan is not for BPF. Entering the context raises HostError if this host
    can't attach the plan, which says what is missing and which package brings it, or TransientError
    if it can't now.

        with BpfSource(plan, host) as source:  # takes root
            threading.Timer(10, source.stop).start()
            for batch in source.batches():
                engine.feed(batch)
    """

    # These make the C text of the plan and name the maps that it has; a subclass has others.
    _write = staticmethod(program.source)
    _maps: tuple[str, ...] = RING_MAPS

    def __init__(
        self,
        plan: Plan,
        host: dict[str, Any],
        *,
        root: str = tracefs.TRACEFS,
        buffer_kb: int | None = None,
        tick: float = _TICK,
        pack: Pack | None = None,
    ) -> None:
        super().__init__(plan, host, tick)
        if plan.backend != "bpf":
            raise HostError("the plan is not for BPF", "see `ghesrace plan --backend bpf`")
        self.instance: tracefs.Instance | None = None
        self._root = Path(root)
        self._buffer_kb = buffer_kb
        self._pack = pack
        self._cpus = 0  # how many CPUs can ever be online
        self._loaded: Loaded | None = None
        self._rings: Rings | None = None
        self._counted = 0
        self._misses: list[int] = []  # as of `_asked`, ns
        self._asked = 0
        self._unrun: dict[int, int] = {}  # kprobe point -> hits without a run, as of `_settled`
        self._settled: dict[int, int] = {}

    def _attach(self) -> None:
        instance = self.instance = tracefs.Instance.create(self._root)
        instance.set("buffer_size_kb", "4")  # Nothing is recorded there.
        points = self._define(instance)
        events = {point: _event_id(instance, name) for name, point in points.items()}
        modules = {
            probe.symbol.partition(":")[0]: point
            for point, probe in enumerate(self.plan.probes)
            if ":" in probe.symbol and probe.mechanism in _KPROBES
        }
        cpus = self._cpus = _possible_cpus()
        kilobytes = self._buffer_kb or ring_kb(cpus, most=_MOST_KB, charged=True)
        records = ring_records(kilobytes)
        self._loaded = load.load(
            self.plan,
            events,
            write=self._write,
            maps=self._maps,
            records=records,
            cpus=cpus,
            pack=self._pack,
        )
        self._pack = None  # A daemon would keep other kernels' programs for months.
        self._accounts = Accounts(instance, points, {}, modules, self.counters, self.plan.clock)
        self._begin(records, cpus)

    def _begin(self, records: int, cpus: int) -> None:
        """Wait until it is known what was counted while we attached, and read from there on."""
        assert self._accounts is not None
        assert self._loaded is not None
        deadline = time.monotonic() + _STILL_S
        while len(self._unrun) < len(self._accounts.hits()):
            if time.monotonic() > deadline:
                raise HostError(
                    "some kprobe is hit so often that the runs that BPF skips can't be counted",
                    "record with --backend ftrace",
                )
            self._rings = self._open(records, cpus, 0)
            self._unrun.update(self._certain(self._accounts))
            self._rings.close()
            self._rings = None
        self._start = self._asked = clock_now(self.plan.clock)
        self._settled = dict.fromkeys(self._unrun, self._start)
        self._misses = self._loaded.misses()
        self._rings = self._open(records, cpus, self._start)
        self.counters.clear()

    def _open(self, records: int, cpus: int, start: int) -> Rings:
        """Open the plan's transport, so that it is read from now on. A loss before the first event
        begins at *start* (ns)."""
        assert self._accounts is not None
        assert self._loaded is not None
        maps, points = self._loaded.maps, len(self.plan.probes)
        if self.plan.transport == "perf":
            online = self._accounts.online
            return PerfBuffers(
                maps, records=records, points=points, cpus=cpus, start=start, online=online
            )
        return Rings(
            maps,
            records=records,
            points=points,
            cpus=cpus,
            start=start,
            from_load=self.plan.summary,
        )

    def _define(self, instance: tracefs.Instance) -> dict[str, int]:
        """Make the kprobe events, and return the probe point of each event name."""
        points = {}
        for point, probe in enumerate(self.plan.probes):
            if probe.mechanism in _KPROBES:
                name = event_name(instance, point, probe)
                instance.define(definition(self.plan, probe, instance.name, name))
                points[name] = point
        return points

    def _detach(self) -> None:
        if self._rings is not None:
            self._rings.close()
            self._rings = None
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
        if self._accounts is not None:
            self._accounts.close()
            self._accounts = None
        if self.instance is not None:
            self.instance.remove()
            self.instance = None

    def _freeze(self) -> None:
        assert self._rings is not None
        self._rings.freeze()

    def _drain(self, complete: int) -> tuple[dict[int, Events], list[Events], int]:
        assert self._rings is not None
        found, losses = {}, []
        news, behind = self._rings.read(complete, clock_now(self.plan.clock))
        for cpu, (events, lost) in news.items():
            found[cpu] = events
            losses.append(lost)
            for part in select(lost, Kind.LOSS):
                cause = Cause(int(part["cause"])).name.lower()
                self.counters[f"lost:{cause}"] += int(part["count"])
        return found, losses, NEVER if behind == NEVER else behind - SETTLED_NS

    def _count(self, accounts: Accounts, final: bool, now: int) -> list[Events]:
        assert self._rings is not None
        assert self._loaded is not None
        if not final and now - self._counted < _COUNT_NS:
            return []
        self._counted = now
        # The instance's own buffer is unused, so it is no loss if tracing is off in it.
        parts = [accounts.read(stopping=True), *self._skipped(), *self._not_run(accounts, final)]
        counts = self._rings.counts()
        self.counters["seen"], self.counters["other"] = counts.seen + counts.nested, counts.filtered
        self.counters["kept"] = self._rings.delivered
        if self._rings.violated():
            self.counters["violations"] += 1
            self.counters["uncounted losses"] += 1
            parts.append(loss(self._start, now, Cause.DROPPED))
        return parts

    def _skipped(self) -> list[Events]:
        """Return losses for the runs that the kernel skipped because the program ran on that CPU
        already, which happens when an NMI interrupts it. They happened somewhere since we last
        asked."""
        assert self._loaded is not None
        before = clock_now(self.plan.clock)
        misses = self._loaded.misses()
        now = clock_now(self.plan.clock)
        found = [
            self._missed(self._asked, now, more, point)
            for point, more in enumerate(np.subtract(misses, self._misses).tolist())
            if more > 0
        ]
        self._misses, self._asked = misses, before
        return found

    def _not_run(self, accounts: Accounts, final: bool) -> list[Events]:
        """Return losses for the hits of kprobes whose program did not run (bpf_prog_active). The
        kernel counts the hits, and the program its runs. This is asked before anything is detached,
        because detaching hits some probes itself.

        At the end (*final*), a point whose number can't be told becomes a loss of unknown size.
        """
        before = clock_now(self.plan.clock)
        unrun = self._certain(accounts)
        now = clock_now(self.plan.clock)
        found = [
            self._missed(self._settled[point], now, more, point)
            for point, count in unrun.items()
            if (more := count - self._unrun[point]) > 0
        ]
        for point in self._unrun.keys() - unrun.keys() if final else ():
            self.counters["uncounted losses"] += 1
            found.append(loss(self._settled[point], now, Cause.MISSED, point=point))
        self._unrun.update(unrun)
        self._settled.update(dict.fromkeys(unrun, before))
        return found

    def _certain(self, accounts: Accounts) -> dict[int, int]:
        """Return how many hits without a run each kprobe point had so far. A point that was hit in
        every try, while we asked, is left out."""
        assert self._rings is not None
        certain: dict[int, int] = {}
        for _ in range(_STILL_TRIES):
            ran, hit = self._rings.hits(), accounts.hits()
            still = ran == self._rings.hits()
            for point, count in hit.items():
                if point not in certain and still[point]:
                    certain[point] = count - int(ran[point])
            if len(certain) == len(hit):
                break
        return certain

    def _missed(self, begin: int, end: int, count: int, point: int) -> Events:
        self.counters["lost:missed"] += count
        return loss(begin, end, Cause.MISSED, count=count, point=point)


def _event_id(instance: tracefs.Instance, name: str) -> int:
    return int(tracefs.read(instance.root / "events" / instance.name / name / "id"))


def _possible_cpus() -> int:
    """Return one more than the highest CPU number that can ever be online."""
    text = Gauge(Path("/sys/devices/system/cpu/possible")).text()
    return max(parse_cpus(text), default=0) + 1 if text else os.cpu_count() or 1
