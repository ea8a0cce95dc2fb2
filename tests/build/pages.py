# SPDX-License-Identifier: Apache-2.0
"""Writes ring-buffer pages and event formats by hand, as kernel/trace/ring_buffer.c does."""

from __future__ import annotations

import struct

from ghesrace.sources.ring.pages import EventFormat, parse_format

DATA = 4080
COMMON = (
    "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
    "\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n"
    "\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n"
    "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
    "\tfield:unsigned long __probe_ip;\toffset:8;\tsize:8;\tsigned:0;\n"
)
CODES = {"u32": "I", "s32": "i", "u64": "Q", "s64": "q"}


def format_text(ident: int, **fields: str) -> str:
    """A format file like the kernel's: *fields* are name="u32" and so on, packed."""
    text, offset = f"name: event{ident}\nID: {ident}\nformat:\n{COMMON}", 16
    for name, kind in fields.items():
        size = struct.calcsize("<" + CODES[kind])
        signed = int(kind.startswith("s"))
        text += f"\tfield:{kind} {name};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n"
        offset += size
    return text + '\nprint fmt: ""\n'


def make_format(ident: int, **fields: str) -> EventFormat:
    return parse_format(format_text(ident, **fields))


def payload(ident: int, *values: tuple[str, int], flags: int = 0, pid: int = 1) -> bytes:
    """A kprobe event's payload; *values*: ("u32", 5), ..., in the order of the format."""
    body = struct.pack("<HBBiQ", ident, flags, 0, pid, 0xFFFFFFFF81000000)
    return body + b"".join(struct.pack("<" + CODES[kind], value) for kind, value in values)


def data_event(delta: int, data: bytes, wide: bool = False) -> bytes:
    """One data record; *wide*: with an explicit length word, as large ones have."""
    data = data.ljust(-(-len(data) // 4) * 4, b"\0")
    if wide or len(data) > 28 * 4:
        return struct.pack("<II", delta << 5, len(data) + 4) + data
    return struct.pack("<I", delta << 5 | len(data) // 4) + data


def time_extend(delta: int) -> bytes:
    return struct.pack("<II", (delta & (1 << 27) - 1) << 5 | 30, delta >> 27)


def time_stamp(ts: int) -> bytes:
    low = ts & (1 << 59) - 1
    return struct.pack("<II", (low & (1 << 27) - 1) << 5 | 31, low >> 27)


def discarded(delta: int, size: int) -> bytes:
    """A record that a filter discarded after it was reserved: padding with a length."""
    return struct.pack("<II", delta << 5 | 29, size) + bytes(size - 4)


def null_padding() -> bytes:
    return struct.pack("<I", 29)


def page(ts: int, *records: bytes, missed: int | None = None, stored: bool = True) -> bytes:
    """One page of 4096 bytes; *missed*: events overwritten before it (None: none)."""
    data = b"".join(records)
    assert len(data) <= DATA
    commit = len(data)
    if missed is not None:
        commit |= 1 << 31
        if stored:
            commit |= 1 << 30
            data += struct.pack("<Q", missed)
    return struct.pack("<QQ", ts, commit) + data.ljust(DATA, b"\0")
