# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is leaving.py, which also runs without them.
cimport cython
from ghesrace.checker.core.clocks cimport Clocks
from ghesrace.checker.core.state cimport Cell
from ghesrace.checker.core.state cimport Cpu
from ghesrace.checker.core.holds cimport Episode
from ghesrace.checker.core.facts cimport Facts
from ghesrace.checker.core.holds cimport Hold
from ghesrace.checker.core.state cimport Newest
from ghesrace.checker.core.losses cimport Losses
from ghesrace.checker.core.reader cimport Reader
from ghesrace.checker.core.holds cimport Shot
from ghesrace.checker.core.state cimport Since
from ghesrace.checker.core.state cimport SlotState
from ghesrace.checker.core.words cimport MAP, OWN, TOLD, UNMAPS
cimport ghesrace.checker.core.words as w


cdef class Leaving:
    cdef public Facts facts
    cdef public Clocks clocks
    cdef public list slots
    cdef public Reader reader
    cdef public dict cpus
    cdef public Losses losses
    @cython.locals(cpu=Cpu)
    cdef Cell cell_of(self, SlotState state, long long number)
    cdef bint may_precede(self, Hold one, Hold other) except -1
    cdef bint apart(self, Hold one, Hold other) except -1
    @cython.locals(other=Cell, error="long long")
    cdef int inherit(self, SlotState state, Cell cell) except -1
    cdef bint lost_flush(self, Episode episode) except -1
    cdef bint map_hidden(self, Episode episode) except -1
    cdef bint unflushed(self, Episode episode) except -1
    @cython.locals(episode=Episode)
    cdef void missed_unmap(self, Hold hold) except *
    cdef int remember_own(self, SlotState state, Hold hold, Episode episode, Cell cell) except -1
    cdef bint outlasts(self, Hold hold, long long flush) except -1
    @cython.locals(since=Since)
    cdef int since_surely(self, Hold hold, long long at, Cell cell, bint told=*) except -1
    @cython.locals(since=Since)
    cdef int since_maybe(self, Hold hold, Cell cell) except -1
    @cython.locals(hold=Hold, after=Hold, episode=Episode, i="long long", error="long long", next_map="long long", latest_clear="long long", last="long long", kept="long long", index="long long")
    cdef int retire(self, SlotState state, Hold following, long long mark) except -1
    @cython.locals(cell=Cell, mine=Cell, surely=bint)
    cdef int hand_out(self, SlotState state, Hold hold) except -1
    @cython.locals(since=Since, one=Episode, error="long long", index="long long")
    cdef int give(self, Cell cell, Hold hold, bint surely) except -1
    @cython.locals(cell=Cell)
    cdef bint told_behind(self, SlotState state, Hold hold) except -1
    @cython.locals(left=Hold, error="long long", i="long long")
    cdef int drop_before(self, Newest threats, Hold hold) except -1
    @cython.locals(left=Hold, i="long long")
    cdef int keep_behind(self, Newest threats, Hold hold) except -1
    @cython.locals(episode=Episode, index="long long")
    cdef void all_shot(self, SlotState state, Hold hold) except *
    @cython.locals(other=Hold, found="long long", holds=list, first="long long", behind="long long", middle="long long")
    cdef long long next_begin(self, SlotState state, Hold hold) except? -1
    @cython.locals(following="long long", result="long long", since="long long")
    cdef long long shot_down(self, SlotState state, Hold hold, Episode episode) except? -1
    @cython.locals(shot=Shot, error="long long", bounded=bint, until="long long", last="long long", found="long long")
    cdef long long shot_by(self, SlotState state, long long sender, long long number, Episode episode, long long following, long long since) except? -1
    @cython.locals(error="long long", unseen=bint, following="long long", until="long long", first="long long", last="long long", page="long long")
    cdef bint shot_unseen(self, SlotState state, Hold hold, Episode episode) except -1


cdef long long answered(Episode episode) except? -1
@cython.locals(episode=Episode, found="long long", index="long long")
cpdef long long latest(Hold hold) except? -1
cpdef long long cleared(Hold hold) except? -1
