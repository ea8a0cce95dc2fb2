# SPDX-License-Identifier: Apache-2.0
"""The rings that BPF programs fill (probes/ghesrace.bpf.c), read as NumPy arrays: no system call
and no callback per record.

Each CPU has one ring per context. A record carries its own position and those of the CPU's other
rings when it was written, so the order across contexts of a CPU is known without the clock.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ghesrace.events import EVENT, NEVER, Cause, Context, Events, empty, joined, loss

from . import order

CONTEXTS = len(Context)
MOST_RECORDS_AT_ONCE = (
    1 << 17
)  # records in a read, or those of one CPU: a burst is taken piece by piece
RECORD = np.dtype([("event", EVENT), ("at", "<u4", CONTEXTS)])
HEADER = np.dtype(
    [(name, "<u8") for name in ("head", "seen", "filtered", "nested", "busy")] + [("pad", "<u8", 3)]
)

Ints = npt.NDArray[np.int64]


def cpu_dtype(points: int) -> np.dtype[np.void]:
    """struct cpu of the C file: a ring's header per context, and hits per probe point."""
    return np.dtype([("ring", HEADER, CONTEXTS), ("hits", "<u8", max(points, 1))])


@dataclass(slots=True)
class RingCounts:
    """What one CPU's programs did since the start: seen = kept + filtered; nested: turned away."""

    seen: int = 0
    kept: int = 0
    filtered: int = 0
    nested: int = 0


@dataclass(slots=True)
class RingState:
    """Where reading stands: per context the next position, per CPU the next seq; the last stamp
    per context bounds what a lapped ring lost. `read` (ns): up to when all was."""

    position: Ints
    last_ts: Ints
    read: int
    seq: int = 0
    nested: int = 0
    before: RingCounts = field(default_factory=RingCounts)


