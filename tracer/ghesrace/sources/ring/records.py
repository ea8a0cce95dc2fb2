# SPDX-License-Identifier: Apache-2.0
"""One pass over ring-buffer pages, and one from their records to events. Compiled.

A page is a header (time stamp, committed bytes) and records of 4-byte words whose first holds
type_len (5 bits) and time_delta (27 bits): `struct buffer_data_page` and `struct
ring_buffer_event` of kernel/trace/ring_buffer.c. Bytes are never trusted: what leaves its page is
refused, by a code that pages.py and decode.py turn into an InputError. All sums are modulo 2^64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ghesrace import uncompiled as cython
from ghesrace.uncompiled import Bytes, Ints, Uints, Words

if TYPE_CHECKING:
    from ghesrace.sources.values import Values
elif cython.compiled:
    import cython

# C constants; those that others use are Python's too.
_LOW_HALF = cython.declare(cython.ulonglong, (1 << 32) - 1)
_MISSED = cython.declare(cython.ulonglong, 1 << 31)  # RB_MISSED_EVENTS
_STORED = cython.declare(cython.ulonglong, 1 << 30)  # RB_MISSED_STORED
_MASK = cython.declare(cython.ulonglong, (1 << 64) - 1)
_OVERFULL = cython.declare(cython.longlong, -1)
_LEAVES = cython.declare(cython.longlong, -2)
_SHORT = cython.declare(cython.longlong, -1)
_UNREADABLE = cython.declare(cython.longlong, -2)
# What `walk` returns instead of a number of records: one of these, less 4 * the page's number.
OVERFULL, LEAVES = int(_OVERFULL), int(_LEAVES)
# What `fill` returns instead of a number of events: one of these, less 4 * the record's number.
SHORT, UNREADABLE = int(_SHORT), int(_UNREADABLE)

# A probe as `fill` takes it (`probe_row`): what all its events have in common; how `addr`, `phys`
# and `size` are made, ten numbers each; then the places of up to three fields that are 0 in a
# clear, of the one that is 0 in a write, and of the index. A place is offset, width (0: none),
# signedness.
_KIND = cython.declare(cython.Py_ssize_t, 0)
_CLEAR_KIND = cython.declare(cython.Py_ssize_t, 1)
_SLOT = cython.declare(cython.Py_ssize_t, 2)
_POINT = cython.declare(cython.Py_ssize_t, 3)
_FIT = cython.declare(cython.Py_ssize_t, 4)
_LEAST = cython.declare(cython.Py_ssize_t, 5)
_VALUES = cython.declare(cython.Py_ssize_t, 6)
_CLEARS = cython.declare(cython.Py_ssize_t, 36)
_WRITES = cython.declare(cython.Py_ssize_t, 45)
_INDEX = cython.declare(cython.Py_ssize_t, 48)
_ROW = cython.declare(cython.Py_ssize_t, 51)
_TYPES = cython.declare(cython.ulonglong, 1 << 16)
TYPES = int(_TYPES)  # common_type has 16 bits

Place = tuple[int, int, bool]  # of a field: offset and width in bytes, signedness


def probe_row(
    kind: int,
    clear_kind: int,
    slot: int,
    point: int,
    values: Values,
    places: Mapping[str, Place] | None,
) -> list[int]:
    """One probe for `fill`. *clear_kind*: 0 if it has none; *places*: those of the fields that
    *values* needs, or None if its records can't be read."""
    there = places or {}
    none: Place = (0, 0, False)
    least = max((offset + width for offset, width, _ in there.values()), default=0)
    row: list[int] = [kind, clear_kind, slot, point, places is not None, least]
    for value in (values.addr, values.phys, values.size):
        if value is None:
            row += [0] * 10
        else:
            row += [*there.get(value.field, none), value.shift]
            row += [*there.get(value.minus, none), *there.get(value.plus, none)]
    for name in [*values.clears, "", "", ""][:3]:
        row += there.get(name, none)
    row += [*there.get(values.writes or "", none), *there.get(values.index or "", none)]
    return [int(number) for number in row]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.overflowcheck(False)
