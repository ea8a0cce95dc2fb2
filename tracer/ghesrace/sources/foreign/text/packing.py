# SPDX-License-Identifier: Apache-2.0
"""This module writes the columns of parsed events into the ring-buffer pages of pages.LAYOUT.
Compiled.

A page has a head (time stamp, committed bytes), and of each event an absolute stamp and a record
with the common fields and some numbers of 8 bytes. A loss begins a page, as only a page's head
tells of one. Words are of 4 bytes, the lower half of a number first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ghesrace import uncompiled as cython
from ghesrace.uncompiled import Ints, Uints, Words

if not TYPE_CHECKING and cython.compiled:
    import cython

_HEAD = cython.declare(cython.Py_ssize_t, 4)  # words of a page's head: stamp, committed bytes
_FIXED = cython.declare(cython.Py_ssize_t, 5)  # words of an event before its numbers
_MISSED = cython.declare(cython.ulonglong, 1 << 31)
_STORED = cython.declare(cython.ulonglong, 1 << 30)
_HALF = cython.declare(cython.ulonglong, (1 << 32) - 1)
_PART = cython.declare(cython.ulonglong, (1 << 27) - 1)
HEAD, FIXED = int(_HEAD), int(_FIXED)


@cython.locals(
    cpu="const long long[::1]",
    lost="const long long[::1]",
    place="long long[::1]",
    used="long long[::1]",
)
def find_places(cpu: Ints, lost: Ints, place: Ints, used: Ints, per_page: cython.longlong) -> None:
    """Give each event, in the order of the text, its place among its CPU's: *per_page* times the
    number of its page, and how many events of the page are before it. A loss just before an event
    begins a page.

    *used* has a 0 for each CPU, and gets where its places end.
    """
    count: cython.Py_ssize_t = len(cpu)
    i: cython.Py_ssize_t
    number: cython.Py_ssize_t
    at: cython.longlong
    with cython.nogil:
        for i in range(count):
            number = cpu[i]
            at = used[number]
            if lost[i]:
                at = (at + per_page - 1) // per_page * per_page
            place[i] = at
            used[number] = at + 1


@cython.cfunc
@cython.inline
@cython.nogil
@cython.overflowcheck(False)
@cython.exceptval(check=False)
@cython.locals(words="unsigned int[::1]")
def _put(words: Uints, at: cython.Py_ssize_t, value: cython.ulonglong) -> cython.Py_ssize_t:
    """Write a number of 8 bytes, and return where the next word is."""
    words[at] = value & _HALF
    words[at + 1] = value >> 32
    return at + 2


@cython.overflowcheck(False)
@cython.locals(
    cpu="const long long[::1]",
    ts="const long long[::1]",
    pid="const long long[::1]",
    flags="const long long[::1]",
    ident="const long long[::1]",
    lost="const long long[::1]",
    values="const unsigned long long[::1]",
    place="const long long[::1]",
    begins="const long long[::1]",
    words="unsigned int[::1]",
)
def write(
    cpu: Ints,
    ts: Ints,
    pid: Ints,
    flags: Ints,
    ident: Ints,
    lost: Ints,
    values: Words,
    place: Ints,
    begins: Ints,
    page_words: cython.Py_ssize_t,
    per_page: cython.Py_ssize_t,
    width: cython.Py_ssize_t,
    words: Uints,
) -> None:
    """Write the events at *place* into the pages *words*, which are 0.

    *begins* says for each CPU which page is its first. A page has *page_words* words and *per_page*
    events at most, and of each of these the first *width* of its *values*.
    """
    count: cython.Py_ssize_t = len(cpu)
    i: cython.Py_ssize_t
    n: cython.Py_ssize_t
    head: cython.Py_ssize_t
    at: cython.Py_ssize_t
    record: cython.Py_ssize_t
    step: cython.Py_ssize_t = _FIXED + 2 * width
    most: cython.Py_ssize_t = len(values) // count if count else 0
    stamp: cython.ulonglong
    oldest: cython.ulonglong
    told: cython.ulonglong
    with cython.nogil:
        for i in range(count):
            record = place[i] % per_page
            head = (begins[cpu[i]] + place[i] // per_page) * page_words
            at = head + _HEAD + record * step
            stamp = ts[i]
            # In enum ring_buffer_type, 31 is an absolute stamp; the type of a data record is its
            # number of words.
            words[at] = ((stamp & _PART) << 5) | 31
            # An absolute stamp holds 59 bits. The rest is the page's.
            words[at + 1] = (stamp >> 27) & _HALF
            words[at + 2] = step - 3
            words[at + 3] = ident[i] | (flags[i] << 16)
            words[at + 4] = pid[i] & _HALF
            at += _FIXED
            for n in range(width):
                at = _put(words, at, values[i * most + n])
            if record == 0:
                oldest = stamp
                told = 0
                if lost[i]:
                    told = _MISSED
                if lost[i] > 0:
                    told |= _STORED
            else:
                oldest = words[head + 1]
                oldest = (oldest << 32) | words[head]
                told = words[head + 2] & (_MISSED | _STORED)
            _put(words, head, stamp if stamp < oldest else oldest)
            # Bytes that are used.
            _put(words, head + 2, told | (4 * step * (record + 1)))


@cython.overflowcheck(False)
@cython.locals(
    cpu="const long long[::1]",
    lost="const long long[::1]",
    place="const long long[::1]",
    begins="const long long[::1]",
    words="unsigned int[::1]",
)
def write_losses(
    cpu: Ints,
    lost: Ints,
    place: Ints,
    begins: Ints,
    page_words: cython.Py_ssize_t,
    per_page: cython.Py_ssize_t,
    words: Uints,
) -> None:
    """Write the number of lost events, where it is known, behind the events of their page."""
    count: cython.Py_ssize_t = len(cpu)
    i: cython.Py_ssize_t
    head: cython.Py_ssize_t
    used: cython.ulonglong
    with cython.nogil:
        for i in range(count):
            if lost[i] > 0:
                head = (begins[cpu[i]] + place[i] // per_page) * page_words
                used = words[head + 2] & (_STORED - 1)
                _put(words, head + _HEAD + (used >> 2), lost[i])
