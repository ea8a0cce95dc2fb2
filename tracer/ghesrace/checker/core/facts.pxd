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
    cdef public object pti
    cdef public object forced_broadcast
    cdef public list cpus
    cdef public list implies
    cdef public list nested
    cdef public list hides
    cdef public long long traced
    cdef public object hidden_unmap
    cdef public object proven_unmap
    cdef public object hidden_map
    cdef public list handlers
    cdef public list symbols
    cdef public list groups
    cdef public list returns
    cdef public bint bcast_end_traced
    cdef long long row(self, long long point) except *


