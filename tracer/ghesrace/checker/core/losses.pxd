# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is losses.py, which also runs without them.
cimport cython
from ghesrace.checker.core.facts cimport Facts
from ghesrace.checker.core.state cimport Cpu
from ghesrace.checker.core.holds cimport Episode
from ghesrace.checker.core.holds cimport Gap
from ghesrace.checker.core.holds cimport Hold
from ghesrace.checker.core.holds cimport Loss
from ghesrace.checker.core.state cimport SlotState
from ghesrace.checker.core.words cimport ACCESSES, COPIES, HANDLER, MAPS, OWN, TOLD, UNMAPS
cimport ghesrace.checker.core.words as w


cdef class Losses:
    cdef public Facts facts
    cdef public list all
    cdef public list open
    cdef public list windows
    cdef public list splits
    cdef public list inner
    cdef public bint changed
    cdef public long long hold_back
    cdef public long long seen
    cdef public long long page
    cdef public bint hid_episodes
    @cython.locals(loss=Loss)
    cpdef int add(self, long long begin, long long end, long long cpu, long long count, long long point, long long cause) except -1
    @cython.locals(one=Loss, parts=list)
    cpdef list pages(self)
    @cython.locals(one=Loss, new=list)
    cdef int conclude(self, list slots, list gaps, long long mark) except -1
    @cython.locals(gap=Gap, state=SlotState, hold=Hold)
    cdef bint is_settled(self, Loss one, list slots, list gaps, long long mark) except -1
    @cython.locals(window=Loss)
    cdef bint hid_one(self, Loss loss, bint settled) except -1
    cpdef list within(self)
    cpdef list inside(self)
    @cython.locals(one=Loss, last=Loss, here=list, edges=list, begun=list, begin="long long", end="long long", until="long long", following="long long", number="long long")
    cdef int find_pages(self, list losses, long long cpu, list windows, long long page) except -1
    @cython.locals(one=Loss, kinds="long long", number="long long", pairs="long long", here="long long", left="long long", mine=bint)
    cdef bint hide_page(self, list losses, long long until, long long cpu, long long page) except -1
    @cython.locals(one=Loss, by=Loss, others="long long", meets=bint)
    cdef bint spend(self, Gap gap) except -1
    @cython.locals(one=Loss, spent=bint, meets=bint, i="long long")
    cpdef bint hidden_between(self, long long kinds, long long cpu, long long begin, long long end) except -1
    @cython.locals(one=Loss, meets=bint, i="long long")
    cpdef bint touch(self, long long kinds, long long cpu, long long begin, long long end) except -1
    @cython.locals(one=Loss, cpu=Cpu, at="long long", old="long long", soon=bint)
    cdef int settle(self, dict cpus, list slots, long long mark) except -1
    @cython.locals(state=SlotState, hold=Hold, episode=Episode, until="long long")
    cdef void leaves(self, Loss one, list slots) except *
    @cython.locals(one=Loss, found="long long", meets=bint, i="long long")
    cdef long long in_flight(self, long long kinds, long long cpu, long long begin, long long end) except? -1
    @cython.locals(losses=list, one=Loss, error="long long", i="long long")
    cdef bint told_between(self, long long cpu, long long begin, long long end) except -1


@cython.locals(one=Loss, before=Loss, i="long long")
cpdef int reach(list losses, long long start) except -1
