# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is classes.py, which also runs without them.
cimport cython
from ghesrace.checker.core.holds cimport Episode
cimport ghesrace.checker.core.words as w


cdef class Threats:
    cdef public unsigned long long frame
    cdef public bint any
    cdef public bint uncovered
    cdef public bint harmful
    cdef public bint harmful_surely
    cdef public bint all_lucky
    cdef public bint unlucky
    cdef public long long flushed
    cdef public bint latent
    cdef public bint known
    cdef public bint start
    cdef public bint loss
    cdef public bint pti
    cdef public bint inconsistent
    cdef public bint crowded
    cdef public Episode threat_surely
    cdef public long long threat_end
    cdef public bint threat_flushed
    @staticmethod
    @cython.locals(made=Threats)
    cdef Threats of(unsigned long long frame)
    cdef int fill(self, unsigned long long frame) except -1
    cdef int unknown(self, long long why) except -1


cpdef long long class_of(Threats t) except? -1
cpdef long long cause_of(Threats t) except? -1
