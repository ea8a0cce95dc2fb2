# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is leaving.py, which also runs without them.
cimport cython
from ghesrace.checker.core.clocks cimport Clocks
from ghesrace.checker.core.state cimport Cell
from ghesrace.checker.core.state cimport Cpu
from ghesrace.checker.core.state cimport Episode
from ghesrace.checker.core.facts cimport Facts
from ghesrace.checker.core.state cimport Hold
from ghesrace.checker.core.losses cimport Losses
from ghesrace.checker.core.reader cimport Reader
from ghesrace.checker.core.state cimport Shot
from ghesrace.checker.core.state cimport Since
from ghesrace.checker.core.state cimport SlotState
from ghesrace.checker.core.state cimport Threat
cimport ghesrace.checker.core.words as w


cdef class Leaving:
    cdef public Facts facts
    cdef public Clocks clocks
    cdef public list slots
    cdef public Reader reader
    cdef public object cpus
    cdef public Losses losses
    cdef bint may_precede(self, Hold one, Hold other) except *
    cdef bint apart(self, Hold one, Hold other) except *
    cdef void inherit(self, SlotState state, Cell cell) except *
    cdef bint lost_flush(self, Episode episode) except *
    cdef bint unflushed(self, Episode episode) except *
    @cython.locals(episode=Episode)
    cdef void missed_unmap(self, Hold hold) except *
    @cython.locals(mine=Threat)
    cdef void remember_own(self, SlotState state, Hold hold, Episode episode, Cell cell) except *
    @cython.locals(since=Since, one=Threat, clocks=Clocks)
    cdef void since_surely(self, Hold hold, long long at, Cell cell, bint told=*) except *
    @cython.locals(since=Since, one=Threat, clocks=Clocks)
    cdef void since_maybe(self, Hold hold, Cell cell) except *
    @cython.locals(hold=Hold, after=Hold, episode=Episode, i="long long", error="long long", next_map="long long", latest_clear="long long", last="long long")
    cdef void retire(self, SlotState state, Hold following, long long mark) except *
    @cython.locals(cell=Cell, cpu=Cpu)
    cdef void hand_out(self, SlotState state, Hold hold) except *
    @cython.locals(since=Since, one=Threat, error="long long", threats=list)
    cdef void give(self, Cell cell, Hold hold, list left, list sure) except *
    @cython.locals(begin="long long", cpu="long long")
    cdef bint told_behind(self, SlotState state, Hold hold) except *
    cdef bint before(self, Threat threat, Hold hold) except *
    cdef bint behind(self, Threat threat, Hold hold) except *
    @cython.locals(episode=Episode, index="long long")
    cdef void all_shot(self, SlotState state, Hold hold) except *
    @cython.locals(shot=Shot, error="long long", bounded=bint)
    cdef long long shot_down(self, SlotState state, Hold hold, Episode episode) except *


cdef void newest(dict values, long long cpu, long long value) except *
@cython.locals(old=Threat)
cdef void add(list threats, Threat one, bint pairs=*) except *
@cython.locals(episode=Episode, found="long long")
cpdef long long latest(Hold hold) except *
