# SPDX-License-Identifier: Apache-2.0
"""What stands in for Cython's `cython` module where a compiled part runs as plain Python.

Cython is needed to build, never to run. A module of compiled.MODULES that asks for
anything of `cython` begins with

    from ghesrace import uncompiled as cython

    if not TYPE_CHECKING and cython.compiled:
        import cython  # which Cython reads, and Python never does

Types are what such values are in plain Python, so that mypy checks the source too. C integers wrap
around and Python's do not: what may leave 64 bits is masked in the source. A parameter that is
`Words` (or another view) gets its C type from `@cython.locals(name="unsigned long long[::1]")`.
Where a package has `.pxd` files these have all C types, and annotations are for mypy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

_T = TypeVar("_T")

compiled = False

bint = int
uchar = int
uint = int
longlong = int
ulonglong = int
Py_ssize_t = int

# One-dimensional, contiguous. A memoryview gives Python's integers: an item of a NumPy array
# would wrap around at 64 bits and warn.
Bytes = memoryview
Uints = memoryview
Ints = memoryview
Words = memoryview


class _NoGil(nullcontext[None]):
    """`with cython.nogil:` and `@cython.nogil`."""

    def __call__(self, function: _T) -> _T:
        return function


nogil = _NoGil()


def cfunc(function: _T) -> _T:
    """A function that only its own module calls."""
    return function


def inline(function: _T) -> _T:
    """A function whose code is repeated where it is called."""
    return function


def declare(kind: object, value: _T) -> _T:
    """A C variable; of a module: one that only its own code sees."""
    return value


def address(thing: _T) -> _T:
    """The C address of a thing, whose attributes are then those of what is there."""
    return thing


def cast(kind: object, thing: _T) -> _T:
    """A thing as another C type."""
    return thing


def cclass(kind: _T) -> _T:
    """A class whose attributes are a C struct's."""
    return kind


def no_gc(kind: _T) -> _T:
    """A class that the garbage collector need not look at: no circle of its things is left."""
    return kind


def freelist(size: int) -> Callable[[_T], _T]:
    """How many dead things of a class wait for the next one."""
    return lambda kind: kind


def locals(**types: object) -> Callable[[_T], _T]:
    """C types of parameters and local names."""
    return lambda function: function


def exceptval(value: object = None, check: bool = True) -> Callable[[_T], _T]:
    """Which value of a C function says that it raised; check=False: it never does."""
    return lambda function: function


def overflowcheck(wanted: bool) -> Callable[[_T], _T]:
    """Whether `make sanitize` refuses a sum beyond 64 bits."""
    return lambda function: function
