# SPDX-License-Identifier: Apache-2.0
"""The firmware puts error records into guest memory, interrupts a CPU and waits for the answer.

`Firmware.counts()` says what it did, which is the ground truth that tests compare with.
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
    """The guest's RAM is a file at *path* that the host maps; it begins at guest-physical *base*.

        memory = GuestMemory(ram, 0x4000_0000)
        memory.write(0x4000_1000, b"HEST")
        memory.find(b"HEST", 0x4000_0000, memory.end)  # 0x4000_1000

    Raises OSError or ValueError if the file is missing or empty.
    """

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
        """Return the first guest-physical address of *what* in [start, end), or None."""
        # mmap.find() is of no use: until Python 3.11.5 (gh-105235) it reads behind the map's end.
        found = re.compile(re.escape(what)).search(self._map, start - self._base, end - self._base)
        return found.start() + self._base if found else None

    @property
    def end(self) -> int:
        """Return the guest-physical address behind the last byte."""
        return self._base + len(self._map)

    def word(self, address: int) -> int:
        """Read the aligned u32 at guest-physical *address* with one load."""
        return self._words[(address - self._base) // 4]

    def set_word(self, address: int, value: int) -> None:
        """Write the aligned u32 at guest-physical *address* with one store, as a CPU would."""
        self._words[(address - self._base) // 4] = value

    def close(self) -> None:
        """Unmap the file."""
        self._words.release()
        self._map.close()


@dataclass
class Counts:
    """These counts say what happened to one source's records.

    `busy` counts attempts to post while the kernel had not yet acknowledged the last record.
    """

    posted: int = 0
    acknowledged: int = 0
    busy: int = 0


@dataclass
class Interrupts:
    """These interrupts were raised; some may be merged or lost, as NMIs do not queue."""

    nmi: int = 0
    irq: int = 0
    hed: int = 0


@dataclass
class Firmware:
    """Posts records for *placed* sources through *memory*, notifies through *notifier*.

    Its methods may be called from several threads. Those that take the name of a source raise
    UsageError if there is no such source, and those that interrupt raise TransientError if QEMU
    is gone.

        firmware = Firmware(memory, machine)
        firmware.report("nmi-cross")
        assert firmware.wait("nmi-cross", seconds=2.0)
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
        """Put a corrected memory error into the block of source *name*, without a notification.

        block_status is written last, as the kernel reads it first. Returns False, and writes
        nothing, if the kernel has not acknowledged the last record.
        """
        place = self.source(name)
        with self._lock:
            if not self.idle(name):
                self._counts[name].busy += 1
                return False
            number = self._counts[name].posted
            record = cper.status_block(number)  # The kernel would not report equal ones.
            self.memory.write(place.block + 4, record[4:])
            self.memory.set_word(place.block, int.from_bytes(record[:4], "little"))
            self._pending.add(name)
            self._counts[name].posted += 1
            return True

    def raise_(self, notify: Notify) -> None:
        """Interrupt the guest the way *notify* says; a polled source needs nothing.

        Nothing is done for an SEA, as only a CPU's own load can end in one (`agent.Loads`).
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

        A lost or merged interrupt needs this second notification. Returns what `post` said.
        """
        posted = self.post(name)
        self.raise_(self.source(name).source.notify)
        return posted

    def wait(self, name: str, seconds: float) -> bool:
        """Wait until the kernel has acknowledged the last record of source *name*.

        Returns False if it has not within so many *seconds*.
        """
        end = time.monotonic() + seconds
        while not self.idle(name):
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_S)
        return True

    def counts(self) -> dict[str, object]:
        """Return the ground truth, ready for JSON: `sources` ({name: Counts}) and `raised`."""
        with self._lock:
            for name in self._sources:
                self.idle(name)
            return {
                "sources": {name: asdict(c) for name, c in self._counts.items()},
                "raised": asdict(self._raised),
            }
