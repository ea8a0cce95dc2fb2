# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is threats.py, which also runs without them.
cimport cython
from ghesrace.checker.core.clocks cimport Clocks
from ghesrace.checker.core.state cimport Cell
from ghesrace.checker.core.state cimport Cpu
from ghesrace.checker.core.holds cimport Episode
from ghesrace.checker.core.holds cimport Hold
from ghesrace.checker.core.leaving cimport Leaving, latest
from ghesrace.checker.core.holds cimport Loss
from ghesrace.checker.core.state cimport Since
from ghesrace.checker.core.state cimport SlotState
from ghesrace.checker.core.holds cimport Tell
from ghesrace.checker.core.classes cimport Threats
from ghesrace.checker.core.words cimport BEGINS, OWN, TOLD, UNMAPS
cimport ghesrace.checker.core.words as w


cdef class Threatening(Leaving):
    @cython.locals(other=Hold, loss=Loss, error="long long", gone=Cell)
    cdef long long flushed(self, SlotState state, Hold hold, Episode episode, Cell cell, list others) except? -1
    @cython.locals(loss=Loss, cpu=Cpu, error="long long", latest_begin="long long", behind=bint, unseen=bint)
    cdef bint held_before(self, SlotState state, Hold hold, Episode episode) except -1
    @cython.locals(episode=Episode, before=Episode, i="long long")
    cdef bint vulnerable(self, SlotState state, Hold hold, long long index, Cell cell) except -1
    @cython.locals(gone=Cell, other=Hold, behind="long long", follows=bint)
    cdef bint outside(self, SlotState state, Hold hold, long long last) except -1
    @cython.locals(since=Since)
    cdef bint maybe_since(self, Hold other, Cell cell, Hold hold) except -1
    @cython.locals(since=Since)
    cdef bint surely_since(self, Hold other, Cell cell, Hold hold) except -1
    @cython.locals(teller=Hold, error="long long", behind=bint)
    cdef void maybe(self, Threats t, SlotState state, Hold hold, Episode episode, Episode threat, bint own, list tellers) except *
    @cython.locals(teller=Hold, left=Episode, error="long long", lucky=bint, last="long long")
    cdef void surely(self, Threats t, SlotState state, Hold hold, Episode episode, Episode left, bint own, Cell cell, list tellers) except *
    @cython.locals(late="long long", error="long long")
    cdef bint told_late(self, Hold hold, long long begin, long long end) except -1
    cdef bint stands(self, SlotState state, Hold hold, Episode episode, Cell cell, Episode left, long long cls) except -1
    @cython.locals(x=Hold, other=Hold, own=bint, t=Threats)
    cdef bint unsafe(self, SlotState state, Hold hold, Episode episode, Cell cell, Episode left, long long cls) except -1
    @cython.locals(loss=Loss, within=list, since=Since, least="long long", i="long long")
    cdef int hidden(self, Threats t, SlotState state, Hold hold, Episode episode, Cell cell, list tellers) except -1
    @cython.locals(since=Since, error="long long", teller=Hold, late="long long")
    cdef bint may_lie_between(self, Loss loss, SlotState state, Hold hold, Episode episode, Cell cell, list tellers) except -1
    @cython.locals(loss=Loss, within=list, i="long long")
    cdef bint whole_between(self, long long cpu, long long begin, long long end) except -1
    @cython.locals(tell=Tell, clocks=Clocks, sender="long long", first="long long", late="long long", over="long long", after=bint)
    cdef bint luck_surely(self, SlotState state, Hold hold, Episode left, bint own, Episode episode) except -1
    @cython.locals(error="long long")
    cdef bint luck_before_map(self, Episode left, bint own, Episode episode) except -1
    @cython.locals(tell=Tell, clocks=Clocks, error="long long", sender="long long", last="long long", late="long long", past="long long", begun=bint)
    cdef bint luck_maybe(self, SlotState state, Hold hold, Episode left, bint own, Episode episode, Cell cell) except -1