@cython.exceptval(check=False)
@cython.locals(words="const unsigned int[::1]")
def _number(
    words: Uints, at: cython.Py_ssize_t, width: cython.Py_ssize_t, signed: cython.bint
) -> cython.ulonglong:
    """The number of *width* bytes at byte *at*, sign-extended to 64 bits if *signed*."""
    one: cython.ulonglong = 1
    low: cython.ulonglong
    word: cython.Py_ssize_t = at >> 2
    have: cython.Py_ssize_t = 4 - (at & 3)
    value: cython.ulonglong = words[word] >> 8 * (at & 3)
    while have < width:
        word += 1
        low = words[word]
        value |= low << 8 * have
        have += 4
    if width < 8:
        low = (one << 8 * width) - 1
        value &= low
        if signed and value >> (8 * width - 1):
            value |= ~low
    return value & _MASK


@cython.overflowcheck(False)
@cython.locals(
    words="const unsigned int[::1]",
    page="long long[::1]",
    offset="long long[::1]",
    size="long long[::1]",
    ts="unsigned long long[::1]",
    missed="long long[::1]",
    page_ts="unsigned long long[::1]",
    first="long long[::1]",
)
def walk(
    words: Uints,
    page_bytes: cython.Py_ssize_t,
    commit_offset: cython.Py_ssize_t,
    data_offset: cython.Py_ssize_t,
    page: Ints,
    offset: Ints,
    size: Ints,
    ts: Words,
    missed: Ints,
    page_ts: Words,
    first: Ints,
) -> int:
    """Write the records of whole pages into the columns of pages.Records; return how many.

    There is room for a record in every 8 bytes. Every *commit_offset* + 8 and *data_offset* is
    inside of a page, and *data_offset* and *page_bytes* are multiples of 4.
    """
    per_page: cython.Py_ssize_t = page_bytes >> 2
    pages: cython.Py_ssize_t = len(page_ts)
    found: cython.Py_ssize_t = 0
    number: cython.Py_ssize_t
    at: cython.Py_ssize_t
    end: cython.Py_ssize_t
    step: cython.Py_ssize_t
    used: cython.longlong
    length: cython.longlong
    failed: cython.longlong = 0
    head: cython.ulonglong
    second: cython.ulonglong
    kind: cython.ulonglong
    commit: cython.ulonglong
    count: cython.ulonglong
    stamp: cython.ulonglong
    now: cython.ulonglong
    one: cython.ulonglong = 1
    # The record holds 59 bits of an absolute stamp; the rest is the page's (rb_fix_abs_ts()).
    low: cython.ulonglong = (one << 59) - 1
    with cython.nogil:
        for number in range(pages):
            at = number * per_page
            now = _number(words, number * page_bytes, 8, False)
            page_ts[number] = now
            first[number] = found
            commit = _number(words, number * page_bytes + commit_offset, 8, False)
            used = commit & (_STORED - 1)
            if used > page_bytes - data_offset:
                failed = _OVERFULL - 4 * number
                break
            missed[number] = 0
            if commit & _MISSED:
                missed[number] = -1
                # ring_buffer_read_page() stores the count behind the records if there is room.
                if commit & _STORED and data_offset + used + 8 <= page_bytes:
                    count = _number(words, number * page_bytes + data_offset + used, 8, False)
                    if 0 < count < one << 62:
                        missed[number] = count
            at += data_offset >> 2
            end = at + ((used + 3) >> 2)
            while at < end:
                head = words[at]
                kind = head & 31
                stamp = head >> 5
                if kind == 29 and stamp == 0:  # padding up to the page's end (rb_null_event())
                    break
                step, second, length = 2, 0, 0
                if 0 < kind < 29:
                    step = 1 + kind
                elif at + 1 >= end:
                    failed = _LEAVES - 4 * number
                    break
                else:
                    second = words[at + 1]
                    if kind < 30:
                        # The payload starts with its own length in bytes, these four included.
                        length = second
                        step = 1 + ((length + 3) >> 2)
                        if kind == 0 and length < 4:
                            failed = _LEAVES - 4 * number
                            break
                if at + step > end:
                    failed = _LEAVES - 4 * number
                    break
                if kind == 31:
                    now = page_ts[number]
                    stamp = ((stamp + (second << 27)) & low) | (now & ~low)
                    if stamp < now:
                        stamp += low + 1
                    now = stamp & _MASK
                else:
                    if kind == 30:
                        stamp += second << 27
                    now = (now + stamp) & _MASK
                    if kind < 29:
                        page[found] = number
                        ts[found] = now
                        if kind:
                            offset[found], size[found] = 4 * at + 4, 4 * kind
                        else:
                            offset[found], size[found] = 4 * at + 8, length - 4
                        found += 1
                at += step
            if failed:
                break
    return failed or found


