# SPDX-License-Identifier: Apache-2.0
"""This module finds addresses that lost their last digits. Compiled; see debris.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ghesrace import uncompiled as cython
from ghesrace.uncompiled import Bytes, Ints, Words

if not TYPE_CHECKING and cython.compiled:
    import cython

_HALF = cython.declare(cython.ulonglong, 1 << 63)
_USER = cython.declare(cython.ulonglong, 1 << 48)
_PAGE = cython.declare(cython.ulonglong, 4096)
_HEX = cython.declare(cython.ulonglong, 0xFFFF)  # what a kernel's address begins with,
_DECIMAL = cython.declare(cython.ulonglong, 18446)  # and as a decimal


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _cut(value: cython.ulonglong) -> cython.bint:
    """Return whether *value* is an address of a kernel that lost digits."""
    rest: cython.ulonglong = value
    if value >= _HALF or not value:  # as almost all are
        return False
    if value >= _USER or value < _PAGE:
        return True
    while rest > _HEX:
        rest >>= 4
    if rest == _HEX:
        return True
    rest = value
    while rest > _DECIMAL:
        rest //= 10
    return rest == _DECIMAL


@cython.locals(
    ident="const long long[::1]",
    values="const unsigned long long[::1]",
    places="const long long[::1]",
    found="unsigned char[::1]",
)
def find_cut(
    ident: Ints, values: Words, width: cython.Py_ssize_t, places: Ints, found: Bytes
) -> None:
    """Write 1 into *found* for each event with an address that is cut, or an end before its begin.

    *places* says for each *ident* in which of the *width* columns of *values* an address and an end
    are, -1 if there is none.
    """
    count: cython.Py_ssize_t = len(ident)
    i: cython.Py_ssize_t
    row: cython.Py_ssize_t
    begin: cython.longlong
    end: cython.longlong
    with cython.nogil:
        for i in range(count):
            row = i * width
            begin = places[2 * ident[i]]
            end = places[2 * ident[i] + 1]
            if begin >= 0 and _cut(values[row + begin]):
                found[i] = 1
            if end >= 0 and _cut(values[row + end]):
                found[i] = 1
            if begin >= 0 and end >= 0 and values[row + end] < values[row + begin]:
                found[i] = 1
