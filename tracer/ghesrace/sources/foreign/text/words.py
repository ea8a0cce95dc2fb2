# SPDX-License-Identifier: Apache-2.0
"""This module reads the words of plain lines, whose heads heads.py has read: the buffer's name, the
letters of the context, the event and its arguments. Compiled.

A line is plain if these words are known, its event's wanted arguments are numbers, and nothing in
it looks like another line or like what tells of losses. plain.py says why such a line needs none of
the regular expressions of careful.py, and has what is known: `pool` with the bytes of words,
`entries` and `fields` with what they stand for, and `table`, in which a word is found by its hash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ghesrace import uncompiled as cython
from ghesrace.uncompiled import Bytes, Ints, Words

if not TYPE_CHECKING and cython.compiled:
    import cython
    from cython.cimports.libc.string import memcmp

# The sorts of words.
_BUFFER = cython.declare(cython.longlong, 0)
_FLAGS = cython.declare(cython.longlong, 1)
_EVENT = cython.declare(cython.longlong, 2)
BUFFER, FLAGS, EVENT = int(_BUFFER), int(_FLAGS), int(_EVENT)

# A word, as `entries` has it: where it is in the pool, its length, its sort, its hash, what it
# stands for, and of an event the first of the arguments that are wanted, and their number.
_WORD = cython.declare(cython.Py_ssize_t, 0)
_LENGTH = cython.declare(cython.Py_ssize_t, 1)
_SORT = cython.declare(cython.Py_ssize_t, 2)
_HASH = cython.declare(cython.Py_ssize_t, 3)
_VALUE = cython.declare(cython.Py_ssize_t, 4)
_FIRST = cython.declare(cython.Py_ssize_t, 5)
_COUNT = cython.declare(cython.Py_ssize_t, 6)
_NUMBERS = cython.declare(cython.Py_ssize_t, 7)
NUMBERS = int(_NUMBERS)
# What is remembered from line to line: whether a stamp was in microseconds, and what stood behind
# an event's name the last time (the entry + 1, or 0), by the name's hash.
_MICRO_SEEN = cython.declare(cython.Py_ssize_t, 1)
_LAST = cython.declare(cython.Py_ssize_t, 2)
_NAMES = cython.declare(cython.ulonglong, 255)  # less one: a power of two
MICRO_SEEN, REMEMBERED = int(_MICRO_SEEN), int(_LAST + _NAMES) + 1
# An argument, as `fields` has it: where its name is in the pool, its length, its value's column.
_FIELD = cython.declare(cython.Py_ssize_t, 3)
MOST_FIELDS = 60  # that are wanted of one event
# A word is in one of so many places of the table, so that no choice of words makes it slow.
_PROBES = cython.declare(cython.Py_ssize_t, 16)
PROBES = int(_PROBES)

# The columns of heads.py that are read.
_HEAD_COLUMNS = cython.declare(cython.Py_ssize_t, 11)
HEAD_COLUMNS = int(_HEAD_COLUMNS)
_CPU = cython.declare(cython.Py_ssize_t, 0)
_TS = cython.declare(cython.Py_ssize_t, 1)
_PID = cython.declare(cython.Py_ssize_t, 2)
_MICRO = cython.declare(cython.Py_ssize_t, 3)
_LINE = cython.declare(cython.Py_ssize_t, 4)
_NAME = cython.declare(cython.Py_ssize_t, 5)
_NAME_END = cython.declare(cython.Py_ssize_t, 6)
_FLAGS_AT = cython.declare(cython.Py_ssize_t, 7)
_FLAGS_END = cython.declare(cython.Py_ssize_t, 8)
_EVENT_AT = cython.declare(cython.Py_ssize_t, 9)
# And those that are written, in the order of plain.Parsed.
_MADE_LINE = cython.declare(cython.Py_ssize_t, 0)
_MADE_CPU = cython.declare(cython.Py_ssize_t, 1)
_MADE_TS = cython.declare(cython.Py_ssize_t, 2)
_MADE_PID = cython.declare(cython.Py_ssize_t, 3)
_BITS = cython.declare(cython.Py_ssize_t, 4)
_OF = cython.declare(cython.Py_ssize_t, 5)
_IDENT = cython.declare(cython.Py_ssize_t, 6)
_COLUMNS = cython.declare(cython.Py_ssize_t, 7)
COLUMNS = int(_COLUMNS)

_MOST_OF_A_NAME = cython.declare(cython.Py_ssize_t, 15)  # longer ones may tell of losses
_MASK = cython.declare(cython.ulonglong, (1 << 64) - 1)
_TENTH = cython.declare(cython.ulonglong, ((1 << 64) - 1) // 10)
_BLANK = cython.declare(cython.uchar, 32)
_NEWLINE = cython.declare(cython.uchar, 10)
_COLON = cython.declare(cython.uchar, 58)
_MINUS = cython.declare(cython.uchar, 45)
_EQUALS = cython.declare(cython.uchar, 61)
_OPEN = cython.declare(cython.uchar, 40)
_CLOSE = cython.declare(cython.uchar, 41)
_BRACKET = cython.declare(cython.uchar, 91)
_DELETE = cython.declare(cython.uchar, 127)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]")
def _behind(text: Bytes, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Return where the blanks at *at* end."""
    while text[at] == _BLANK:
        at += 1
    return at


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]", pool="const unsigned char[::1]")
def _alike(
    text: Bytes,
    at: cython.Py_ssize_t,
    pool: Bytes,
    word: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
) -> cython.bint:
    """Return whether the *size* bytes at *at* are those of the pool's at *word*."""
    if at + size > len(text):
        return False
    if cython.compiled:
        same: cython.bint = memcmp(  # type: ignore[name-defined]
            cython.address(text[at]), cython.address(pool[word]), size
        )
        return not same
    else:  # noqa: RET505 - Cython reads only one of the two.
        return text[at : at + size] == pool[word : word + size]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.overflowcheck(False)
