# SPDX-License-Identifier: Apache-2.0
# Types for the compiler; the source is ranges.py, which also runs without them.
cpdef bint meets(unsigned long long addr, unsigned long long size, unsigned long long begin, unsigned long long length) except -1
