# SPDX-License-Identifier: Apache-2.0
"""This module finds where the lines of a text begin. Compiled; see plain.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ghesrace import uncompiled as cython
from ghesrace.uncompiled import Bytes, Ints

if not TYPE_CHECKING and cython.compiled:
    import cython
    from cython.cimports.libc.string import memchr

_NEWLINE = cython.declare(cython.uchar, 10)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(text="const unsigned char[::1]", found="const void *")
def _next(text: Bytes, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Return where the line after the one at *at* begins, or -1 if that has no end."""
    size: cython.Py_ssize_t = len(text)
    if cython.compiled:
        if at == size:
            return -1
        found = memchr(cython.address(text[at]), _NEWLINE, size - at)  # type: ignore[name-defined]
        if not found:
            return -1
        at = cython.cast(cython.Py_ssize_t, found)
        return at - cython.cast(cython.Py_ssize_t, cython.address(text[0])) + 1
    else:  # noqa: RET505 - Cython reads only one of the two.
        while at < size and text[at] != _NEWLINE:
            at += 1
        return at + 1 if at < size else -1


@cython.locals(text="const unsigned char[::1]", starts="long long[::1]")
def find_starts(text: Bytes, starts: Ints) -> int:
    """Write into *starts* where each whole line of *text* begins, and where the last one ends;
    return how many numbers that are. Those for which *starts* has no room are not written."""
    room: cython.Py_ssize_t = len(starts)
    at: cython.Py_ssize_t = 0
    n: cython.Py_ssize_t = 0
    with cython.nogil:
        while at >= 0:
            if n < room:
                starts[n] = at
            n += 1
            at = _next(text, at)
    return n
