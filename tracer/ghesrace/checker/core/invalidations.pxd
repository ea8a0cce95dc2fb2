# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is invalidations.py, which also runs without them.
cimport cython
from ghesrace.checker.core.state cimport Cell
from ghesrace.checker.core.state cimport Cpu
from ghesrace.checker.core.edits cimport Edits
from ghesrace.checker.core.holds cimport Episode
from ghesrace.checker.core.facts cimport Facts
from ghesrace.checker.core.ranges cimport meets
from ghesrace.checker.core.state cimport Level
from ghesrace.checker.core.state cimport Place
from ghesrace.checker.core.state cimport SlotState
from ghesrace.checker.core.holds cimport Tell
cimport ghesrace.checker.core.words as w


cdef class Invalidations:
    cdef public Facts facts
    cdef public list slots
    cdef public Edits edits
    cdef bint covers(self, SlotState state, unsigned long long addr, unsigned long long size, long long slot, long long kind) except -1
    cdef bint exact(self, SlotState state, unsigned long long addr, unsigned long long size, long long kind) except -1
    @cython.locals(state=SlotState, cell=Cell, number="long long", place=Place)
    cdef int invalidate(self, Cpu cpu, Level level, long long ctx, long long ts, unsigned long long addr, unsigned long long size, long long slot, long long kind) except -1
    @cython.locals(episode=Episode, number="long long", place=Place)
    cdef bint claim(self, Cpu cpu, Level level, SlotState state, long long ts, bint exact) except -1
    cdef bint flushes_unmap(self, Level level, Episode episode, bint exact) except -1
    cdef bint ends_unmap(self, Level level, Episode episode, bint exact) except -1
    cdef bint unflushed(self, Episode episode) except -1
    cdef bint direct(self, Level level) except -1
    @cython.locals(cell=Cell, place=Place)
    cdef int note_pre(self, Cpu cpu, Level level, long long slot, long long ts) except -1
    @cython.locals(state=SlotState, cell=Cell, episode=Episode, tell=Tell, number="long long", place=Place)
    cdef int broadcast(self, Cpu cpu, Level level, long long ctx, long long ts, unsigned long long addr, unsigned long long size, long long kind) except -1
    @cython.locals(cell=Cell, place=Place, tell=Tell)
    cdef void forget_tells(self, Cpu cpu, Level level, long long ctx) except *
    @cython.locals(tell=Tell, episode=Episode, cell=Cell, place=Place)
    cdef int told(self, Cpu cpu, Level level, long long ctx, long long ts) except -1
    @cython.locals(cell=Cell, state=SlotState, tell=Tell)
    cdef int told_before(self, Cpu cpu, long long ts) except -1
    cdef int over(self, Cpu cpu, Cell cell, long long first, long long pos, bint structural, long long ts) except -1
    @cython.locals(cell=Cell)
    cdef int luck_until(self, Cpu cpu, Episode episode, long long ts) except -1
    @cython.locals(episode=Episode, other=Episode, cell=Cell, first="long long", place=Place)
    cdef int settle(self, Cpu cpu, Level level, long long ctx, long long ts, long long kind=*) except -1
    @cython.locals(episode=Episode)
    cdef int flushed(self, Cpu cpu, Place place, long long first, long long ts) except -1


