# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is reader.py, which also runs without them.
cimport cython
from ghesrace.checker.core.state cimport Cpu
from ghesrace.checker.core.holds cimport Episode
from ghesrace.checker.core.state cimport Level
from ghesrace.checker.core.pages cimport Pages
from ghesrace.checker.core.state cimport Place
from ghesrace.checker.core.state cimport SlotState
cimport ghesrace.checker.core.words as w


@cython.freelist(64)
@cython.no_gc
cdef class Sent:
    cdef public long long cpu
    cdef public long long ctx
    cdef public long long t
    cdef public bint off
    cdef public object call


cdef class Reader(Pages):
    cdef public list shootdowns
    cdef public dict cpus
    cdef public list by_number
    cdef public Cpu at
    cdef public long long start
    @cython.locals(cpu=Cpu, level=Level, episode=Episode, place=Place)
    cdef int event(self, long long ts, unsigned long long addr, unsigned long long phys, unsigned long long size, long long seq, long long pid, long long point, long long number, long long slot, long long kind, long long ctx, long long flags, long long index) except -1
    @cython.locals(cpu=Cpu, state=SlotState)
    cdef Cpu cpu_of(self, long long number, long long ts)
    @cython.locals(level=Level, above="long long")
    cdef int come_down(self, Cpu cpu, long long ctx, long long ts, long long seq) except -1
    cdef int in_task(self, Cpu cpu, long long ts) except -1
    @cython.locals(place=Place)
    cdef int edge(self, Cpu cpu, Level level, long long ts, long long seq) except -1
    @cython.locals(other=Level, number="long long")
    cdef int set_since(self, Cpu cpu, Level level, long long ctx) except -1
    cdef int leave(self, Cpu cpu, Level level, long long ts, long long seq) except -1
    @cython.locals(place=Place)
    cdef int close_all(self, Cpu cpu, Level level, long long ts, long long seq) except -1
    @cython.locals(slot="long long", outer=Episode, place=Place)
    cdef int copy(self, Cpu cpu, Level level, long long ts, long long seq, long long flags) except -1
    @cython.locals(episode=Episode, place=Place)
    cdef int copy_end(self, Cpu cpu, Level level, long long ts, long long seq) except -1
    cdef void shootdown(self, Cpu cpu, Level level, long long ctx, long long ts, long long point, long long flags) except *


