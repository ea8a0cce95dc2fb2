# SPDX-License-Identifier: Apache-2.0
"""The firmware: puts error records into guest memory, interrupts a CPU, waits for the answer.

What it did is the ground truth that tests compare with: `Firmware.counts()`.
"""

from __future__ import annotations

import mmap
import re
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ghesrace.errors import UsageError
from lab.qemu import Wires

from . import cper, hest
from .hest import Notify, Placed

_POLL_S = 0.002


class GuestMemory:
    """The guest's RAM as a file mapped by the host; it begins at guest-physical *base*."""

    def __init__(self, path: Path, base: int = 0) -> None:
        self._base = base
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._words = memoryview(self._map).cast("I")

    def write(self, address: int, data: bytes) -> None:
        """Write *data* at guest-physical *address* (bytes)."""
        start = address - self._base
        self._map[start : start + len(data)] = data

    def read(self, address: int, size: int) -> bytes:
        """Read *size* bytes at guest-physical *address*."""
        return self._map[address - self._base : address - self._base + size]

    def find(self, what: bytes, start: int, end: int) -> int | None:
        """The first address of *what* in [start, end), or None."""
        # Not mmap.find(): until Python 3.11.5 (gh-105235) it reads behind the end of the map.
        found = re.compile(re.escape(what)).search(self._map, start - self._base, end - self._base)
        return found.start() + self._base if found else None

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self._base + len(self._map)

    def word(self, address: int) -> int:
        """Read the aligned u32 at *address*."""
        return self._words[(address - self._base) // 4]

    def set_word(self, address: int, value: int) -> None:
        """Store the aligned u32 at *address* with one store, as a CPU would see it."""
        self._words[(address - self._base) // 4] = value

    def close(self) -> None:
        """Unmap the file."""
        self._words.release()
        self._map.close()


@dataclass
class Counts:
    """What happened to one source's records.

    `busy`: attempts to post while the kernel had not yet acknowledged the record before.
    """

    posted: int = 0
    acknowledged: int = 0
    busy: int = 0


@dataclass
class Interrupts:
    """What was raised: the kernel may have merged or lost some (NMIs do not queue)."""

    nmi: int = 0
    irq: int = 0
    hed: int = 0


@dataclass
class Firmware:
    """Posts records for *placed* sources through *memory*, notifies through *notifier*.

    Safe to call from several threads.
    """

    memory: GuestMemory
    notifier: Wires
    placed: tuple[Placed, ...] = field(default_factory=hest.place)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._sources = {p.source.name: p for p in self.placed}
        self._counts = {name: Counts() for name in self._sources}
        self._pending: set[str] = set()
        self._vectors = {p.source.notify: p.source.vector for p in self.placed}
        self._raised = Interrupts()

    def source(self, name: str) -> Placed:
        """Return the source called *name*. Raises UsageError if there is none."""
        try:
            return self._sources[name]
        except KeyError:
            raise UsageError(
                f"no error source is called {name!r}", f"there are: {', '.join(self._sources)}"
            ) from None

    def idle(self, name: str) -> bool:
        """Say whether the kernel has acknowledged the last record of source *name*."""
        place = self.source(name)
        with self._lock:
            if self.memory.word(place.block + cper.STATUS_OFFSET):
                return False
            if name in self._pending:
                self._pending.discard(name)
                self._counts[name].acknowledged += 1
            return True

    def post(self, name: str) -> bool:
        """Put a corrected memory error into the block of source *name*; tell nobody yet.

        block_status is written last, as the kernel reads it first. Returns False, and writes
        nothing, when the record before has not been acknowledged.
        """
        place = self.source(name)
        with self._lock:
            if not self.idle(name):
                self._counts[name].busy += 1
                return False
            number = self._counts[name].posted
            record = cper.status_block(number)  # the kernel keeps quiet of equal ones
            self.memory.write(place.block + 4, record[4:])
            self.memory.set_word(place.block, int.from_bytes(record[:4], "little"))
            self._pending.add(name)
            self._counts[name].posted += 1
            return True

    def raise_(self, notify: Notify) -> None:
        """Interrupt the guest the way *notify* says; a polled source needs nothing.

        An SEA is the guest's to take (agent.Loads), as only a CPU's own load can end in one.
        """
        if notify is Notify.NMI:
            self.notifier.nmi()
            with self._lock:
                self._raised.nmi += 1
        elif notify is Notify.EXTERNAL:
            self.notifier.irq(self._vectors[notify])
            with self._lock:
                self._raised.irq += 1
        elif notify in (Notify.GPIO, Notify.GSIV):
            self.notifier.irq(self._vectors[notify])
            with self._lock:
                self._raised.hed += 1

    def report(self, name: str) -> bool:
        """Post a record of source *name*, unless one is pending, and notify in any case.

        Notifying again is what a lost or merged interrupt needs. Returns what `post` said.
        """
        posted = self.post(name)
        self.raise_(self.source(name).source.notify)
        return posted

    def wait(self, name: str, seconds: float) -> bool:
        """Wait until source *name* is acknowledged; False when *seconds* are over."""
        end = time.monotonic() + seconds
        while not self.idle(name):
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_S)
        return True

    def counts(self) -> dict[str, object]:
        """Return the ground truth, JSON-ready: `sources` (name: Counts) and `raised`."""
        with self._lock:
            for name in self._sources:
                self.idle(name)
            return {
                "sources": {name: asdict(c) for name, c in self._counts.items()},
                "raised": asdict(self._raised),
            }
