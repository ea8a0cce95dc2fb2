# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is holds.py, which also runs without them.
cimport cython
from ghesrace.checker.core.words cimport FORCE_CLOSE_NS, NEVER, NO, NOWHERE


# What must be looked at to let an object go comes first, and flags stand together: thousands of
# them wait for a MARK, more than the nearest caches hold.
cdef class Episode:
    cdef public Hold hold
    cdef public Episode outer
    cdef public Episode before
    cdef public list rows
    cdef public object entry_row
    cdef public object before_row
    cdef public bint judged
    cdef public bint writes
    cdef public bint read_seen
    cdef public bint unmapped
    cdef public bint replaced
    cdef public bint unmap_lost
    cdef public bint unordered
    cdef public bint left_open
    cdef public bint waiting_flush
    cdef public bint pre_in_map
    cdef public bint at_start
    cdef public bint pre_known
    cdef public bint tell_seen
    cdef public unsigned long long frame
    cdef public long long pid
    cdef public long long seq_entry
    cdef public long long seq_map
    cdef public long long point
    cdef public long long map_first
    cdef public long long map_last
    cdef public long long map_pos
    cdef public long long read_first
    cdef public long long read_last
    cdef public long long read_seq
    cdef public long long last_first
    cdef public long long last_pos
    cdef public long long unmap_first
    cdef public long long clear_last
    cdef public long long clear_pos_first
    cdef public long long clear_pos_last
    cdef public long long map_flush
    cdef public long long map_flush_first
    cdef public long long pre_first
    cdef public long long pre_last
    cdef public long long pre_pos
    cdef public long long pre_since
    cdef public long long unmap_over
    cdef public long long unmap_flush
    cdef public long long flush_first
    cdef public long long flush_last
    cdef public long long broadcast
    cdef public long long told_first
    cdef public long long told_last
    cdef public long long luck_map_first
    cdef public long long luck_map_pos
    cdef public long long luck_first
    cdef public long long luck_pos
    cdef public long long luck_last
    cdef public long long luck_pos_last
    cdef public long long index_entry
    cdef public long long index_before
    cdef public long long index_map
    cdef public long long index_last
    cdef public long long kept_until
    @staticmethod
    @cython.locals(made=Episode)
    cdef Episode of(Hold hold, unsigned long long frame, long long pid)
    cdef int fill(self, Hold hold, unsigned long long frame, long long pid) except -1


cdef class Hold:
    cdef public Episode first
    cdef public list others
    cdef public bint in_handler
    cdef public bint copied
    cdef public bint bounded
    cdef public bint closed
    cdef public bint done
    cdef public bint prepared
    cdef public bint open_end
    cdef public bint inconsistent
    cdef public bint touched
    cdef public bint told_known
    cdef public bint all_told
    cdef public long long cpu
    cdef public long long ctx
    cdef public long long slot
    cdef public long long count
    cdef public long long seq_entry
    cdef public long long since_pos
    cdef public long long entry_pos
    cdef public long long entry
    cdef public long long map_first
    cdef public long long begin_last
    cdef public long long end_first
    cdef public long long close
    cdef public long long pos_first
    cdef public long long end_pos
    cdef public long long beside_last
    cdef public long long told
    cdef public long long told_index
    cdef public long long told_index_maybe
    @staticmethod
    @cython.locals(made=Hold)
    cdef Hold of(long long cpu, long long ctx, long long slot)
    cdef int fill(self, long long cpu, long long ctx, long long slot) except -1
    cpdef int add(self, Episode episode) except -1
    @cython.locals(found=Episode)
    cdef Episode at(self, long long index)
    cdef Episode last(self)
    cpdef list all(self)
    cdef int forget(self) except -1


cdef class Span:
    cdef public long long what
    cdef public long long kind
    cdef public long long cpu
    cdef public long long ctx
    cdef public long long t
    cdef public long long pos
    cdef public long long slot
    cdef public long long point
    cdef public long long pid
    cdef public unsigned long long addr
    cdef public unsigned long long size
    cdef public unsigned long long phys
    cdef public long long last
    cdef public bint ended
    cdef public list inside
    @staticmethod
    @cython.locals(made=Span)
    cdef Span of(long long what, long long kind, long long cpu, long long ctx, long long t, long long pos)
    cdef int fill(self, long long what, long long kind, long long cpu, long long ctx, long long t, long long pos) except -1


cdef class Tell:
    cdef public long long sender
    cdef public long long first
    cdef public long long last
    cdef public bint known
    cdef public Episode episode
    cdef public long long role
    cdef public bint given_up


cdef class Shot:
    cdef public long long cpu
    cdef public long long first
    cdef public long long last
    cdef public bint perhaps_own


cdef class Loss:
    cdef public long long cpu
    cdef public long long begin
    cdef public long long end
    cdef public long long idle
    cdef public long long late
    cdef public long long reach
    cdef public long long reach_late
    cdef public long long kinds
    cdef public long long count
    cdef public long long spent
    cdef public bint concluded
    cdef public bint whole


cdef class Gap:
    cdef public long long kinds
    cdef public long long cpu
    cdef public long long begin
    cdef public long long end
    cdef public Episode episode
    cdef public bint of_map
    cdef public Loss by
