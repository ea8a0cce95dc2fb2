# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is account.py, which also runs without them.
cimport cython
from ghesrace.checker.core.rule cimport Judged
from ghesrace.checker.core.holds cimport Hold
cimport ghesrace.checker.core.words as w


cdef class Account:
    cdef public list slots
    cdef public dict at_start
    cdef public long long orphans
    cdef public dict orphans_at_start
    cdef public object new
    @cython.locals(new="long long[::1]", one=Judged, hold=Hold, at="long long")
    cpdef take(self, list judged)
    cdef int hide(self, Judged one, Hold hold) except -1
    cdef int open(self, long long slot, long long cpu, long long n) except -1
    cpdef long long forgive(self, long long slot, long long cpu) except -1
    cpdef add(self, long long slot, long long cpu, long long cls, long long why, long long n, bint latent, bint handoff)
    cpdef add_up(self)
