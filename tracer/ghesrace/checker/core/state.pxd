# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is state.py, which also runs without them.
cimport cython
from ghesrace.checker.core.words cimport LEVELS, NEVER, NOWHERE
from ghesrace.checker.core.holds cimport Episode, Hold, Shot, Span, Tell


cdef class Level:
    cdef public long long ctx
    cdef public long long calls
    cdef public long long call_t
    cdef public long long call_point
    cdef public Span writing
    cdef public bint active
    cdef public long long pid
    cdef public long long edge_seq
    cdef public long long edge_t
    cdef public long long edge_pos
    cdef public long long since_pos
    cdef public long long edge_index
    cdef public object edge_row
    cdef public object opening_row
    cdef public long long opening
    cdef public bint in_handler
    cdef public long long copy_depth
    cdef public long long copy_seq
    cdef public long long copy_t
    cdef public long long copy_pos
    cdef public bint copy_writes
    cdef public long long last_t
    cdef public long long last_pos
    cdef public long long last_kind
    cdef public long long pending
    cdef public Episode pending_episode
    cdef public Episode pending_other
    cdef public bint telling
    cdef public list tells
    cdef public bint mapped
    cdef public list places
    cdef public list used
    @cython.locals(place=Place, one=Place)
    cdef Place use(self, long long slot)


cdef class Place:
    cdef public long long slot
    cdef public bint used
    cdef public Episode episode
    cdef public Hold hold
    cdef public Episode outer
    cdef public Episode inner
    cdef public Shot shot
    cdef public long long pre_first
    cdef public long long pre_last
    cdef public long long pre_pos
    cdef public long long stray_pos
    cdef public long long stray_t
    cdef public long long stray_seq
    cdef public bint pre_in_map
    cdef public long long pre_since
    cdef public long long pre_luck_first
    cdef public long long pre_luck_pos
    cdef public long long inv_first
    cdef public long long inv_pos
    cdef public bint inv_structural
    cdef public long long tell_first
    cdef public long long tell_pos
    cdef public bint tell_structural


cdef class Cpu:
    cdef public long long number
    cdef public long long pos
    cdef public long long last_t
    cdef public long long top
    cdef public list levels
    cdef public list cells
    cdef public long long last_task
    cdef public list tasks


cdef class Newest:
    cdef public long long count
    cdef public Episode first
    cdef public Episode second
    cdef public list others
    @cython.locals(found=Episode)
    cdef Episode at(self, long long index)
    cpdef list all(self)
    cdef int fill(self, list episodes) except -1
    @cython.locals(newest=Episode, old=Episode)
    cdef int add(self, Episode one, bint pairs) except -1
    cdef int drop(self, long long index) except -1
    cdef int clear(self) except -1


cdef class Since:
    cdef public bint known
    cdef public Hold hold
    cdef public long long begin_last
    cdef public long long end_first
    cdef public long long end_pos
    cdef public long long at


cdef class Cell:
    cdef public long long cpu
    cdef public long long slot
    cdef public long long inv_first
    cdef public long long inv_pos
    cdef public long long inv_last
    cdef public long long inv_pos_last
    cdef public long long opened
    cdef public long long first_seen
    cdef public bint mapped
    cdef public Since surely
    cdef public Since maybe
    cdef public bint start_open
    cdef public Newest own_maybe
    cdef public Newest own_surely
    cdef public Newest other_maybe
    cdef public Newest other_surely
    cdef public bint any_own
    cdef public long long any_other
    cdef public long long last_pos
    cdef public long long last_begin
    cdef public long long last_ctx
    cdef public long long begun
    cdef public long long told_begin
    cdef public long long ended
    cdef public long long began


cdef class SlotState:
    cdef public long long number
    cdef public bint lock_page
    cdef public bint known
    cdef public unsigned long long address
    cdef public list cells
    cdef public list holds
    cdef public list window
    cdef public list tells
    cdef public list shots
    cdef public Cell untold
    cdef public bint no_lock
    cdef public long long told_begin
    cdef public long long last_cpu
    cdef public long long last_unmap
    cdef public dict old_first
    cdef public dict old_last
    cdef public long long told_end
