# SPDX-License-Identifier: Apache-2.0
"""This module is the transport for kernels without arrays that user space can map: a perf buffer
per CPU.

The programs count in the same headers as with rings, and number their events per context; each
event is a PERF_RECORD_SAMPLE. Buffers are mapped and read in bulk, without a callback or a system
call per record. The order of a CPU's events is that of its buffer, in which nested writers reserve
their places one after the other. A number that is missing is an event that the kernel did not keep,
whether a PERF_RECORD_LOST says so or not.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ghesrace.errors import HostError
from ghesrace.events import EVENT, NEVER, Cause, Events, empty, joined, loss, pick
from ghesrace.host import syscalls

from .rings import CONTEXTS, RECORD, Ints, Rings, RingState, cpu_dtype

_SOFTWARE, _BPF_OUTPUT, _SAMPLE_RAW = 1, 10, 1 << 10  # enum perf_type_id and so on
_HEAD, _TAIL = 1024 // 8, 1032 // 8  # data_head and data_tail in struct perf_event_mmap_page
_LOST, _SAMPLE = 2, 9  # enum perf_event_type
_HEADER = [("type", "<u4"), ("misc", "<u2"), ("bytes", "<u2")]
LOST = np.dtype([*_HEADER, ("id", "<u8"), ("lost", "<u8")])
SAMPLE = np.dtype([*_HEADER, ("raw", "<u4"), ("event", EVENT), ("pad", "<u4")])
# An event whose number was counted so long ago (ns), and which is not here, is lost. This is
# shorter than live.py waits before it promises.
_SETTLED_NS = 150_000_000

Bytes = npt.NDArray[np.uint8]


def parse(data: Bytes) -> tuple[Events, int]:
    """Return the events in whole perf records, and how many events the kernel says it lost.

    >>> record = np.zeros(1, SAMPLE)
    >>> record["type"], record["bytes"], record["event"]["ts"] = 9, SAMPLE.itemsize, 500
    >>> events, lost = parse(record.view(np.uint8))
    >>> events["ts"].tolist(), lost
    ([500], 0)
    """
    events, lost, at = [empty()], 0, 0
    while at < len(data):
        run = data[at : at + (len(data) - at) // SAMPLE.itemsize * SAMPLE.itemsize].view(SAMPLE)
        other = (run["type"] != _SAMPLE) | (run["bytes"] != SAMPLE.itemsize)
        count = int(np.argmax(other)) if other.any() else len(run)
        events.append(run["event"][:count])
        at += count * SAMPLE.itemsize
        if at < len(data):
            header = data[at : at + 8].view(np.dtype(_HEADER))[0]
            if header["type"] == _LOST:
                lost += int(data[at : at + LOST.itemsize].view(LOST)["lost"][0])
            at += int(header["bytes"]) or len(data)
    return joined(events), lost


class PerfBuffer:
    """This is the perf buffer of one online CPU, which has so many *pages*, a power of two. Raises
    OSError if the kernel refuses it."""

    def __init__(self, cpu: int, pages: int) -> None:
        self.size = pages * mmap.PAGESIZE
        self.fd = syscalls.perf_event(_SOFTWARE, _BPF_OUTPUT, cpu, sample_type=_SAMPLE_RAW)
        try:
            self._map = mmap.mmap(self.fd, mmap.PAGESIZE + self.size)
        except OSError:
            os.close(self.fd)
            raise
        self._control = np.frombuffer(self._map, "<u8", mmap.PAGESIZE // 8)
        self._data = np.frombuffer(self._map, np.uint8, self.size, mmap.PAGESIZE)

    def take(self) -> Bytes:
        """Take everything out of the buffer and return it. That makes room for new records."""
        head, tail = int(self._control[_HEAD]), int(self._control[_TAIL])
        at, count = tail % self.size, head - tail
        first = self._data[at : at + count]
        taken = np.concatenate([first, self._data[: count - len(first)]])
        self._control[_TAIL] = head
        return taken

    def fill(self) -> float:
        """Return the share of the buffer that is in use, from 0 to 1."""
        return (int(self._control[_HEAD]) - int(self._control[_TAIL])) / self.size

    def close(self) -> None:
        """Unmap the buffer. The programs' array holds the event until another takes its place."""
        del self._control, self._data
        self._map.close()
        os.close(self.fd)


