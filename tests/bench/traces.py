# SPDX-License-Identifier: Apache-2.0
"""Long traces for the benchmarks, made of the short ones in the fixtures by repetition: each time
all stamps are later, so that a file is one run."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ghesrace.sources.foreign.dat.header import read_head
from ghesrace.sources.ring.pages import decode
from tests.build.paths import CORPUS

_STAMP = re.compile(rb"(?<=\s)(\d+)\.(\d{6}(?:\d{3})?)(?=:)")
_GAP_NS = 1_000_000  # between two repetitions


def write_dat(path: Path, events: int) -> int:
    """Write a trace.dat (version 6) of about *events* events to *path*; return how many it has."""
    source = CORPUS / "v6.dat"
    data = bytearray(source.read_bytes())
    head = read_head(bytes(data), source)
    [buffer] = [buffer for buffer in head.buffers if any(cpu.size for cpu in buffer.cpus)]
    pages = [data[cpu.offset : cpu.offset + cpu.size] for cpu in buffer.cpus]
    records = [decode(bytes(one), head.layout) for one in pages]
    stamps = np.concatenate([found.ts for found in records])
    span = int(stamps.max() - stamps.min()) + _GAP_NS
    times = max(1, round(events / len(stamps)))
    at = min(cpu.offset for cpu in buffer.cpus)
    table = _table(data, buffer.cpus[0].offset, buffer.cpus[0].size)
    with path.open("wb") as file:
        offset = at
        for number, one in enumerate(pages):
            struct.pack_into("<QQ", data, table + 16 * number, offset, len(one) * times)
            offset += len(one) * times
        file.write(data[:at])
        for one in pages:
            for shift in range(times):
                file.write(_later(one, shift * span, head.page_size))
    path.with_name(f"{path.name}.missed").write_bytes(
        b"".join(b"%s 1 0\n" % event.name.encode() for _, event in head.events)
    )
    return len(stamps) * times


def _table(data: bytearray, offset: int, size: int) -> int:
    """Where the file says that the pages of its first CPU are."""
    return data.index(struct.pack("<QQ", offset, size))


def _later(pages: bytearray, shift: int, size: int) -> bytes:
    words = np.frombuffer(pages, np.uint8).reshape(-1, size).copy().view("<u8")
    words[:, 0] += np.uint64(shift)
    return words.tobytes()


def write_text(path: Path, events: int, fixture: str) -> int:
    """Write a text of about *events* events to *path*, of the lines of *fixture*; return how many
    it has."""
    lines = (CORPUS / fixture).read_bytes().splitlines(keepends=True)
    heads = [line for line in lines if not _STAMP.search(line)]
    heads = [line for line in heads if b"entries-in-buffer" not in line]
    lines = [line for line in lines if _STAMP.search(line)]
    times = max(1, round(events / len(lines)))
    with path.open("wb") as file:
        file.writelines(heads)
        for text in _repeated(lines, times):
            file.write(text)
    return times * len(lines)


def _repeated(lines: list[bytes], times: int) -> Iterator[bytes]:
    """The *lines*, *times* times, each time with later stamps."""
    stamps = [found for found in map(_STAMP.search, lines) if found is not None]
    digits = len(stamps[0][2])
    units = [int(found[1] + found[2]) for found in stamps]
    span = max(units) - min(units) + max(1, _GAP_NS // 10 ** (9 - digits))
    unit = 10**digits
    # Two long pieces and no search in each repetition: it is many millions of lines.
    cut = [(line[: m.start()], line[m.end() :]) for line, m in zip(lines, stamps, strict=True)]
    for number in range(times):
        shift = number * span
        made = []
        for (before, behind), at in zip(cut, units, strict=True):
            seconds, rest = divmod(at + shift, unit)
            made.append(b"%s%d.%0*d%s" % (before, seconds, digits, rest, behind))
        yield b"".join(made)
