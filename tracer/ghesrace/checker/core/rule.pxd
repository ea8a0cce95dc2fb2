# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is rule.py, which also runs without them.
cimport cython
from ghesrace.checker.core.state cimport Cell
from ghesrace.checker.core.state cimport Cpu
from ghesrace.checker.core.holds cimport Episode
from ghesrace.checker.core.holds cimport Gap
from ghesrace.checker.core.holds cimport Hold
from ghesrace.checker.core.holds cimport Shot
from ghesrace.checker.core.state cimport Level
from ghesrace.checker.core.state cimport Place
from ghesrace.checker.core.state cimport SlotState
from ghesrace.checker.core.holds cimport Tell
from ghesrace.checker.core.leaving cimport cleared
from ghesrace.checker.core.threats cimport Threatening
from ghesrace.checker.core.classes cimport Threats, cause_of, class_of
from ghesrace.checker.core.uses cimport last_stamp, meet, over
from ghesrace.checker.core.words cimport HANDLER, MAP, MAPS, MOST_IN_DOUBT, OWN, RESTS_ON, TOLD, UNMAPS
cimport ghesrace.checker.core.words as w


cdef class Judged:
    cdef public Episode episode
    cdef public Episode threat
    cdef public bint latent
    cdef public bint handoff
    cdef public bint never_safe
    cdef public bint vulnerable
    cdef public bint bare
    cdef public bint exposes
    cdef public bint touched
    cdef public bint in_flight
    cdef public bint told_unseen
    cdef public bint assumes
    cdef public long long cls
    cdef public long long why
    cdef public long long before
    @staticmethod
    @cython.locals(made=Judged)
    cdef Judged of(Episode episode)
    cdef int fill(self, Episode episode) except -1


cdef class Judge(Threatening):
    cdef public list not_safe
    cdef public long long hidden_maps
    cdef public list overlaps
    cdef public long long uses
    cdef public long long not_ordered
    cdef public long long strays
    cdef public Threats asked
    cdef public list beside
    @cython.locals(state=SlotState)
    cdef list step(self, long long mark)
    @cython.locals(gap=Gap, proven="long long", left=list, safe="long long", waiting=list, at="long long")
    cdef void explain(self, long long mark) except *
    @cython.locals(episode=Episode, gap=Gap)
    cdef void flushes_missed(self, list gaps) except *
    @cython.locals(hold=Hold, other=Hold, holds=list, i="long long", until="long long", error="long long", reach="long long")
    cdef int sweep(self, SlotState state, long long mark, list judged) except -1
    @cython.locals(until="long long", state=SlotState)
    cdef bint ready(self, Hold hold, long long mark) except -1
    @cython.locals(end="long long")
    cdef bint may_yet_precede(self, Hold one, Hold other) except -1
    @cython.locals(shot=Shot, cpu=Cpu, level=Level, place=Place, last="long long")
    cdef bint answer_is_open(self, SlotState state, Hold hold, long long mark) except -1
    @cython.locals(last=Episode)
    cdef int prepare(self, Hold hold) except -1
    cdef bint mapped_anew(self, Episode episode) except -1
    @cython.locals(episode=Episode, hold=Hold)
    cdef void split(self, SlotState state, long long at) except *
    @cython.locals(hold=Hold, other=Hold, later="long long", cell=Cell, last=Episode, episode=Episode, one=Judged, index="long long", others=list, left=Episode)
    cdef int judge(self, SlotState state, long long at, long long until, list judged) except -1
    cdef void outlasts_others(self, SlotState state, Hold hold) except *
    cdef int set_beside(self, SlotState state, Hold other, Hold hold, list others) except -1
    cdef bint wanted(self, Episode episode) except -1
    @cython.locals(a=Episode, b=Episode, error="long long", met="long long", proven="long long")
    cdef void meet(self, Hold one, Hold other) except *
    cdef bint known(self, Episode use) except -1
    cdef bint complete(self, Hold hold, Episode episode) except -1
    @cython.locals(episode=Episode, one=Judged, t=Threats, other=Hold, unsafe=bint, i="long long", tellers=list, sure_tellers=list)
    cdef Judged judge_episode(self, SlotState state, Hold hold, long long index, Cell cell, list others)
    @cython.locals(episode=Episode, later="long long")
    cdef bint told_unseen(self, SlotState state, Hold hold, long long index) except -1
    cdef bint interrupts(self, Hold hold) except -1
    @cython.locals(cpu=Cpu, hold=Hold, tell=Tell, lasts=bint)
    cdef void prune(self, SlotState state, long long mark) except *


@cython.locals(i="long long", a=Hold, b=Hold)
cdef bint in_order(list holds) except -1
cdef object _place(Hold hold)
