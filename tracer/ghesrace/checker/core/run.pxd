# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is run.py, which also runs without them.
cimport cython
from ghesrace.checker.core.state cimport Cpu
from ghesrace.checker.core.edits cimport Edits
from ghesrace.checker.core.holds cimport Episode
from ghesrace.checker.core.facts cimport Facts
from ghesrace.checker.core.holds cimport Hold
from ghesrace.checker.core.rule cimport Judge
from ghesrace.checker.core.state cimport Level
from ghesrace.checker.core.losses cimport Losses
from ghesrace.checker.core.state cimport Place
from ghesrace.checker.core.reader cimport Reader
from ghesrace.checker.core.state cimport SlotState
cimport ghesrace.checker.core.words as w


cdef packed struct Event:
    unsigned long long ts
    unsigned long long addr
    unsigned long long phys
    unsigned long long size
    unsigned long long seq
    unsigned int pid
    unsigned short point
    unsigned short cpu
    short slot
    unsigned char kind
    unsigned char ctx
    unsigned char flags
    unsigned char aux
    unsigned short reserved


cdef class Core:
    cdef public Facts facts
    cdef public list slots
    cdef public Losses losses
    cdef public Edits edits
    cdef public Reader reader
    cdef public Judge judge
    cdef public list met
    cdef public long long mark
    cdef public bint unknown
    cdef public long long seen
    cpdef list feed(self, object batch)
    @cython.locals(cpu=Cpu)
    cdef long long walk(self, object batch) except? -1
    @cython.locals(events="const Event[:]", e="const Event*", i="long long", mark="long long")
    cdef long long scan(self, object batch) except? -1
    @cython.locals(state=SlotState)
    cdef int learn(self, object batch) except -1
    @cython.locals(state=SlotState, hold=Hold, cpu=Cpu, level=Level, place=Place, over="long long", at="long long")
    cdef int force(self, long long mark) except -1
    @cython.locals(state=SlotState, hold=Hold, cpu=Cpu, level=Level, place=Place)
    cpdef list finish(self)
    @cython.locals(cpu=Cpu, episode=Episode)
    cdef int cut(self, Hold hold) except -1