@cython.locals(
    text="const unsigned char[::1]",
    pool="const unsigned char[::1]",
    entries="const long long[::1]",
    table="const long long[::1]",
)
def _known(
    text: Bytes,
    begin: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    code: cython.ulonglong,
    sort: cython.longlong,
    pool: Bytes,
    entries: Ints,
    table: Ints,
) -> cython.Py_ssize_t:
    """Return where the word from *begin* to *end*, whose hash is *code*, is in *entries*; -1 if it
    is not known as one of this *sort*."""
    mask: cython.ulonglong = len(table) - 1
    place: cython.ulonglong
    entry: cython.Py_ssize_t
    probe: cython.Py_ssize_t
    hashed: cython.longlong = code >> 1
    for probe in range(_PROBES):
        place = ((code & mask) + probe) & mask
        entry = table[place]
        if entry < 0:
            return -1
        if entries[entry + _HASH] != hashed or entries[entry + _SORT] != sort:
            continue
        if entries[entry + _LENGTH] != end - begin:
            continue
        if _alike(text, begin, pool, entries[entry + _WORD], end - begin):
            return entry
    return -1


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.overflowcheck(False)
@cython.locals(
    text="const unsigned char[::1]",
    pool="const unsigned char[::1]",
    entries="const long long[::1]",
    table="const long long[::1]",
)
def _word(
    text: Bytes,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    sort: cython.longlong,
    pool: Bytes,
    entries: Ints,
    table: Ints,
) -> cython.longlong:
    """Return what the word from *at* to *end* stands for, 0 if there is none, or -1."""
    begin: cython.Py_ssize_t = at
    code: cython.ulonglong = 0
    entry: cython.Py_ssize_t
    if at == end:
        return 0
    while at < end:
        code = (33 * code + text[at]) & _MASK
        at += 1
    entry = _known(text, begin, end, code, sort, pool, entries, table)
    return entries[entry + _VALUE] if entry >= 0 else -1


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    text="const unsigned char[::1]",
    pool="const unsigned char[::1]",
    entries="const long long[::1]",
)
def _same(
    text: Bytes,
    at: cython.Py_ssize_t,
    pool: Bytes,
    entries: Ints,
    entry: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Return where the event *entry* ends if it is the one at *at*, or -1."""
    size: cython.Py_ssize_t = entries[entry + _LENGTH]
    if not _alike(text, at, pool, entries[entry + _WORD], size):
        return -1
    at += size  # No word has a newline, so that there is one behind it.
    if text[at - 1] == _CLOSE:
        return at
    # It is the event only if no place is behind its colon.
    if (text[at] != _BLANK and text[at] != _NEWLINE) or text[_behind(text, at)] == _OPEN:
        return -1
    return at


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.overflowcheck(False)
@cython.locals(
    text="const unsigned char[::1]",
    pool="const unsigned char[::1]",
    entries="const long long[::1]",
    table="const long long[::1]",
    made="long long[::1]",
)
def _event(
    text: Bytes,
    at: cython.Py_ssize_t,
    pool: Bytes,
    entries: Ints,
    table: Ints,
    made: Ints,
) -> cython.Py_ssize_t:
    """Find the event's name and the place behind it in what is known. Write where it is in
    *entries* into *made*, and return where the rest begins, or -1.

    Behind that, *made* has what is remembered: most often a name has the same place again.
    """
    code: cython.ulonglong = 0
    begin: cython.Py_ssize_t = at
    entry: cython.Py_ssize_t
    last: cython.Py_ssize_t
    end: cython.Py_ssize_t
    letter: cython.uchar = 0
    while letter != _COLON or (text[at] != _BLANK and text[at] != _NEWLINE):
        letter = text[at]
        if ((letter - 33) & 255) > 93:  # It is no visible one.
            return -1
        code = (33 * code + letter) & _MASK
        at += 1
    last = _LAST + (code & _NAMES)
    entry = made[last] - 1
    if entry >= 0:
        end = _same(text, begin, pool, entries, entry)
        if end >= 0:
            made[0] = entry
            return end
    if text[_behind(text, at)] == _OPEN:
        while letter != _CLOSE:
            letter = text[at]
            if ((letter - 32) & 255) > 94:
                return -1
            code = (33 * code + letter) & _MASK
            at += 1
    entry = _known(text, begin, at, code, _EVENT, pool, entries, table)
    if entry < 0:
        return -1
    made[0] = entry
    made[last] = entry + 1
    return at


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]")
def _free(text: Bytes, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Return where a line ends of which no argument is wanted, or -1 if it may be more than one
    line, or tell of losses."""
    letter: cython.uchar = text[at]
    while letter != _NEWLINE:
        if not _BLANK <= letter < _DELETE or letter == _BRACKET:
            return -1
        at += 1
        if letter == _MINUS and 48 <= text[at] <= 57:
            return -1
        # "LOST"
        if letter == 76 and text[at] == 79 and text[at + 1] == 83 and text[at + 2] == 84:
            return -1
        letter = text[at]
    return at


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.overflowcheck(False)
@cython.locals(text="const unsigned char[::1]", values="unsigned long long[::1]")
def _number(
    text: Bytes,
    at: cython.Py_ssize_t,
    bare: cython.bint,
    values: Words,
    column: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Read a number as lines.numbers() does, and return where it ends, or -1 if it is not plain."""
    value: cython.ulonglong = 0
    digit: cython.ulonglong
    begin: cython.Py_ssize_t
    negative: cython.bint = text[at] == _MINUS
    prefixed: cython.bint = text[at] == 48 and text[at + 1] == 120  # "0x"
    begin = at = at + 2 * prefixed + negative
    if prefixed or (bare and not negative):
        while True:
            digit = (text[at] - 48) & 255
            if digit > 9:
                digit = (text[at] - 97) & 255
                if digit > 5 and prefixed:
                    digit = (text[at] - 65) & 255
                if digit > 5:
                    break
                digit += 10
            value = (value << 4 | digit) & _MASK
            at += 1
        if not 0 < at - begin <= 16:
            return -1
    else:
        while True:
            digit = (text[at] - 48) & 255
            if digit > 9:
                break
            if value > _TENTH or (value == _TENTH and digit > 5):  # beyond 64 bits
                return -1
            value = 10 * value + digit
            at += 1
        if not 0 < at - begin <= (18 if negative else 20):
            return -1
        if negative:
            value = (0 - value) & _MASK
    values[column] = value
    return at if text[at] == _BLANK or text[at] == _NEWLINE else -1


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.overflowcheck(False)
@cython.locals(
    text="const unsigned char[::1]",
    pool="const unsigned char[::1]",
    entries="const long long[::1]",
    fields="const long long[::1]",
    values="unsigned long long[::1]",
)
def _arguments(
    text: Bytes,
    at: cython.Py_ssize_t,
    bare: cython.bint,
    pool: Bytes,
    entries: Ints,
    fields: Ints,
    entry: cython.Py_ssize_t,
    values: Words,
    row: cython.Py_ssize_t,
    spare: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Read `name=number` up to the line's end, which is returned; -1 if there is anything else, or
    an argument that is wanted is not there. The columns of *values* begin at *row*, and *spare* is
    a place for one number."""
    first: cython.Py_ssize_t = entries[entry + _FIRST]
    count: cython.Py_ssize_t = entries[entry + _COUNT]
    found: cython.ulonglong = 0
    one: cython.ulonglong = 1
    begin: cython.Py_ssize_t
    end: cython.Py_ssize_t
    field: cython.Py_ssize_t
    n: cython.Py_ssize_t
    while text[at] == _BLANK:
        at = _behind(text, at)
        begin = at
        if text[at] == _NEWLINE:
            break
        while (
            ((text[at] | 32) - 97) & 255 < 26  # a letter, small or not
            or text[at] == 95
            or (at > begin and (text[at] - 48) & 255 < 10)
        ):
            at += 1
        end = at
        if text[at] != _EQUALS or not 0 < end - begin <= _MOST_OF_A_NAME:
            return -1
        at = _number(text, at + 1, bare, values, spare)
        if at < 0:
            return -1
        for n in range(count):
            field = _FIELD * (first + n)
            if fields[field + 1] != end - begin or found >> n & 1:
                continue
            if _alike(text, begin, pool, fields[field], end - begin):
                found |= one << n
                values[row + fields[field + 2]] = values[spare]
    if text[at] != _NEWLINE or found != (one << count) - 1:
        return -1
    return at


@cython.locals(
    text="const unsigned char[::1]",
    pool="const unsigned char[::1]",
    entries="const long long[::1]",
    table="const long long[::1]",
    fields="const long long[::1]",
    heads="const long long[::1]",
    columns="long long[::1]",
    values="unsigned long long[::1]",
    scratch="long long[::1]",
)
def read_words(
    text: Bytes,
    bare: cython.bint,
    pool: Bytes,
    entries: Ints,
    table: Ints,
    fields: Ints,
    heads: Ints,
    count: cython.Py_ssize_t,
    first: cython.longlong,
    columns: Ints,
    values: Words,
    width: cython.Py_ssize_t,
    made: cython.Py_ssize_t,
    scratch: Ints,
) -> int:
    """Append the plain lines among the *count* that have *heads* to the *made* ones in *columns*
    and *values* (*width* a line, and one more); return how many there are then.

    *bare* says that numbers without 0x are hexadecimal. *first* is the number of the heads' first
    line. *scratch* has room for REMEMBERED numbers and is the same from piece to piece.
    """
    room: cython.Py_ssize_t = len(heads) // _HEAD_COLUMNS
    space: cython.Py_ssize_t = len(columns) // _COLUMNS
    spare: cython.Py_ssize_t = len(values) - 1
    at: cython.Py_ssize_t
    entry: cython.Py_ssize_t
    head: cython.Py_ssize_t
    i: cython.Py_ssize_t
    of: cython.longlong
    bits: cython.longlong
    with cython.nogil:
        for head in range(count):
            at = heads[_NAME * room + head]
            i = heads[_NAME_END * room + head]
            of = _word(text, at, i, _BUFFER, pool, entries, table)
            at = heads[_FLAGS_AT * room + head]
            i = heads[_FLAGS_END * room + head]
            bits = _word(text, at, i, _FLAGS, pool, entries, table)
            if of < 0 or bits < 0:
                continue
            at = _event(text, heads[_EVENT_AT * room + head], pool, entries, table, scratch)
            if at < 0:
                continue
            for i in range(width):
                values[made * width + i] = 0
            entry = scratch[0]
            if entries[entry + _COUNT]:
                at = _arguments(
                    text, at, bare, pool, entries, fields, entry, values, made * width, spare
                )
            else:
                at = _free(text, at)
            if at >= 0:
                columns[_MADE_LINE * space + made] = first + heads[_LINE * room + head]
                columns[_MADE_CPU * space + made] = heads[_CPU * room + head]
                columns[_MADE_TS * space + made] = heads[_TS * room + head]
                columns[_MADE_PID * space + made] = heads[_PID * room + head]
                columns[_BITS * space + made] = bits
                columns[_OF * space + made] = of
                columns[_IDENT * space + made] = entries[entry + _VALUE]
                scratch[_MICRO_SEEN] |= heads[_MICRO * room + head]
                made += 1
    return made
