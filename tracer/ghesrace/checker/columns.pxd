# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is columns.py, which also runs without them.
cimport cython
from ghesrace.checker.core.rule cimport Judged as One
from ghesrace.checker.core.holds cimport Episode, Hold
from ghesrace.checker.core.words cimport NEVER

cdef long long WRITE
cdef long long ACCESS_SEEN
cdef long long UNMAPPED
cdef long long UNSEEN


# model.EPISODE; where it is not, the compiled code refuses the table.
cdef packed struct Row:
    short slot
    unsigned short cpu
    unsigned char ctx
    unsigned char marks
    unsigned int pid
    unsigned long long frame
    long long seq_map
    long long t_map
    long long t_read
    long long t_unmap


@cython.locals(one=One, mine=list, slot="long long")
cpdef list columns(list judged)
@cython.locals(count="long long")
cdef object _of_slot(long long slot, list judged)
cdef long long _stamp(long long at) noexcept
@cython.locals(one=One, episode=Episode, hold=Hold, i="long long")
cdef int _fill(Row[:] rows, long long[:, :] numbers, unsigned char[:, :] flags, list judged) except -1
