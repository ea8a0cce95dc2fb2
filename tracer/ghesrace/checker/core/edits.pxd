# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is edits.py, which also runs without them.
cimport cython
from ghesrace.checker.core.clocks cimport Clocks
from ghesrace.checker.core.state cimport Cpu
from ghesrace.checker.core.facts cimport Facts
from ghesrace.checker.core.state cimport Level
from ghesrace.checker.core.losses cimport Losses
from ghesrace.checker.core.ranges cimport meets
from ghesrace.checker.core.holds cimport Span
cimport ghesrace.checker.core.words as w


cdef class Meeting:
    cdef public Span ghes
    cdef public Span edit
    cdef public long long danger
    cdef public long long result
    cdef public bint assumes


cdef class Edits:
    cdef public Facts facts
    cdef public list slots
    cdef public Losses losses
    cdef public dict cpus
    cdef public dict open
    cdef public dict calls
    cdef public long long count
    cdef public list edits
    cdef public list writes
    cdef public list handlers
    cdef public list meetings
    cdef public bint truncated
    cdef public long long told_until
    cdef public bint allocating
    cdef public bint freeing
    cdef public bint status
    cdef public bint wanted
    cdef public bint ends_traced
    @cython.locals(level=Level, span=Span, edit=Span, other=Span)
    cdef int begin_write(self, long long kind, Cpu cpu, long long ctx, long long t, long long slot, long long point, unsigned long long phys) except -1
    @cython.locals(span=Span)
    cdef int end_write(self, Level level, long long t, bint ended) except -1
    @cython.locals(span=Span)
    cdef int begin_edit(self, long long cpu, long long ctx, long long t, long long pos, unsigned long long addr, unsigned long long size, long long pid, long long point) except -1
    @cython.locals(span=Span)
    cdef int end_edit(self, long long cpu, long long ctx, long long t, long long pid, long long point) except -1
    cdef object name(self, long long cpu, long long ctx, long long pid, long long point)
    @cython.locals(span=Span)
    cdef void went_on(self, long long cpu, long long ctx, long long t) except *
    @cython.locals(span=Span)
    cdef int left(self, long long cpu, long long ctx, long long t) except -1
    cdef int close_edit(self, Span span, long long t, bint ended) except -1
    @cython.locals(span=Span)
    cdef int begin_call(self, long long cpu, long long ctx, long long t, long long pos, long long point) except -1
    @cython.locals(span=Span)
    cdef int end_call(self, long long cpu, long long ctx, long long t, bint ended) except -1
    @cython.locals(ghes=Span)
    cdef int tell_inside(self, Span span) except -1
    @cython.locals(span=Span, edit=Span, ghes=Span, call=Span)
    cdef list step(self, long long mark)
    @cython.locals(cpu=Cpu, level=Level, span=Span, ghes=Span)
    cdef int give_up(self, long long mark) except -1
    @cython.locals(one=Span, other=Span, number="long long", after="long long", error="long long")
    cdef int meet_writes(self, long long until) except -1
    cdef bint may_meet(self, Span ghes, Span edit) except -1
    @cython.locals(clocks=Clocks, error="long long")
    cdef bint beside(self, Span ghes, Span edit, bint proven=*) except -1
    cdef void tell(self, Span ghes, Span edit, bint inside, bint surely) except *
    cdef int tell_status(self, Span call, Span edit) except -1
    cdef bint touched(self, Span span) except -1
    cdef object danger(self, Span ghes, Span edit, bint inside)


@cython.locals(span=Span, found=list)
cdef list lasting(list spans, long long until)
