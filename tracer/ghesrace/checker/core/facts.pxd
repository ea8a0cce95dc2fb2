# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is facts.py, which also runs without them.
cimport cython
from ghesrace.checker.core.clocks cimport Clocks
cimport ghesrace.checker.core.words as w


cdef class Facts:
    cdef public Clocks clocks
    cdef public long long error
    cdef public Clocks proven
    cdef public bint assumed
    cdef public long long wait
    cdef public bint pti
    cdef public bint forced_broadcast
    cdef public list cpus
    cdef public long long[::1] implies
    cdef public long long[::1] nested
    cdef public list hides
    cdef public long long traced
    cdef public long long hidden_unmap
    cdef public long long proven_unmap
    cdef public long long hidden_map
    cdef public bint flush_proven
    cdef public long long[::1] handlers
    cdef public list symbols
    cdef public list groups
    cdef public bint bcast_end_traced
    cdef long long rows
    cdef long long row(self, long long point) noexcept
    cdef long long implied(self, long long point) noexcept
    cdef bint is_nested(self, long long point) noexcept
    cdef bint has_handler(self, long long slot) noexcept


