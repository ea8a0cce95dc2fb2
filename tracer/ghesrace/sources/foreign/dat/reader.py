# SPDX-License-Identifier: Apache-2.0
"""This module reads a trace.dat as a foreign trace: its pages as they are, and its symbols, clock
and counters.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ghesrace.errors import InputError
from ghesrace.events import Cause
from ghesrace.host.kallsyms import Symbol, find_symbols
from ghesrace.plan import Unseen
from ghesrace.points import families, symbols
from ghesrace.sources.accounts import parse_profile
from ghesrace.sources.foreign.eventmap import ENTRY_BYTES, EventType
from ghesrace.sources.foreign.reader import Block
from ghesrace.sources.ring.pages import Field, PageLayout, Records

from .header import BufferPart, TraceDat, read_head
from .pages import PageFile

_DEFAULT_ERROR_NS = 1000
# The clocks are those of trace_clocks[] in kernel/trace/trace.c. A clock that is not listed here
# counts ns and is in step on all CPUs.
_COARSE_NS = {"uptime": 10_000_000}
_IN_STEP = ("mono", "mono_raw", "boot", "tai", "global")
_NO_TIME = ("counter", "x86-tsc", "ppc-tb")
_COMMON = ("common_type", "common_flags", "common_pid")


class DatReader:
    """This reads one buffer of a trace.dat; see foreign.reader.Reader. Raises InputError if the
    file is damaged. `open_dat` makes one for each buffer."""

    def __init__(
        self, path: Path, data: mmap.mmap | bytes, head: TraceDat, buffer: BufferPart
    ) -> None:
        self.buffer = buffer
        self.layout = PageLayout(
            head.layout.commit_offset, head.layout.data_offset, buffer.page_size
        )
        self.formats = {event.id: (system, event) for system, event in head.events}
        self.clock = buffer.clock
        self.release, self.arch = _host(head.uname)
        self.stats = head.stats
        # Version 7 may leave out CPUs without pages.
        cpus = max(len(buffer.cpus), len(head.stats))
        self.cpus = cpus if cpus > 1 or head.version < 7 else 0
        self._pages = PageFile(data, buffer, head.compression, path)
        self.truncated = self._pages.truncated
        self._entries = [
            s for found in find_symbols(head.kallsyms, _wanted()).values() for s in found
        ]
        for _, event in self.formats.values():
            for name in _COMMON:
                if event.fields.get(name) != head.events[0][1].fields.get(name):
                    raise InputError(
                        f"{path}: event {event.name} has no {name} where the others have it",
                        "the file is damaged: record again",
                    )
        if self.formats and any(n not in head.events[0][1].fields for n in _COMMON):
            raise InputError(f"{path}: its events have no {', '.join(_COMMON)}")
        missed = _missed(path)
        self.missed = missed or {}
        names = {event.name for _, event in self.formats.values()}
        ours = any(system.startswith("ghesrace_") for system, _ in self.formats.values())
        # A file that names none of these events is another recording's. Our script writes an empty
        # one if it set no kprobe.
        told = missed is not None and (bool(names & missed.keys()) or (ours and not missed))
        self.unknowns = frozenset(
            (("skipped-probes",) if not told else ())
            + (("clock",) if head.tsc or buffer.clock not in _IN_STEP else ())
        )
        self.contexts = True
        self.whole: list[tuple[Cause, int]] = []
        self.unseen = [*_clock_notes(buffer.clock, head.tsc)]
        self.clock_error_ns = _COARSE_NS.get(buffer.clock, _DEFAULT_ERROR_NS)
        if not told:
            what = "probe hits that the kernel skipped (kprobe_profile)"
            why = f"not in a trace.dat, and there is no {path.name}.missed beside it"
            self.unseen.append(Unseen(what, why, ("stale",)))

    @property
    def pages(self) -> int:
        """This is how many ring-buffer pages all CPUs have together."""
        return self._pages.count

    def blocks(self) -> Iterator[Block]:
        """See foreign.reader.Reader."""
        return self._pages.blocks()

    def event_type(self, ident: int, records: Records | None, row: int) -> EventType:
        """See foreign.reader.Reader. The function that a probe sits on is looked up in the file's
        kallsyms, by the address in the record."""
        system, event = self.formats[ident]
        returns = "__probe_ret_ip" in event.fields
        place: Field | None = event.fields.get("__probe_func" if returns else "__probe_ip")
        symbol = None
        if place is not None and records is not None:
            ip = int(records.column(place, np.array([row]))[0])
            symbol = self._symbol(ip)
        if symbol is None:
            return EventType(system, event.name, event, returns=returns)
        return EventType(system, event.name, event, symbol.plain, symbol.module, returns)

    def _symbol(self, ip: int) -> Symbol | None:
        inside = [s for s in self._entries if s.address and 0 <= ip - s.address < ENTRY_BYTES]
        return max(inside, key=lambda s: s.address, default=None)

    def addresses(self, name: str) -> set[int]:
        """Return the addresses of the functions called *name*, as far as the file tells them."""
        return {s.address for s in self._entries if s.plain == name and s.address}


def open_dat(path: Path, stored: Path | None = None) -> list[DatReader]:
    """Return a reader for each buffer of *path* that holds pages; *stored* is where its bytes are,
    if not there. Raises InputError if the file can't be read, is damaged, or holds no page.

        for reader in open_dat(Path("trace.dat")):
            print(reader.buffer.name, reader.pages, reader.clock)
    """
    try:
        with (stored or path).open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise InputError(f"can't read {path}: {error}", "give a trace.dat of trace-cmd") from error
    head = read_head(data, path)
    readers = [DatReader(path, data, head, buffer) for buffer in head.buffers]
    full = [reader for reader in readers if reader.pages]
    if not full:
        raise InputError(f"{path}: no ring-buffer page is in it", "record again, for longer")
    return full


def _wanted() -> frozenset[str]:
    return symbols(families()) - {""}


def _host(uname: str) -> tuple[str, str]:
    """Return the release and the architecture that "Linux NODE RELEASE MACHINE" says, which is what
    trace-cmd writes. Each is "" if it is not told."""
    words = uname.split()
    if len(words) < 4:
        return "", ""
    release, machine = ("".join(c for c in word if c.isprintable())[:64] for word in words[2:4])
    return release, {"aarch64": "arm64"}.get(machine, machine)


def _missed(path: Path) -> dict[str, int] | None:
    """Return how many hits of each event the kernel skipped, as the file *path*.missed says, which
    the script of `ghesrace plan --format trace-cmd` leaves; None if there is no such file. What
    was compressed since may have its name from before."""
    packed = path.with_suffix("") if path.suffix in (".gz", ".xz", ".zst") else path
    for name in dict.fromkeys((path.name, packed.name)):
        try:
            with path.with_name(f"{name}.missed").open("rb") as file:
                text = file.read(1 << 20).decode("utf-8", "replace")
            break
        except OSError:
            continue
    else:
        return None
    return {event: missed for event, (_, missed) in parse_profile(text).items()}


def _clock_notes(clock: str, tsc: bool) -> Iterator[Unseen]:
    if clock in _NO_TIME or tsc:
        what = f"times in nanoseconds: the clock {clock!r} counts something else"
        yield Unseen(what, "stamps are taken as they are; only their order means something")
    elif clock in ("local", "perf", ""):
        what = "how far the CPUs' clocks are apart"
        yield Unseen(what, f"the clock {clock or '?'!r} is per CPU: record with `-C mono`")
