# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is races.py, which also runs without them.
cimport cython
from ghesrace.checker.core.holds cimport Episode
from ghesrace.checker.core.rule cimport Judged
cimport ghesrace.checker.core.words as w


cdef class Races:
    cdef public long long observed
    cdef public long long incidental
    cdef public long long never_safe
    cdef public dict alike
    @cython.locals(x=Episode, y=Episode, alike=list)
    cdef void take(self, Judged one) except *
