# SPDX-License-Identifier: Apache-2.0
"""This module has what all live sources share: the loop that makes batches at each tick, the MARKs
that promise what is complete, and the matching of NMIs. Each source says for itself how it takes
records out of the kernel.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from ghesrace.errors import GhesraceError, HostError
from ghesrace.events import NEVER, Events, empty, joined, mark
from ghesrace.host.clocks import clock_now
from ghesrace.plan import Plan

from .accounts import Accounts
from .late import is_late, late_losses
from .nmi import NmiMatcher

# A CPU can be stopped for long between taking a stamp and writing the event (a vCPU that lost its
# host CPU), so what is promised to be complete was read this long ago.
SETTLED_NS = 200_000_000


class LiveSource(ABC):
    """A live source records the events of one plan on this host. It is a context manager, which
    attaches the probes and detaches them again. `batches()` yields until `stop()` is called, which
    any thread or signal handler may do, and ends with everything that was recorded.

    `counters` has "read", which is "kept" plus "other" (records that concern no slot);
    "lost:<cause>", which counts lost events by events.Cause; "uncounted losses", which counts the
    losses of an unknown number of events; "late", which counts events that came after they were
    promised to be complete; and "seen", which is "kept" plus all that was lost. `lost` adds up the
    "lost:<cause>". *tick* is how many seconds pass between two reads, at most 0.25. Raises
    HostError if the plan's clock can't be read here.

        with FtraceSource(plan, host) as source:  # takes root
            threading.Timer(10, source.stop).start()
            for batch in source.batches():
                engine.feed(batch)
        print(source.counters["kept"], source.lost)
    """

    def __init__(self, plan: Plan, host: dict[str, Any], tick: float) -> None:
        self.plan = plan
        self.host = host
        self.counters: Counter[str] = Counter()
        self._tick = min(tick, 0.25)
        self._stop = threading.Event()
        self._start = 0
        self._accounts: Accounts | None = None
        self._matchers: dict[int, NmiMatcher] = {}
        clock_now(plan.clock)

    @property
    def lost(self) -> int:
        """This is how many events are known to be lost, for whatever cause."""
        return sum(n for name, n in self.counters.items() if name.startswith("lost:"))

    def stop(self) -> None:
        """End `batches()` after the next, final batch."""
        self._stop.set()

    def __enter__(self) -> Self:
        if not self.plan.probes:
            raise HostError("the plan has no probe to attach", "see `ghesrace plan`")
        try:
            self._attach()
        except BaseException:
            self._detach()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._detach()
        except GhesraceError:
            if error is None:  # The first error says more than a failed clean-up after it.
                raise

    @abstractmethod
    def _attach(self) -> None:
        """Attach the plan; set `_start` and `_accounts`. Raises HostError if this host can't
        attach it, TransientError if it can't now."""

    @abstractmethod
    def _detach(self) -> None:
        """Undo what `_attach` did, however far it came."""

    @abstractmethod
    def _freeze(self) -> None:
        """Let nothing more be recorded."""

    @abstractmethod
    def _drain(self, complete: int) -> tuple[dict[int, Events], list[Events], int]:
        """Take new records out of the kernel. Return three things: the new events of each CPU,
        with the losses whose place among them is known; all other losses; and the time (ns) up to
        which those CPUs were read of which something is left to read, or NEVER if nothing is left.
        Everything stamped below *complete* (ns) has been read before."""

    @abstractmethod
    def _count(self, accounts: Accounts, final: bool, now: int) -> list[Events]:
        """Return the losses that the kernel only counts. *final* says that everything was read, at
        *now* (ns)."""

    def batches(self) -> Iterator[Events]:
        """See sources.Source. A quiet second yields a batch that holds a MARK only."""
        accounts = self._accounts
        if accounts is None:
            raise HostError("the source is not attached", "use it in a `with` statement")
        read: deque[int] = deque()  # when the rings were read, of the latest 200 ms (ns)
        promised = complete = self._start
        yielded = time.monotonic()
        final, drained = False, True
        while not (final and drained):
            if not final and (final := self._stop.wait(self._tick if drained else 0)):
                self._freeze()
            now = clock_now(self.plan.clock)
            found, parts, behind = self._drain(complete)
            drained = behind == NEVER
            for cpu, events in found.items():
                parts += self._of_cpu(cpu, events, promised)
            parts += self._count(accounts, final and drained, now)
            complete = now if drained else complete
            read.append(now)
            while read and (final or read[0] <= now - SETTLED_NS) and read[0] <= behind:
                promised = read.popleft()
            if not drained and read and read[0] <= now - SETTLED_NS:
                promised = max(promised, behind)
            records = joined([empty(), *parts])
            if final or len(records) or time.monotonic() - yielded >= 0.9:
                yielded = time.monotonic()
                yield joined((records, mark(promised)))

    def _of_cpu(self, cpu: int, events: Events, promised: int) -> list[Events]:
        """Return one CPU's new *events*, and the losses that they show."""
        matcher = self._matchers.setdefault(cpu, NmiMatcher(self._start))
        unmatched = matcher.feed(events, cpu)
        self.counters["lost:nmi_unmatched"] += len(unmatched)
        late = late_losses(events, promised)
        self.counters["late"] += int(is_late(events, promised).sum())
        self.counters["uncounted losses"] += len(late)
        return [events, unmatched, late]
