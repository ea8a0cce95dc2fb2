# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is predict.py, which also runs without them.
cimport cython
from ghesrace.checker.core.rule cimport Judged
from ghesrace.checker.core.holds cimport Episode, Hold
cimport ghesrace.checker.core.words as w


cdef class Samples:
    cdef public bint touched
    cdef public bint writes
    cdef public bint bounded
    cdef public list kept
    cdef public bint complete
    cdef int add(self, Episode episode) except -1
    @cython.locals(i="long long", j="long long", x=Episode, y=Episode)
    cdef bint helps(self, Episode episode) except -1
    @cython.locals(kept=Episode, apart="bint")
    cdef bint paired(self, Episode x, Episode y) except -1


cdef class Run:
    cdef public long long last_pos
    cdef public list exposing


cdef class Shown:
    cdef public long long slot
    cdef public long long cpu
    cdef public list exposing
    cdef public list vulnerable
    cdef public list bare
    cdef public list runs
    @cython.locals(run=Run, samples=Samples, episode=Episode)
    cdef Run run_of(self, Hold hold)
    @cython.locals(episode=Episode, bounded="bint", exposing=list)
    cdef void add(self, Judged one) except *


cdef class Predictions:
    cdef public long long cpus
    cdef public dict shown
    cdef public bint told_hidden
    @cython.locals(one=Judged, hold=Hold, shown=Shown)
    cpdef take(self, list judged)
    cpdef Shown of(self, long long slot, long long cpu)


@cython.locals(a=Hold, b=Hold)
cdef bint one_call(Episode one, Episode other) except -1
@cython.locals(at="long long", samples=Samples)
cdef int keep(list kinds, bint touched, bint writes, bint bounded, Episode episode) except -1
