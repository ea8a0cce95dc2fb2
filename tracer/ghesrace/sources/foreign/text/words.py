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
# What is remembered from line to line: see _event.
_LAST = cython.declare(cython.Py_ssize_t, 1)
_AFTER = cython.declare(cython.Py_ssize_t, 2)
REMEMBERED = int(_AFTER)
# An argument, as `fields` has it: where its name is in the pool, its length, its value's column.
_FIELD = cython.declare(cython.Py_ssize_t, 3)
MOST_FIELDS = 60  # that are wanted of one event
# A word is in one of so many places of the table, so that no choice of words makes it slow.
_PROBES = cython.declare(cython.Py_ssize_t, 16)
PROBES = int(_PROBES)

# The columns of heads.py that are read, and those that are written.
_NAME = cython.declare(cython.Py_ssize_t, 5)
_NAME_END = cython.declare(cython.Py_ssize_t, 6)
_FLAGS_AT = cython.declare(cython.Py_ssize_t, 7)
_FLAGS_END = cython.declare(cython.Py_ssize_t, 8)
_EVENT_AT = cython.declare(cython.Py_ssize_t, 9)
_HEAD = cython.declare(cython.Py_ssize_t, 0)
_OF = cython.declare(cython.Py_ssize_t, 1)
_BITS = cython.declare(cython.Py_ssize_t, 2)
_IDENT = cython.declare(cython.Py_ssize_t, 3)
COLUMNS = 4

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
    word: cython.Py_ssize_t
    i: cython.Py_ssize_t
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
        word = entries[entry + _WORD]
        i = 0
        while begin + i < end and pool[word + i] == text[begin + i]:
            i += 1
        if begin + i == end:
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
    word: cython.Py_ssize_t = entries[entry + _WORD]
    i: cython.Py_ssize_t = 0
    while i < size and pool[word + i] == text[at + i]:  # No word has a newline.
        i += 1
    if i < size:
        return -1
    at += size
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

    Behind that, *made* has the entry of the last event, and what came after each one the last time
    (its entry + 1, or 0): most often it comes again.
    """
    code: cython.ulonglong = 0
    begin: cython.Py_ssize_t = at
    entry: cython.Py_ssize_t = made[_AFTER + made[_LAST]] - 1
    end: cython.Py_ssize_t
    letter: cython.uchar = 0
    if entry >= 0:
        end = _same(text, at, pool, entries, entry)
        if end >= 0:
            made[0] = entry
            made[_LAST] = entry // _NUMBERS
            return end
    while letter != _COLON or (text[at] != _BLANK and text[at] != _NEWLINE):
        letter = text[at]
        if not _BLANK < letter < _DELETE:
            return -1
        code = (33 * code + letter) & _MASK
        at += 1
    if text[_behind(text, at)] == _OPEN:
        while letter != _CLOSE:
            letter = text[at]
            if not _BLANK <= letter < _DELETE:
                return -1
            code = (33 * code + letter) & _MASK
            at += 1
    entry = _known(text, begin, at, code, _EVENT, pool, entries, table)
    if entry < 0:
        return -1
    made[0] = entry
    made[_AFTER + made[_LAST]] = entry + 1
    made[_LAST] = entry // _NUMBERS
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
            if 48 <= text[at] <= 57:
                digit = text[at] - 48
            elif 97 <= text[at] <= 102:
                digit = text[at] - 87
            elif prefixed and 65 <= text[at] <= 70:
                digit = text[at] - 55
            else:
                break
            value = (value << 4 | digit) & _MASK
            at += 1
        if not 0 < at - begin <= 16:
            return -1
    else:
        while 48 <= text[at] <= 57:
            digit = text[at] - 48
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
    name: cython.Py_ssize_t
    n: cython.Py_ssize_t
    i: cython.Py_ssize_t
    while text[at] == _BLANK:
        at = _behind(text, at)
        begin = at
        if text[at] == _NEWLINE:
            break
        while (
            97 <= text[at] <= 122
            or 65 <= text[at] <= 90
            or text[at] == 95
            or (at > begin and 48 <= text[at] <= 57)
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
            name = fields[field]
            i = 0
            while begin + i < end and pool[name + i] == text[begin + i]:
                i += 1
            if begin + i == end:
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
    columns: Ints,
    values: Words,
    width: cython.Py_ssize_t,
    scratch: Ints,
) -> int:
    """Write the words of the plain lines among the *count* that have *heads* into *columns* and
    *values* (*width* a line, and one more); return how many they are.

    *bare* says that numbers without 0x are hexadecimal. *scratch* has room for REMEMBERED numbers
    and one for each entry, and is the same from piece to piece.
    """
    room: cython.Py_ssize_t = len(heads) // 10
    space: cython.Py_ssize_t = len(columns) // 4
    spare: cython.Py_ssize_t = len(values) - 1
    at: cython.Py_ssize_t
    entry: cython.Py_ssize_t
    head: cython.Py_ssize_t
    made: cython.Py_ssize_t = 0
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
                columns[_HEAD * space + made] = head
                columns[_OF * space + made] = of
                columns[_BITS * space + made] = bits
                columns[_IDENT * space + made] = entries[entry + _VALUE]
                made += 1
    return made
