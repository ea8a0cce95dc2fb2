# SPDX-License-Identifier: Apache-2.0
"""This module lets events tell each other their slot. Compiled; see joiner.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ghesrace import uncompiled as cython
from ghesrace.uncompiled import Bytes, Ints

if not TYPE_CHECKING and cython.compiled:
    import cython

# The kinds and contexts of events.py that matter here.
_MAP = cython.declare(cython.uchar, 1)
_UNMAP_END = cython.declare(cython.uchar, 4)
_CONTEXTS = cython.declare(cython.Py_ssize_t, 4)
_NO_SLOT = cython.declare(cython.longlong, -1)
MAP, UNMAP_END, CONTEXTS, NO_SLOT = int(_MAP), int(_UNMAP_END), int(_CONTEXTS), int(_NO_SLOT)


@cython.locals(
    kind="const unsigned char[::1]",
    ctx="const unsigned char[::1]",
    slot="long long[::1]",
    last="long long[::1]",
    scratch="long long[::1]",
)
def tell(kind: Bytes, ctx: Bytes, slot: Ints, last: Ints, scratch: Ints, waits: cython.bint) -> int:
    """Give each map and unmap of one CPU that has none the *slot* that others of its context *ctx*
    tell. A map takes the slot of what follows it, before the next map; what names no slot belongs
    to the last map.

    *last* has the slot of each context's last map before, and gets that of its last one here, and
    *scratch* has room for twice as many numbers. With *waits* the last map of a context may be told
    its slot later: return the index of the first that is to be held back because of that, or else
    how many events there are.
    """
    count: cython.Py_ssize_t = len(kind)
    cut: cython.Py_ssize_t = count
    i: cython.Py_ssize_t
    level: cython.Py_ssize_t
    newest: cython.Py_ssize_t
    with cython.nogil:
        for level in range(_CONTEXTS):
            scratch[level] = -1  # the last map
            scratch[_CONTEXTS + level] = last[level]
        for i in range(count):
            if kind[i] > _UNMAP_END:
                continue
            newest = scratch[ctx[i]]
            if kind[i] == _MAP:
                scratch[ctx[i]] = i
            elif newest >= 0 and slot[i] != _NO_SLOT and slot[newest] == _NO_SLOT:
                slot[newest] = slot[i]
        for i in range(count):
            if kind[i] > _UNMAP_END:
                continue
            if kind[i] == _MAP:
                scratch[_CONTEXTS + ctx[i]] = slot[i]
            elif slot[i] == _NO_SLOT:
                slot[i] = scratch[_CONTEXTS + ctx[i]]
        for level in range(_CONTEXTS):
            newest = scratch[level]
            if newest < 0:
                continue
            if waits and slot[newest] == _NO_SLOT:
                cut = min(cut, newest)
            else:
                last[level] = slot[newest]
    return cut
