# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is uses.py, which also runs without them.
cimport cython
from ghesrace.checker.core.holds cimport Episode, Hold
cimport ghesrace.checker.core.words as w


cpdef long long lasts(Episode use) except? -1
@cython.locals(found="long long")
cpdef long long over(Episode use) except? -1
@cython.locals(found="long long", t="long long")
cpdef long long last_stamp(Episode episode) except? -1
@cython.locals(a=Hold, b=Hold, nested=bint)
cpdef long long meet(Episode one, Episode other, long long error) except? -1
@cython.locals(low=Episode, high=Episode)
cpdef long long inside(Episode one, Episode other) except? -1