@cython.locals(
    words="const unsigned int[::1]",
    offset="const long long[::1]",
    size="const long long[::1]",
    rows="const long long[::1]",
    values="unsigned long long[::1]",
)
def column(
    words: Uints,
    offset: Ints,
    size: Ints,
    rows: Ints,
    field_offset: cython.Py_ssize_t,
    width: cython.Py_ssize_t,
    signed: cython.bint,
    values: Words,
) -> bool:
    """Write the values of one field of the records *rows*; False if one is too short for it."""
    count: cython.Py_ssize_t = len(rows)
    i: cython.Py_ssize_t
    short: cython.bint = False
    row: cython.Py_ssize_t
    with cython.nogil:
        for i in range(count):
            row = rows[i]
            if size[row] < field_offset + width:
                short = True
                break
            values[i] = _number(words, offset[row] + field_offset, width, signed)
    return not short


@cython.overflowcheck(False)
@cython.locals(
    words="const unsigned int[::1]",
    page="const long long[::1]",
    offset="const long long[::1]",
    size="const long long[::1]",
    ts="const unsigned long long[::1]",
    gaps="const unsigned long long[::1]",
    common="const long long[::1]",
    by_type="const short[::1]",
    probes="const long long[::1]",
    contexts="const unsigned char[::1]",
    indices="const unsigned long long[::1]",
    slots="const long long[::1]",
    events="unsigned long long[::1]",
    kept_before="long long[::1]",
)
def fill(
    words: Uints,
    page: Ints,
    offset: Ints,
    size: Ints,
    ts: Words,
    gaps: Words,
    common: Ints,
    by_type: Ints,
    probes: Ints,
    contexts: Bytes,
    indices: Words,
    slots: Ints,
    events: Words,
    kept_before: Ints,
    start: cython.Py_ssize_t,
    stop: cython.Py_ssize_t,
    first_page: cython.Py_ssize_t,
    last_page: cython.Py_ssize_t,
    cpu: cython.ulonglong,
    seq: cython.ulonglong,
    made: cython.Py_ssize_t,
) -> int:
    """Append the events of one CPU's records [start, stop) to the *made* ones in *events*; return
    how many there are then. They are those of its pages [first_page, last_page).

    *events* are EVENT records as words of 8 bytes. *common*: offset, width and signedness of
    common_type, common_flags and common_pid. *by_type*: row in *probes* by common_type, or -1.
    *slots* has the slot of each of *indices*; an event of another index is left out. *seq* is the
    first record's; a page's *gaps* are those lost before it. `kept_before` of a page: how many
    events precede it.
    """
    probe: cython.Py_ssize_t
    spec: cython.Py_ssize_t
    number: cython.Py_ssize_t
    found: cython.Py_ssize_t
    place: cython.Py_ssize_t
    end_page: cython.Py_ssize_t = first_page
    at: cython.Py_ssize_t
    other: cython.Py_ssize_t
    i: cython.Py_ssize_t
    out: cython.Py_ssize_t
    least: cython.longlong = 0
    known: cython.Py_ssize_t = len(indices)
    common_end: cython.longlong
    failed: cython.longlong = 0
    kind: cython.ulonglong
    flags: cython.ulonglong
    ours: cython.ulonglong
    value: cython.ulonglong
    addr: cython.ulonglong
    phys: cython.ulonglong
    length: cython.ulonglong
    pid: cython.ulonglong
    slot: cython.longlong
    wanted: cython.bint
    for number in range(3):
        common_end = common[3 * number] + common[3 * number + 1]
        least = common_end if common_end > least else least
    with cython.nogil:
        for i in range(start, stop):
            while end_page <= page[i]:
                seq = (seq + gaps[end_page]) & _MASK
                kept_before[end_page] = made
                end_page += 1
            at = offset[i]
            if size[i] < least:
                failed = _SHORT - 4 * i
                break
            kind = _number(words, at + common[0], common[1], common[2])
            probe = by_type[kind] if kind < _TYPES else -1
            if probe < 0:
                seq = (seq + 1) & _MASK
                continue
            spec = probe * _ROW
            if not probes[spec + _FIT]:
                failed = _UNREADABLE - 4 * i
                break
            if size[i] < probes[spec + _LEAST]:
                failed = _SHORT - 4 * i
                break
            flags = _number(words, at + common[3], common[4], common[5])
            pid = _number(words, at + common[6], common[7], common[8]) & _LOW_HALF
            ours = flags & 1  # Flag.IRQS_OFF is TRACE_FLAG_IRQS_OFF's bit
            addr = phys = length = 0
            for number in range(3):
                place = spec + _VALUES + 10 * number
                if probes[place + 1] == 0:
                    continue
                value = _number(words, at + probes[place], probes[place + 1], probes[place + 2])
                value = (value << probes[place + 3]) & _MASK
                if probes[place + 5]:
                    other = place + 4
                    value -= _number(
                        words, at + probes[other], probes[other + 1], probes[other + 2]
                    )
                if probes[place + 8]:
                    other = place + 7
                    value += _number(
                        words, at + probes[other], probes[other + 1], probes[other + 2]
                    )
                if number == 0:
                    addr = value & _MASK
                elif number == 1:
                    phys = value & _MASK
                else:
                    length = value & _MASK
            place = spec + _WRITES
            if probes[place + 1]:
                value = _number(words, at + probes[place], probes[place + 1], probes[place + 2])
                if value == 0:
                    ours |= 2  # Flag.WRITE
            slot = probes[spec + _SLOT]
            wanted = True
            place = spec + _INDEX
            if probes[place + 1]:
                value = _number(words, at + probes[place], probes[place + 1], probes[place + 2])
                wanted = False
                for found in range(known):
                    if indices[found] == value:
                        slot, wanted = slots[found], True
                        break
            if wanted:
                kind = probes[spec + _KIND]
                if probes[spec + _CLEAR_KIND]:
                    kind = probes[spec + _CLEAR_KIND]
                    for number in range(3):
                        place = spec + _CLEARS + 3 * number
                        other = probes[place + 1]
                        if other and _number(words, at + probes[place], other, probes[place + 2]):
                            kind = probes[spec + _KIND]
                            break
                out = 7 * made
                events[out] = ts[i]
                events[out + 1] = addr
                events[out + 2] = phys
                events[out + 3] = length
                events[out + 4] = seq
                value = probes[spec + _POINT]
                events[out + 5] = pid | value << 32 | (cpu & 0xFFFF) << 48
                value = contexts[flags & 0xFF]
                events[out + 6] = (slot & 0xFFFF) | kind << 16 | value << 24 | ours << 32
                made += 1
            seq = (seq + 1) & _MASK
        while end_page < last_page:
            kept_before[end_page] = made
            end_page += 1
    return failed or made
