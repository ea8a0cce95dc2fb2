# SPDX-License-Identifier: Apache-2.0
"""This module reads the heads of plain lines: task, process, CPU, context and stamp. Compiled.

A head is plain if forms.FORMS can be read in one way only in it, so that it needs none of the
regular expressions that careful.py has for everything else: nothing before the CPU looks like
another task, or like what tells of losses. plain.py says why. words.py reads what follows.

Every line ends with a newline, which is in no word, so that no loop runs beyond the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ghesrace import uncompiled as cython
from ghesrace.uncompiled import Bytes, Ints

if not TYPE_CHECKING and cython.compiled:
    import cython
    from cython.cimports.libc.string import memcmp

# What is written of each line, in columns that stand one behind the other. Of words, where they
# begin and end in the text: of the buffer's name and of the letters that tell the context, if they
# are there (else 0 and 0); of the event and of the stamp, where they begin.
_CPU = cython.declare(cython.Py_ssize_t, 0)
_TS = cython.declare(cython.Py_ssize_t, 1)
_PID = cython.declare(cython.Py_ssize_t, 2)
_MICRO = cython.declare(cython.Py_ssize_t, 3)
_LINE = cython.declare(cython.Py_ssize_t, 4)
_NAME = cython.declare(cython.Py_ssize_t, 5)
_NAME_END = cython.declare(cython.Py_ssize_t, 6)
_FLAGS = cython.declare(cython.Py_ssize_t, 7)
_FLAGS_END = cython.declare(cython.Py_ssize_t, 8)
_EVENT = cython.declare(cython.Py_ssize_t, 9)
_STAMP = cython.declare(cython.Py_ssize_t, 10)
COLUMNS = 11
# Of each CPU, more or less, the last head is remembered: see _again.
_SLOTS = cython.declare(cython.Py_ssize_t, 63)  # less one: a power of two
SLOTS = int(_SLOTS) + 1

_BLANK = cython.declare(cython.uchar, 32)
_NUMBER_SIGN = cython.declare(cython.uchar, 35)
_COLON = cython.declare(cython.uchar, 58)
_PLUS = cython.declare(cython.uchar, 43)
_MINUS = cython.declare(cython.uchar, 45)
_DOT = cython.declare(cython.uchar, 46)
_SLASH = cython.declare(cython.uchar, 47)
_OPEN = cython.declare(cython.uchar, 40)
_CLOSE = cython.declare(cython.uchar, 41)
_BRACKET = cython.declare(cython.uchar, 91)
_GREATER = cython.declare(cython.uchar, 62)
_BRACKET_END = cython.declare(cython.uchar, 93)
_COMMA = cython.declare(cython.uchar, 44)
_SEMICOLON = cython.declare(cython.uchar, 59)
_EQUALS = cython.declare(cython.uchar, 61)
_BAR = cython.declare(cython.uchar, 124)
_DELETE = cython.declare(cython.uchar, 127)

# The forms, by their number in forms.FORMS.
_FTRACE = cython.declare(cython.Py_ssize_t, 0)
_LATENCY_FORMAT = cython.declare(cython.Py_ssize_t, 2)
_PERF = cython.declare(cython.Py_ssize_t, 3)

_MOST_OF_A_TASK = cython.declare(cython.Py_ssize_t, 15)  # TASK_COMM_LEN without its NUL
_SECONDS = cython.declare(cython.longlong, (1 << 61) // 10**9)  # pages.MAX_TS
_MICROS = cython.declare(cython.longlong, (1 << 61) // 1000)


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
@cython.locals(text="const unsigned char[::1]")
def _digits(text: Bytes, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Return where the digits at *at* end."""
    while 48 <= text[at] <= 57:
        at += 1
    return at


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]")
def _before(text: Bytes, first: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Return where the digits that end before *end* begin, at *first* or later."""
    while end > first and 48 <= text[end - 1] <= 57:
        end -= 1
    return end


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]")
def _trimmed(text: Bytes, first: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Return where the blanks that end before *end* begin, at *first* or later."""
    while end > first and text[end - 1] == _BLANK:
        end -= 1
    return end


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]")
def _decimal(text: Bytes, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.longlong:
    """Return the number whose digits (18 at most) are from *at* to *end*."""
    value: cython.longlong = 0
    digit: cython.longlong
    while at < end:
        digit = text[at] - 48
        value = 10 * value + digit
        at += 1
    return value


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]")
def _task_ends(
    text: Bytes, first: cython.Py_ssize_t, end: cython.Py_ssize_t, form: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Return where a task ends whose process begins at *end*, or -1 if it is not plain."""
    begin: cython.Py_ssize_t
    if form == _PERF:
        if end > first and text[end - 1] == _SLASH:  # the process, and then the thread
            begin = _before(text, first, end - 1)
            if not 0 < end - 1 - begin <= 9:
                return -1
            end = begin - 1 if begin > first and text[begin - 1] == _MINUS else begin
        begin = _trimmed(text, first, end)
        return -1 if begin == end else begin
    return end - 1 if end > first and text[end - 1] == _MINUS else -1


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]")
def _plain_task(text: Bytes, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
    """Return whether the task from *at* to *end* is so short that no other words are in it, and has
    no process in it, and nothing that may part it from the name of a host."""
    blank: cython.bint = False
    minus: cython.bint = False
    if not 0 < end - at <= _MOST_OF_A_TASK:
        return False
    while at < end:
        if text[at] == _BLANK:
            blank = True
            if text[at - 1] in (_BLANK, _COLON, _COMMA, _SEMICOLON, _BAR, _GREATER, _CLOSE):
                return False
        minus = minus or text[at] == _MINUS
        if text[at] == _EQUALS:
            return False
        at += 1
    return not (blank and minus)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]")
def _group_begins(
    text: Bytes, first: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Return where the blanks before a thread group "(  123)" that ends at *end* begin, or -1."""
    at: cython.Py_ssize_t = end - 1
    begin: cython.Py_ssize_t
    while at > first and (48 <= text[at - 1] <= 57 or text[at - 1] == _MINUS):
        at -= 1
    if at == end - 1:
        return -1
    at = _trimmed(text, first, at)
    if at == first or text[at - 1] != _OPEN:
        return -1
    begin = _trimmed(text, first, at - 1)
    return -1 if begin == at - 1 else begin


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]", columns="long long[::1]")
def _name(
    text: Bytes,
    at: cython.Py_ssize_t,
    columns: Ints,
    column: cython.Py_ssize_t,
    column_end: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Read the name of the buffer, if there is one, and return where the task begins, or -1."""
    first: cython.Py_ssize_t = _behind(text, at)
    columns[column] = columns[column_end] = 0
    if text[first] == _NUMBER_SIGN:
        return -1
    at = first
    while _BLANK < text[at] < _DELETE:
        at += 1
    if text[at] != _BLANK or text[at - 1] in (_GREATER, _BRACKET_END):
        return -1
    if text[at - 1] == _COLON:
        columns[column], columns[column_end] = first, at - 1
        first = _behind(text, at)
        if text[first] == _COLON:
            return -1
    return first


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]", columns="long long[::1]")
def _task(
    text: Bytes,
    first: cython.Py_ssize_t,
    form: cython.Py_ssize_t,
    columns: Ints,
    column: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Read the task that begins at *first* and its process; return where the CPU begins, or -1."""
    at: cython.Py_ssize_t = first
    end: cython.Py_ssize_t
    begin: cython.Py_ssize_t
    stop: cython.Py_ssize_t
    if form in (_FTRACE, _PERF):
        while text[at] != _BRACKET:
            if not _BLANK <= text[at] < _DELETE:
                return -1
            at += 1
        end = _trimmed(text, first, at)
        if end in (at, first):
            return -1
        at += 1
        if form == _FTRACE and text[end - 1] == _CLOSE:
            end = _group_begins(text, first, end)
            if end < 0:
                return -1
    else:
        while _BLANK < text[at] < _DELETE:
            at += 1
        end = at
        at = _behind(text, at)
        if end == at:
            return -1
    begin = _before(text, first, end)
    if not 0 < end - begin <= 9:
        return -1
    stop = _task_ends(text, first, begin, form)
    if stop < 0 or not _plain_task(text, first, stop):
        return -1
    columns[column] = _decimal(text, begin, end)
    return at


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]", columns="long long[::1]")
def _cpu(
    text: Bytes,
    at: cython.Py_ssize_t,
    form: cython.Py_ssize_t,
    columns: Ints,
    column: cython.Py_ssize_t,
    flags: cython.Py_ssize_t,
    flags_end: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Read the CPU, and find the letters that tell the context; return where the stamp begins, or
    -1."""
    end: cython.Py_ssize_t = _digits(text, at)
    if not 0 < end - at <= 4:
        return -1
    columns[column] = _decimal(text, at, end)
    columns[flags] = columns[flags_end] = 0
    at = end
    if form in (_FTRACE, _PERF):
        if text[at] != _BRACKET_END or text[at + 1] != _BLANK:
            return -1
        at = _behind(text, at + 1)
        if form == _PERF or 48 <= text[at] <= 57:
            return at
    columns[flags] = at
    while _BLANK < text[at] < _DELETE:
        at += 1
    columns[flags_end] = at
    return _behind(text, at) if text[at] == _BLANK else -1


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]", columns="long long[::1]")
def _stamp(
    text: Bytes,
    at: cython.Py_ssize_t,
    form: cython.Py_ssize_t,
    columns: Ints,
    column: cython.Py_ssize_t,
    micro: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Read the stamp (to ns), and return where what follows its colon begins, or -1."""
    end: cython.Py_ssize_t = _digits(text, at)
    fraction: cython.longlong
    whole: cython.longlong
    if not 0 < end - at <= 15:
        return -1
    whole = _decimal(text, at, end)
    at = end
    columns[micro] = 1
    if form == _LATENCY_FORMAT:
        if whole >= _MICROS or text[at] != 117 or text[at + 1] != 115:  # "us"
            return -1
        columns[column] = 1000 * whole
        at += 2
        # A blank, or one of the marks of delays: + ! # * @ $
        if (32 <= text[at] <= 36 and text[at] != 34) or text[at] in (42, 43, 64):
            at += 1
    else:
        if whole >= _SECONDS or text[at] != _DOT:
            return -1
        end = _digits(text, at + 1)
        fraction = end - at - 1
        if fraction != 6 and fraction != 9:
            return -1
        columns[micro] = fraction == 6
        fraction = _decimal(text, at + 1, end) * (1000 if fraction == 6 else 1)
        columns[column] = 1_000_000_000 * whole + fraction
        at = end
    if text[at] != _COLON or text[at + 1] != _BLANK:
        return -1
    return _behind(text, at + 1)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]")
