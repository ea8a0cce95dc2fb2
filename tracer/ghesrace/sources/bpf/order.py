# SPDX-License-Identifier: Apache-2.0
"""The program order of one CPU's records, from where each saw the CPU's other rings. Compiled.

A record is rings.RECORD as words of 8 bytes: an EVENT, then for each of the four contexts how many
records that ring had had when this one was written, as 4 bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ghesrace import uncompiled as cython
from ghesrace.uncompiled import Ints, Words

if not TYPE_CHECKING and cython.compiled:
    import cython

_CONTEXTS = cython.declare(cython.Py_ssize_t, 4)
_RECORD = cython.declare(cython.Py_ssize_t, 9)  # words of a record
_EVENT = cython.declare(cython.Py_ssize_t, 7)  # of the event that it begins with
_SEQ = cython.declare(cython.Py_ssize_t, 4)
_LOW_HALF = cython.declare(cython.ulonglong, (1 << 32) - 1)
_HALF_WAY = cython.declare(cython.ulonglong, 1 << 31)
_MASK = cython.declare(cython.ulonglong, (1 << 64) - 1)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.overflowcheck(False)
@cython.exceptval(check=False)
@cython.locals(records="const unsigned long long[::1]", near="const long long[::1]")
def _saw(
    records: Words, record: cython.Py_ssize_t, level: cython.Py_ssize_t, near: Ints
) -> cython.longlong:
    """How many records of the context *level* a record saw, of which it has the low 32 bits; the
    rest is that of *near*, which is at most 2^31 away."""
    at: cython.ulonglong = records[_RECORD * record + _EVENT + (level >> 1)] >> 32 * (level & 1)
    base: cython.ulonglong = near[level] & _MASK
    delta: cython.ulonglong = (at - base) & _LOW_HALF
    ahead: cython.longlong = delta
    if delta >= _HALF_WAY:
        ahead -= _LOW_HALF + 1
    return near[level] + ahead


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(records="const unsigned long long[::1]")
def _first_from(
    records: Words,
    first: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    near: cython.Py_ssize_t,
    limit: cython.ulonglong,
) -> cython.Py_ssize_t:
    """The first of the records [first, end), sorted by seq, whose seq is *limit* or more; most
    often it is *near*, or follows soon."""
    middle: cython.Py_ssize_t
    last: cython.Py_ssize_t = near + 8 if end - near > 8 else end
    if near == first or records[_RECORD * (near - 1) + _SEQ] < limit:
        while near < last and records[_RECORD * near + _SEQ] < limit:
            near += 1
        if near < last or last == end:
            return near
        first = near
    while first < end:
        middle = (first + end) >> 1
        if records[_RECORD * middle + _SEQ] < limit:
            first = middle + 1
        else:
            end = middle
    return first


@cython.locals(
    records="const unsigned long long[::1]",
    near="const long long[::1]",
    limits="const long long[::1]",
)
def ready(records: Words, level: cython.Py_ssize_t, near: Ints, limits: Ints) -> int:
    """How many records of the context *level* saw no more of a lower one than *limits* says: what
    follows one that did waits until that is read."""
    count: cython.Py_ssize_t = len(records) // 9
    record: cython.Py_ssize_t
    lower: cython.Py_ssize_t
    waits: cython.bint = False
    found: cython.Py_ssize_t = count
    with cython.nogil:
        for record in range(count):
            for lower in range(level):
                if _saw(records, record, lower, near) > limits[lower]:
                    waits = True
                    break
            if waits:
                found = record
                break
    return found


@cython.locals(
    records="const unsigned long long[::1]",
    bounds="const long long[::1]",
    near="const long long[::1]",
    order="long long[::1]",
    places="long long[::1]",
    spare="long long[::1]",
    cursors="long long[::1]",
)
def merge(
    records: Words,
    bounds: Ints,
    near: Ints,
    order: Ints,
    places: Ints,
    spare: Ints,
    cursors: Ints,
) -> None:
    """Write the program order of one CPU's records into *order*, as indices of *records*: those of
    the contexts 0 to 3, end to end, of which *bounds* has the five ends. *places* and *spare* have
    room for as many, *cursors* for one number per context.

    A record r of a lower context and a record h of a higher one: h came first iff its position
    is below the one that r saw of h's ring. From the highest context down each ring is merged
    into what is there, between the neighbours of the context just above that it saw: where an
    interrupt came between two of its looks these bound the others. (An event that interrupts a
    program may stand on either side of its record: the effect follows the program.)
    """
    level: cython.Py_ssize_t
    above: cython.Py_ssize_t
    record: cython.Py_ssize_t
    before: cython.Py_ssize_t
    low: cython.longlong
    high: cython.longlong
    place: cython.longlong
    least: cython.longlong
    saw: cython.longlong
    limit: cython.ulonglong
    first: cython.Py_ssize_t
    end: cython.Py_ssize_t
    done: cython.longlong = 0  # records that are in `order`
    total: cython.longlong
    made: cython.longlong
    higher: cython.longlong
    with cython.nogil:
        for level in range(_CONTEXTS - 1, -1, -1):
            if bounds[level] == bounds[level + 1]:
                continue
            # `spare`: the place in `order` before which each record of this ring stands.
            least = 0
            for above in range(_CONTEXTS):
                cursors[above] = bounds[above]
            for record in range(bounds[level], bounds[level + 1]):
                low, high = 0, done
                for above in range(level + 1, _CONTEXTS):
                    saw = _saw(records, record, above, near)
                    limit = saw if saw > 0 else 0
                    # The first record of the ring above that this one did not see.
                    first, end = bounds[above], bounds[above + 1]
                    before = _first_from(records, first, end, cursors[above], limit)
                    cursors[above] = before
                    place = places[before - 1] + 1 if before > first else 0
                    place = low if place < low else place
                    low = high if place > high else place
                    place = places[before] if before < end else done
                    place = low if place < low else place
                    high = high if place > high else place
                least = low if low > least else least
                spare[record] = least
            # Merge from the end, so that `order` need not be copied.
            record = bounds[level + 1]
            total = done + bounds[level + 1] - bounds[level]
            made, higher = total, done
            while made > 0:
                made -= 1
                if record > bounds[level] and spare[record - 1] >= higher:
                    record -= 1
                    order[made] = record
                else:
                    higher -= 1
                    order[made] = order[higher]
                places[order[made]] = made
            done = total


@cython.overflowcheck(False)
@cython.locals(
    records="const unsigned long long[::1]",
    order="const long long[::1]",
    events="unsigned long long[::1]",
)
def take(records: Words, order: Ints, seq: cython.ulonglong, events: Words) -> None:
    """Write the events of the records in that *order*, numbered from *seq*."""
    count: cython.Py_ssize_t = len(order)
    i: cython.Py_ssize_t
    word: cython.Py_ssize_t
    source: cython.Py_ssize_t
    with cython.nogil:
        for i in range(count):
            source = _RECORD * order[i]
            for word in range(_EVENT):
                events[_EVENT * i + word] = records[source + word]
            events[_EVENT * i + _SEQ] = (seq + i) & _MASK
