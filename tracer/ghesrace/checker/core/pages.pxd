# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is pages.py, which also runs without them.
cimport cython
from ghesrace.checker.core.state cimport Cell
from ghesrace.checker.core.state cimport Cpu
from ghesrace.checker.core.holds cimport Episode
from ghesrace.checker.core.holds cimport Gap
from ghesrace.checker.core.holds cimport Hold
from ghesrace.checker.core.invalidations cimport Invalidations
from ghesrace.checker.core.state cimport Level
from ghesrace.checker.core.state cimport Place
from ghesrace.checker.core.holds cimport Shot
from ghesrace.checker.core.state cimport SlotState
cimport ghesrace.checker.core.words as w


cdef class Pages(Invalidations):
    cdef public long long index
    cdef public list gaps
    cdef public long long open_ends
    cdef public long long no_flushes
    cdef public list strays
    @cython.locals(episode=Episode, gap=Gap, until="long long", seen=bint)
    cdef void missed_flushes(self, Hold hold) except *
    @cython.locals(hold=Hold, episode=Episode, place=Place)
    cdef void close(self, Cpu cpu, Level level, long long slot, long long ts, long long seq) except *
    @cython.locals(state=SlotState)
    cdef bint lock_page(self, long long slot) except -1
    @cython.locals(outer=Episode, place=Place)
    cdef void missed_end(self, Cpu cpu, Level level, long long slot, long long ts, long long seq) except *
    @cython.locals(last=Episode, place=Place)
    cdef int give_up(self, Cpu cpu, Level level, Hold hold, long long ts) except -1
    cdef void end(self, Cpu cpu, Level level, Episode episode, long long ts, long long seq) except *
    cdef int last_access(self, Cpu cpu, Episode episode, long long ts) except -1
    cdef bint in_hold(self, Level level, Place place) except *
    @cython.locals(state=SlotState, cell=Cell, before=Episode, hold=Hold, episode=Episode, place=Place)
    cdef int map(self, Cpu cpu, Level level, long long ctx, long long ts, unsigned long long phys, long long seq, long long pid, long long point, long long slot) except -1
    @cython.locals(shot=Shot)
    cdef int take_shot(self, SlotState state, long long cpu, long long first, long long ts) except -1
    @cython.locals(hold=Hold, place=Place, state=SlotState)
    cdef Hold open_hold(self, Cpu cpu, Level level, long long ctx, long long ts, long long seq, long long slot)
    @cython.locals(episode=Episode, place=Place)
    cdef Episode open_episode(self, Hold hold, Level level, unsigned long long frame, long long seq, long long pid, long long slot)
    @cython.locals(episode=Episode, number="long long", place=Place)
    cdef int map_end(self, Level level, long long slot) except -1
    @cython.locals(episode=Episode, number="long long", place=Place)
    cdef int unmap_end(self, Cpu cpu, Level level, long long slot, long long ts, long long seq) except -1
    @cython.locals(seen=bint, episode=Episode, number="long long", state=SlotState, cell=Cell, place=Place)
    cdef int access(self, Cpu cpu, Level level, long long ts, unsigned long long addr, long long seq, long long slot, long long kind) except -1
    @cython.locals(episode=Episode, place=Place)
    cdef int unmap(self, Cpu cpu, Level level, long long ctx, long long ts, long long seq, long long pid, long long point, long long slot) except -1
    cdef int drop_stray(self, Place place) except -1
    cdef bint done(self, Level level, Episode last) except -1
    @cython.locals(shot=Shot)
    cdef void doubt_shot(self, Cpu cpu, SlotState state, Place place) except *
    cdef void stray_flush(self, Level level, Place place, Episode episode) except *
    @cython.locals(cell=Cell, hold=Hold, episode=Episode, outer=Episode, inner=Episode, last=Episode, place=Place)
    cdef Episode orphan(self, Cpu cpu, Level level, long long ctx, long long ts, long long seq, long long pid, long long slot)