class Rings:
    """The mapped arrays (attach.MAPS) of *cpus* CPUs. *start* (ns): begin of a loss before the
    first event; *records*: per ring.

    Reading begins at the positions of now: what is in the rings already is left out, but
    *from_load*.
    """

    def __init__(
        self,
        fds: list[int],
        *,
        records: int,
        points: int,
        cpus: int,
        start: int,
        from_load: bool = False,
    ) -> None:
        self._maps = list[mmap.mmap]()
        self._rows = self._mapped(fds[0], cpu_dtype(points), cpus)
        shape = cpus, CONTEXTS, records
        self._records = self._mapped(fds[1], RECORD, cpus * CONTEXTS * records).reshape(shape)
        self._begin(records, cpus, start, from_load)

    def _begin(self, records: int, cpus: int, start: int, from_load: bool = False) -> None:
        self.records = records
        self.delivered = 0
        self._first = 0  # the CPU to begin with
        self._frozen = False
        self._cpus: dict[int, RingState] = {}
        for cpu in range(cpus):
            state = RingState(
                np.zeros(CONTEXTS, np.int64), np.full(CONTEXTS, start, np.int64), start
            )
            if not from_load:
                state.position = self._headers(cpu)["head"].astype(np.int64)
                state.before = self._counts(cpu)
                state.nested = state.before.nested
            self._cpus[cpu] = state

    def _mapped(self, fd: int, dtype: np.dtype[np.void], count: int) -> npt.NDArray[np.void]:
        size = -(-dtype.itemsize * count // mmap.PAGESIZE) * mmap.PAGESIZE
        self._maps.append(mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ))
        return np.frombuffer(self._maps[-1], dtype, count)

    def close(self) -> None:
        """Unmap. Nothing that `read` returned points into the maps."""
        del self._rows, self._records
        for mapped in self._maps:
            mapped.close()

    def freeze(self) -> None:
        """The next `read` is the last, and of all. Programs don't stop all at once: so they run on,
        and what follows is not read."""
        self._frozen = True

    def _headers(self, cpu: int) -> npt.NDArray[np.void]:
        headers: npt.NDArray[np.void] = self._rows["ring"][cpu]
        return headers

    def _counts(self, cpu: int) -> RingCounts:
        h = self._headers(cpu)
        kept, filtered = int(h["head"].sum()), int(h["filtered"].sum())
        # Programs run on meanwhile. They count a hit as seen before they do anything with it, so
        # what became of hits is read first: else more would be kept and filtered than was seen.
        return RingCounts(int(h["seen"].sum()), kept, filtered, int(h["nested"].sum()))

    def counts(self) -> RingCounts:
        """All CPUs together, since the start."""
        total = RingCounts()
        for cpu, state in self._cpus.items():
            now = self._counts(cpu)
            for name in ("seen", "kept", "filtered", "nested"):
                more = getattr(now, name) - getattr(state.before, name)
                setattr(total, name, getattr(total, name) + more)
        return total

    def violated(self) -> bool:
        """Whether seen = kept + filtered is broken somewhere; asked while nobody writes, or
        of a ring that was still for the time that it takes to ask."""
        for cpu in self._cpus:
            first = self._headers(cpu).copy()
            again = self._headers(cpu)
            still = (first == again) & (first["busy"] == 0)
            broken = first["seen"] != first["head"] + first["filtered"]
            if (still & broken).any():
                return True
        return False

    def hits(self) -> Ints:
        """Of each probe point, how often its program ran for a kprobe; all CPUs."""
        return np.asarray(self._rows["hits"].sum(axis=0, dtype=np.int64))

    def fill(self) -> float:
        """How full the fullest ring is: 1 means that it is about to be lapped."""
        heads = self._rows["ring"]["head"].astype(np.int64)
        read = np.stack([state.position for state in self._cpus.values()])
        return float((heads - read).max() / self.records)

    def read(self, since: int, now: int) -> tuple[dict[int, tuple[Events, Events]], int]:
        """CPU -> (its new events in program order, its losses), and up to when the CPUs were read
        that have more (ns), NEVER if none has. CPUs with nothing are left out.

        *since* and *now* (ns) bound a loss that left no trace in a ring.
        """
        found: dict[int, tuple[Events, Events]] = {}
        taken, left = 0, list[int]()
        for cpu in [*range(self._first, len(self._cpus)), *range(self._first)]:
            state = self._cpus[cpu]
            # Lower contexts' heads first: what precedes a record of theirs is then in reach.
            heads = self._headers(cpu)["head"].astype(np.int64)
            if (heads > state.position).any() or self._headers(cpu)["nested"].sum() > state.nested:
                if taken >= MOST_RECORDS_AT_ONCE and not self._frozen:
                    left.append(cpu)
                    continue
                found[cpu] = self._read(cpu, state, heads, since, now)
                taken += len(found[cpu][0])
            state.read = now
        self._first = left[0] if left else 0
        return found, min((self._cpus[cpu].read for cpu in left), default=NEVER)

    def _read(
        self, cpu: int, state: RingState, heads: Ints, since: int, now: int
    ) -> tuple[Events, Events]:
        rings: list[npt.NDArray[np.void]] = []
        losses: list[Events] = []
        skipped = 0
        limits = heads.copy()
        for level in range(CONTEXTS):
            position = int(state.position[level])
            taken = self._copy(cpu, level, position, int(heads[level]))
            # A record that follows what we have not read yet waits for it.
            ready = order.ready(_words(taken), level, state.position.data, limits.data)
            taken = taken[:ready]
            first = int(taken["event"]["seq"][0]) if ready else int(state.position[level])
            lapped = first - position
            if lapped > 0:
                end = int(taken["event"]["ts"][0])
                begin = min(int(state.last_ts[level]), end)
                losses.append(loss(begin, end, Cause.OVERRUN, cpu, lapped))
                skipped += lapped
            limits[level] = position + max(lapped, 0) + ready
            rings.append(taken)
        nested = int(self._headers(cpu)["nested"].sum())
        events = in_order(rings, state.position, state.seq + skipped)
        state.seq += skipped + len(events)
        for level, ring in enumerate(rings):
            if len(ring):
                state.last_ts[level] = int(ring["event"]["ts"][-1])
        if nested > state.nested:
            losses.append(loss(since, now, Cause.DROPPED, cpu, nested - state.nested))
            state.nested = nested
        state.position = limits
        self.delivered += len(events)
        return events, joined([empty(), *losses])

    def _copy(self, cpu: int, level: int, begin: int, end: int) -> npt.NDArray[np.void]:
        """Records [begin, end) of a ring, without those that were overwritten meanwhile."""
        begin = max(begin, end - self.records)
        ring = self._records[cpu, level]
        at, stop = begin % self.records, end - begin
        first = ring[at : at + stop]
        taken = joined([first, ring[: stop - len(first)]])
        # One more than the ring holds: the record at the head may be half written.
        now = int(self._headers(cpu)["head"][level])
        return taken[max(now + 1 - self.records - begin, 0) :]


def in_order(rings: list[npt.NDArray[np.void]], near: Ints, seq: int) -> Events:
    """The events of one CPU's rings in program order, numbered from *seq*. Positions are at most
    2^31 from *near*."""
    records = _words(joined(rings))
    bounds = np.cumsum([0, *(len(ring) for ring in rings)])
    count = int(bounds[-1])
    found, places, spare = (np.empty(count, np.int64) for _ in range(3))
    room = places.data, spare.data, np.empty(CONTEXTS, np.int64).data
    order.merge(records, bounds.data, near.data, found.data, *room)
    events = np.empty(count, EVENT)
    order.take(records, found.data, seq, events.view(np.uint64).data)
    return events


def _words(records: npt.NDArray[np.void]) -> memoryview:
    return records.view(np.uint64).data