def _extra(text: Bytes, at: cython.Py_ssize_t, form: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Return where the event begins, behind a difference of stamps or a period of perf's, or -1."""
    end: cython.Py_ssize_t
    if text[at] == _OPEN and form != _LATENCY_FORMAT:
        at += 1
        if text[at] == _MINUS or text[at] == _PLUS:
            at += 1
        end = _digits(text, at)
        if not 0 < end - at <= 18 or text[end] != _CLOSE or text[end + 1] != _BLANK:
            return -1
        at = _behind(text, end + 1)
    if form == _PERF and 48 <= text[at] <= 57:
        at = _digits(text, at)
        if text[at] != _BLANK:
            return -1
        at = _behind(text, at)
    return at


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]", columns="long long[::1]")
def _again(
    text: Bytes,
    begin: cython.Py_ssize_t,
    before: cython.Py_ssize_t,
    row: cython.Py_ssize_t,
    columns: Ints,
    room: cython.Py_ssize_t,
    n: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Return where the stamp begins if the line at *begin* has the same head up to it as the line
    at *before*, whose columns are at *row*; else -1. Nothing else decides what is read of it."""
    size: cython.Py_ssize_t = columns[_STAMP * room + row] - before
    shift: cython.longlong = begin - before
    same: cython.bint
    if begin + size >= len(text):
        return -1
    if cython.compiled:
        same = not memcmp(  # type: ignore[name-defined]
            cython.address(text[begin]), cython.address(text[before]), size
        )
    else:
        same = text[begin : begin + size] == text[before : before + size]
    if not same or not 48 <= text[begin + size] <= 57:
        return -1
    columns[_CPU * room + n] = columns[_CPU * room + row]
    columns[_PID * room + n] = columns[_PID * room + row]
    columns[_NAME * room + n] = columns[_NAME_END * room + n] = 0
    columns[_FLAGS * room + n] = columns[_FLAGS_END * room + n] = 0
    if columns[_NAME_END * room + row]:
        columns[_NAME * room + n] = columns[_NAME * room + row] + shift
        columns[_NAME_END * room + n] = columns[_NAME_END * room + row] + shift
    if columns[_FLAGS_END * room + row]:
        columns[_FLAGS * room + n] = columns[_FLAGS * room + row] + shift
        columns[_FLAGS_END * room + n] = columns[_FLAGS_END * room + row] + shift
    return begin + size


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]")
def _slot(text: Bytes, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Return in which slot the head is remembered whose CPU is at *at*."""
    if at + 2 >= len(text):
        return 0
    return (100 * text[at] + 10 * text[at + 1] + text[at + 2]) & _SLOTS


@cython.locals(
    text="const unsigned char[::1]",
    starts="const long long[::1]",
    columns="long long[::1]",
    recent="long long[::1]",
)
def read_heads(
    text: Bytes, form: cython.Py_ssize_t, starts: Ints, columns: Ints, recent: Ints
) -> int:
    """Write the heads of *text* that are plain into *columns*; return how many they are.

    *form* is a number in forms.FORMS. *starts* says where each line begins, and where the last one
    ends. Each column has room for all lines. *recent* has SLOTS numbers, all of them -1.
    """
    room: cython.Py_ssize_t = len(starts) - 1
    begin: cython.Py_ssize_t
    end: cython.Py_ssize_t
    slot: cython.Py_ssize_t
    row: cython.Py_ssize_t
    cpu_at: cython.Py_ssize_t = 0  # behind the line's begin, in the last line with a plain head
    line: cython.Py_ssize_t
    n: cython.Py_ssize_t = 0
    with cython.nogil:
        for line in range(room):
            begin = starts[line]
            slot = _slot(text, begin + cpu_at)
            row = recent[slot]
            end = -1
            if row >= 0:
                end = _again(
                    text, begin, starts[columns[_LINE * room + row]], row, columns, room, n
                )
            if end < 0:
                end = _name(text, begin, columns, _NAME * room + n, _NAME_END * room + n)
                if end >= 0:
                    end = _task(text, end, form, columns, _PID * room + n)
                if end >= 0:
                    cpu_at = end - begin
                    slot = _slot(text, end)
                    end = _cpu(
                        text,
                        end,
                        form,
                        columns,
                        _CPU * room + n,
                        _FLAGS * room + n,
                        _FLAGS_END * room + n,
                    )
            columns[_STAMP * room + n] = end
            if end >= 0:
                end = _stamp(text, end, form, columns, _TS * room + n, _MICRO * room + n)
            if end >= 0:
                end = _extra(text, end, form)
            if end >= 0:
                columns[_EVENT * room + n] = end
                columns[_LINE * room + n] = line
                recent[slot] = n
                n += 1
    return n
