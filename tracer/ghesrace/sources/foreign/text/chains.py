# SPDX-License-Identifier: Apache-2.0
"""This module goes from each event of a text to the one before it on its CPU. Compiled; see
neighbours.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ghesrace import uncompiled as cython
from ghesrace.uncompiled import Ints

if not TYPE_CHECKING and cython.compiled:
    import cython


@cython.locals(cpu="const long long[::1]", last="long long[::1]", before="long long[::1]")
def find_previous(cpu: Ints, last: Ints, before: Ints) -> None:
    """Write the index of each event's predecessor on its *cpu* into *before*.

    *last* has a place for each CPU, with what a first event gets, and gets the index of its last
    event.
    """
    count: cython.Py_ssize_t = len(cpu)
    i: cython.Py_ssize_t
    number: cython.Py_ssize_t
    with cython.nogil:
        for i in range(count):
            number = cpu[i]
            before[i] = last[number]
            last[number] = i
