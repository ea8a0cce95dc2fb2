# SPDX-License-Identifier: Apache-2.0
"""This module gives back the memory that a burst took, because glibc keeps freed memory that lies
below what is still in use.

A large batch is judged with large temporary arrays. What was allocated behind them meanwhile (the
flight recorder's batches) stays, so the heap never shrinks by itself.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

EVERY_S = 60.0


class Heap:
    """This returns free pages to the kernel every EVERY_S seconds. It does nothing where libc can't
    do it, as musl. *clock* returns monotonic seconds.

    >>> Heap().look()  # it is too early
    False
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # Since glibc 2.8, malloc_trim(3) also returns pages in the middle of the heap.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._clock = clock
        self._due = clock() + EVERY_S

    def look(self) -> bool:
        """Return free pages if it is time, and return whether it was. Call it once per batch."""
        now = self._clock()
        if self._trim is None or now < self._due:
            return False
        self._due = now + EVERY_S
        self._trim(0)
        return True