class PerfBuffers(Rings):
    """This is what Rings is, for programs that were compiled with PERF. *fds* are their maps
    (attach.RING_MAPS), *records* is how many each of a CPU's contexts should have room for, *start*
    (ns) is where a loss before the first event begins, and *online* returns the CPUs that are
    online now. Raises HostError if a buffer can't be made."""

    def __init__(
        self,
        fds: list[int],
        *,
        records: int,
        points: int,
        cpus: int,
        start: int,
        online: Callable[[], tuple[int, ...]],
    ) -> None:
        self._rows_fd, self._events_fd = fds[:2]
        self._dtype = cpu_dtype(points)
        self._online = online
        pages = records * CONTEXTS * RECORD.itemsize // mmap.PAGESIZE
        self._pages = 1 << max(pages.bit_length() - 1, 0)
        self._buffers: dict[int, PerfBuffer] = {}
        self._counted: dict[int, deque[tuple[int, Ints]]] = {cpu: deque() for cpu in range(cpus)}
        self._settled_ns = _SETTLED_NS
        self.announced = 0
        try:
            self._follow()
        except BaseException:
            self.close()
            raise
        self._begin(records, cpus, start)

    def close(self) -> None:
        """Unmap all buffers."""
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers = {}

    def freeze(self) -> None:
        """Take every event as lost that the next `read` finds counted but not in the buffers."""
        self._settled_ns = 0

    def hits(self) -> Ints:
        """See Rings.hits."""
        rows = [self._row(cpu)["hits"] for cpu in self._cpus]
        return np.asarray(np.sum(rows, axis=0, dtype=np.int64))

    def fill(self) -> float:
        """Return how full the fullest buffer is, from 0 to 1."""
        return max((buffer.fill() for buffer in self._buffers.values()), default=0.0)

    def read(self, since: int, now: int) -> tuple[dict[int, tuple[Events, Events]], int]:
        """See Rings.read; here everything is read at once."""
        gone = self._follow()
        found = {}
        for cpu, state in self._cpus.items():
            headers = self._headers(cpu)
            counted = self._counted[cpu]
            counted.append((now, headers["head"].astype(np.int64)))
            buffer = gone.get(cpu) or self._buffers.get(cpu)
            events, announced = parse(buffer.take()) if buffer else (empty(), 0)
            self.announced += announced
            settled = state.position
            while counted and counted[0][0] <= now - self._settled_ns:
                settled = counted.popleft()[1]
            losses = self._account(cpu, state, events := self._trusted(cpu, state, events))
            losses += self._missing(cpu, state, settled, now)
            nested = int(headers["nested"].sum())
            if nested > state.nested:
                losses.append(loss(since, now, Cause.DROPPED, cpu, nested - state.nested))
                state.nested = nested
            if len(events) or losses:
                found[cpu] = events, joined([empty(), *losses])
        for buffer in gone.values():
            buffer.close()
        return found, NEVER

    def _row(self, cpu: int) -> npt.NDArray[np.void]:
        data = syscalls.lookup(self._rows_fd, cpu, self._dtype.itemsize)
        row: npt.NDArray[np.void] = np.frombuffer(data, self._dtype)[0]
        return row

    def _headers(self, cpu: int) -> npt.NDArray[np.void]:
        headers: npt.NDArray[np.void] = self._row(cpu)["ring"]
        return headers

    def _follow(self) -> dict[int, PerfBuffer]:
        """Open buffers for the CPUs that came. Return the buffers of the CPUs that went, which are
        to be read and closed, because the kernel takes an event off a CPU that goes for good."""
        online = set(self._online())
        for cpu in sorted(online - self._buffers.keys()):
            try:
                buffer = self._buffers[cpu] = PerfBuffer(cpu, self._pages)
                syscalls.update(self._events_fd, cpu, buffer.fd)
            except OSError as error:
                if error.errno == errno.ENODEV:  # The CPU went again.
                    continue
                raise HostError(
                    f"no perf buffer on CPU {cpu}: {error.strerror}",
                    "run as root, with less --buffer; or record with --backend ftrace",
                ) from error
        return {cpu: self._buffers.pop(cpu) for cpu in self._buffers.keys() - online}

    def _trusted(self, cpu: int, state: RingState, events: Events) -> Events:
        """Return *events* without those that were there at the start or were counted as lost, and
        without what an NMI wrote into the event that it interrupted (before 9594dc3c7e71, Linux
        5.2)."""
        levels = np.minimum(events["ctx"], CONTEXTS - 1)
        seq = events["seq"].astype(np.int64)
        # An event can be here before its program has counted it.
        heads = self._headers(cpu)["head"].astype(np.int64)[levels]
        known = (seq >= state.position[levels]) & (seq <= heads) & (events["ctx"] < CONTEXTS)
        events, seq = pick(events, known), seq[known]
        _, first = np.unique(seq << 2 | events["ctx"], return_index=True)
        return pick(events, np.sort(first))

    def _account(self, cpu: int, state: RingState, events: Events) -> list[Events]:
        """Number *events* anew, per CPU, and return the losses between them."""
        losses, skipped = [], np.zeros(len(events), np.int64)
        for level in range(CONTEXTS):
            [mine] = np.nonzero(events["ctx"] == level)
            if not len(mine):
                continue
            seq, ts = events["seq"][mine].astype(np.int64), events["ts"][mine]
            before = np.append(state.position[level], seq[:-1] + 1)
            since = np.append(np.uint64(state.last_ts[level]), ts[:-1])
            for at in np.flatnonzero(seq > before):
                count = int(seq[at] - before[at])
                begin = min(int(since[at]), int(ts[at]))
                losses.append(loss(begin, int(ts[at]), Cause.OVERRUN, cpu, count))
                skipped[mine[at]] += count
            state.position[level], state.last_ts[level] = seq[-1] + 1, ts[-1]
        events["seq"] = state.seq + np.cumsum(skipped) + np.arange(len(events))
        state.seq += len(events) + int(skipped.sum())
        self.delivered += len(events)
        return losses

    def _missing(self, cpu: int, state: RingState, counted: Ints, now: int) -> list[Events]:
        """Return losses for the events that were *counted* but did not come, and that no later
        event of their context shows missing."""
        losses = []
        for level in np.flatnonzero(counted > state.position):
            count = int(counted[level] - state.position[level])
            # Without a buffer the kernel refuses the events.
            cause = Cause.OVERRUN if cpu in self._buffers else Cause.DROPPED
            losses.append(loss(int(state.last_ts[level]), now, cause, cpu, count))
            state.position[level] = counted[level]
            state.seq += count
        return losses
