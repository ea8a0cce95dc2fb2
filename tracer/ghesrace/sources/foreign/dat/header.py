# SPDX-License-Identifier: Apache-2.0
"""This module reads what trace-cmd's trace.dat (versions 6 and 7) says of itself; it reads no
events.

The format is described in trace-cmd.dat.v6(5), trace-cmd.dat.v7(5) and in trace-cmd's
lib/trace-cmd/trace-input.c. Every length comes from the file and is checked against it before
anything is read or allocated.
"""

from __future__ import annotations

import mmap
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from ghesrace.errors import InputError
from ghesrace.sources.accounts import parse_stats
from ghesrace.sources.ring.pages import EventFormat, PageLayout, parse_format, parse_page_layout

MAGIC = b"\x17\x08\x44tracing"
MAX_SECTION = 64 << 20  # bytes of one section, uncompressed; a kallsyms is some 10 MB
_MAX_FORMAT = 1 << 20
_MAX_EVENTS = 20_000
_MAX_CPUS = 8192
_MAX_OPTIONS = 100_000
_PAGE_SIZES = tuple(4096 << n for n in range(9))
_DAMAGED = "the file is damaged or cut: record again"

# These are the ids of options and sections in version 7. Version 6 has those of the first line,
# inline.
_BUFFER, _TRACECLOCK, _UNAME, _CPUSTAT, _TSC2NSEC, _CPUCOUNT = 3, 4, 5, 2, 14, 8
_DONE, _HEADER_INFO, _EVENTS, _KALLSYMS = 0, 16, 18, 19
_COMPRESSED = 1
_NAME = re.compile(r"[\w.-]{1,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class CpuData:
    """The pages of one CPU are the bytes [offset, offset + size) of the file."""

    cpu: int
    offset: int
    size: int


@dataclass(slots=True)
class BufferPart:
    """This describes the ring buffer of one tracing instance; the top one has the name "".
    `page_size` is in bytes, and `clock` is as the file names it."""

    name: str
    page_size: int
    cpus: list[CpuData]
    clock: str = ""
    compressed: bool = False


@dataclass(slots=True)
class TraceDat:
    """This is what the head of a file says. `events` has the (system, format) of each event,
    `stats` what per_cpu/*/stats said of each CPU, and `tsc` says that stamps count TSC ticks, not
    ns."""

    version: int
    page_size: int
    compression: str = "none"
    layout: PageLayout = field(default_factory=PageLayout)
    events: list[tuple[str, EventFormat]] = field(default_factory=list)
    kallsyms: bytes = b""
    uname: str = ""
    clock: str = ""
    tsc: bool = False
    stats: list[dict[str, int]] = field(default_factory=list)
    buffers: list[BufferPart] = field(default_factory=list)


class Cursor:
    """A cursor reads little-endian numbers, strings and blocks, one after the other. Every method
    raises InputError if the data ends before that.

    >>> cursor = Cursor(b"\\x02\\x00hi\\x00", Path("trace.dat"))
    >>> cursor.number(2), cursor.string()
    (2, 'hi')
    """

    def __init__(self, data: mmap.mmap | bytes, path: Path, at: int = 0) -> None:
        self.data, self.path, self.at = data, path, at

    def take(self, size: int) -> bytes:
        """Return the next *size* bytes."""
        if size < 0 or self.at < 0 or size > len(self.data) - self.at:
            raise InputError(f"{self.path}: it ends in the middle of its head", _DAMAGED)
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        """Return the next number, which has *size* bytes and no sign."""
        return int.from_bytes(self.take(size), "little")

    def block(self, width: int, limit: int = MAX_SECTION) -> bytes:
        """Return the next block, before which its size stands as a number of *width* bytes. The
        block may have at most *limit* bytes."""
        size = self.number(width)
        if size > limit:
            raise InputError(f"{self.path}: a part of its head claims {size:,} bytes", _DAMAGED)
        return self.take(size)

    def string(self, limit: int = 4096) -> str:
        """Return the next string, which ends with a NUL within *limit* bytes."""
        end = self.data.find(b"\0", self.at, self.at + limit)
        if end < 0:
            raise InputError(f"{self.path}: a name in its head has no end", _DAMAGED)
        return self.take(end + 1 - self.at)[:-1].decode("utf-8", "replace")

    def expect(self, word: bytes) -> None:
        """Skip *word*. Raises InputError if something else is there."""
        if self.take(len(word)) != word:
            raise InputError(
                f"{self.path}: no {word.rstrip(bytes(1)).decode()!r} where it should be", _DAMAGED
            )


def read_head(data: mmap.mmap | bytes, path: Path) -> TraceDat:
    """Parse everything in *data* but the pages; *path* is the file's name in messages. Raises
    InputError if it is damaged, or of a kind that can't be read.

        head = read_head(Path("trace.dat").read_bytes(), Path("trace.dat"))
        print(head.version, [buffer.name for buffer in head.buffers])
    """
    cursor = Cursor(data, path)
    cursor.expect(MAGIC)
    version = cursor.string(16)
    if version not in ("6", "7"):
        raise InputError(
            f"{path}: trace.dat version {version[:16]!r}; versions 6 and 7 can be read",
            "convert it with `trace-cmd convert`, or give the text of `trace-cmd report`",
        )
    if cursor.number(1) != 0:
        raise InputError(
            f"{path}: recorded on a big-endian machine", "give the text of `trace-cmd report`"
        )
    cursor.number(1)  # This is the size of a long in user space, which says nothing of the kernel.
    head = TraceDat(int(version), _page_size(path, cursor.number(4)))
    if head.version == 6:
        _version6(cursor, head)
    else:
        _version7(cursor, head)
    for buffer in head.buffers:
        buffer.clock = buffer.clock or head.clock
    return head


def _page_size(path: Path, size: int) -> int:
    if size not in _PAGE_SIZES:
        raise InputError(f"{path}: ring-buffer pages of {size} bytes", _DAMAGED)
    return size


def _version6(cursor: Cursor, head: TraceDat) -> None:
    _header_info(cursor, head)
    _skip_ftrace(cursor)
    _formats(cursor, head)
    head.kallsyms = cursor.block(4)
    cursor.block(4)  # trace_printk formats
    cursor.block(8)  # command lines
    cpus = _cpu_count(cursor, cursor.number(4))
    instances: list[tuple[str, int]] = []
    tag = cursor.take(10)
    if tag == b"options  \0":
        for _ in range(_MAX_OPTIONS):
            option = cursor.number(2)
            if option == _DONE:
                break
            body = cursor.block(4)
            if option == _BUFFER:
                inner = Cursor(body, cursor.path)
                offset = inner.number(8)
                instances.append((inner.string(), offset))
            elif option == _CPUCOUNT:
                cpus = _cpu_count(cursor, int.from_bytes(body[:4], "little"))
            else:
                _option(option, body, head)
        else:
            raise InputError(f"{cursor.path}: too many options", _DAMAGED)
        tag = cursor.take(10)
    head.buffers.append(_flyrecord6(cursor, head, "", cpus, tag))
    for name, offset in instances:
        inner = Cursor(cursor.data, cursor.path, offset)
        head.buffers.append(_flyrecord6(inner, head, name, cpus, inner.take(10)))


def _cpu_count(cursor: Cursor, cpus: int) -> int:
    if not 0 < cpus <= _MAX_CPUS:
        raise InputError(f"{cursor.path}: data of {cpus} CPUs", _DAMAGED)
    return cpus


def _flyrecord6(cursor: Cursor, head: TraceDat, name: str, cpus: int, tag: bytes) -> BufferPart:
    if tag == b"latency  \0":
        raise InputError(
            f"{cursor.path}: recorded with a latency tracer, which leaves text only",
            "record with `trace-cmd record -e ...`",
        )
    if tag != b"flyrecord\0":
        raise InputError(f"{cursor.path}: no 'flyrecord' where it should be", _DAMAGED)
    data = [CpuData(cpu, cursor.number(8), cursor.number(8)) for cpu in range(cpus)]
    return BufferPart(name, head.page_size, data)


def _version7(cursor: Cursor, head: TraceDat) -> None:
    head.compression = cursor.string(64)
    cursor.string(64)  # its version
    if head.compression not in ("none", "zstd", "zlib"):
        raise InputError(
            f"{cursor.path}: compressed with {head.compression!r}; zstd and zlib can be read",
            "convert it with `trace-cmd convert --compression zstd`",
        )
    sections: dict[int, int] = {}
    options_at, seen = cursor.number(8), set()
    while options_at:
        if options_at in seen:
            raise InputError(f"{cursor.path}: its options go round in circles", _DAMAGED)
        seen.add(options_at)
        options_at = _options7(cursor, head, options_at, sections)
        if len(seen) > 1000:
            raise InputError(f"{cursor.path}: too many options", _DAMAGED)
    for number, read in (
        (_HEADER_INFO, _header_info),
        (_EVENTS, _formats),
        (_KALLSYMS, _kallsyms),
    ):
        if number in sections:
            read(_section(cursor, head, sections[number], number), head)
        elif number != _KALLSYMS:
            raise InputError(f"{cursor.path}: it has no event formats", _DAMAGED)


def _options7(cursor: Cursor, head: TraceDat, at: int, sections: dict[int, int]) -> int:
    """Read the section of options at the offset *at*; return the offset of the next one, or 0."""
    inner = _section(cursor, head, at, _DONE)
    for _ in range(_MAX_OPTIONS):
        option, body = inner.number(2), inner.block(4)
        if option == _DONE:
            return int.from_bytes(body[:8], "little")
        if option == _BUFFER:
            head.buffers.append(_buffer7(Cursor(body, cursor.path), cursor))
        elif option in (_HEADER_INFO, _EVENTS, _KALLSYMS):
            sections[option] = int.from_bytes(body[:8], "little")
        else:
            _option(option, body, head)
    raise InputError(f"{cursor.path}: too many options", _DAMAGED)


def _buffer7(option: Cursor, file: Cursor) -> BufferPart:
    offset = option.number(8)
    name, clock = option.string(), option.string()
    page_size = _page_size(file.path, option.number(4))
    count = option.number(4)
    if count > _MAX_CPUS:
        raise InputError(f"{file.path}: data of {count} CPUs", _DAMAGED)
    data = [CpuData(option.number(4), option.number(8), option.number(8)) for _ in range(count)]
    if len({d.cpu for d in data}) < count or any(d.cpu >= 0xFFFF for d in data):
        raise InputError(f"{file.path}: impossible CPU numbers", _DAMAGED)
    flags = 0
    if offset:
        section = Cursor(file.data, file.path, offset)
        section.number(2)
        flags = section.number(2)
    return BufferPart(name, page_size, data, clock, bool(flags & _COMPRESSED))


def _section(cursor: Cursor, head: TraceDat, at: int, number: int) -> Cursor:
    """Return a cursor over the uncompressed content of the section at the offset *at*."""
    inner = Cursor(cursor.data, cursor.path, at)
    if inner.number(2) != number:
        raise InputError(f"{cursor.path}: section {number} is not where it should be", _DAMAGED)
    flags = inner.number(2)
    inner.number(4)
    body = inner.block(8)
    if flags & _COMPRESSED:
        packed = Cursor(body, cursor.path)
        size, full = packed.number(4), packed.number(4)
        body = expand(packed.take(size), full, head.compression, cursor.path, MAX_SECTION)
    return Cursor(body, cursor.path)


def expand(data: bytes, size: int, how: str, path: Path, limit: int) -> bytes:
    """Uncompress *data* by the method *how* to exactly *size* bytes (at most *limit*). Raises
    InputError if that can't be done.

    >>> expand(zlib.compress(b"page"), 4, "zlib", Path("trace.dat"), limit=4096)
    b'page'
    """
    if size > limit:
        raise InputError(f"{path}: a compressed part claims {size:,} bytes", _DAMAGED)
    try:
        if how == "zlib":
            unpacked = zlib.decompressobj().decompress(data, size + 1)
        elif how == "zstd":
            unpacked = pa.Codec("zstd").decompress(data, size, asbytes=True) if size else b""
        else:
            raise InputError(f"{path}: compressed with {how!r}", _DAMAGED)
    except (zlib.error, pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise InputError(f"{path}: a compressed part is damaged: {error}", _DAMAGED) from error
    if len(unpacked) != size:
        raise InputError(f"{path}: a compressed part is not as long as it claims", _DAMAGED)
    return unpacked


def _header_info(cursor: Cursor, head: TraceDat) -> None:
    cursor.expect(b"header_page\0")
    head.layout = parse_page_layout(cursor.block(8, _MAX_FORMAT).decode("utf-8", "replace"))
    if not 16 <= head.layout.data_offset <= 64 or head.layout.commit_offset not in (8, 12, 16):
        raise InputError(f"{cursor.path}: impossible ring-buffer pages", _DAMAGED)
    cursor.expect(b"header_event\0")
    cursor.block(8, _MAX_FORMAT)


def _skip_ftrace(cursor: Cursor) -> None:
    for _ in _count(cursor):
        cursor.block(8, _MAX_FORMAT)


def _count(cursor: Cursor) -> Iterator[int]:
    count = cursor.number(4)
    if count > _MAX_EVENTS:
        raise InputError(f"{cursor.path}: {count:,} events or systems", _DAMAGED)
    return iter(range(count))


def _formats(cursor: Cursor, head: TraceDat) -> None:
    found: dict[int, tuple[str, EventFormat]] = {}
    for _ in _count(cursor):
        system = cursor.string()
        for _ in _count(cursor):
            text = cursor.block(8, _MAX_FORMAT).decode("utf-8", "replace")
            event = parse_format(text)
            if not (_NAME.fullmatch(system) and _NAME.fullmatch(event.name)):
                raise InputError(f"{cursor.path}: an impossible name of an event", _DAMAGED)
            found[event.id] = (system, event)
            if len(found) > _MAX_EVENTS:
                raise InputError(f"{cursor.path}: too many events", _DAMAGED)
    head.events = list(found.values())


def _kallsyms(cursor: Cursor, head: TraceDat) -> None:
    head.kallsyms = cursor.block(4)


def _option(option: int, body: bytes, head: TraceDat) -> None:
    text = body.rstrip(b"\0").decode("utf-8", "replace")
    if option == _TRACECLOCK:
        current = re.search(r"\[([\w-]+)\]", text)
        head.clock = current[1] if current else text.strip()
    elif option == _UNAME:
        head.uname = text
    elif option == _CPUSTAT:
        head.stats.append(parse_stats(text))
    elif option == _TSC2NSEC:
        head.tsc = True
