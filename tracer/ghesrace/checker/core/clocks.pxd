# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is clocks.py, which also runs without them.
cimport cython


cdef class Clocks:
    cdef public long long general
    cdef public dict own
    cdef public bint pairs
    cdef public long long largest
    @cython.locals(found="long long")
    cpdef long long error(self, long long cpu, long long other) except -1
