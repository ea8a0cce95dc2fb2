# SPDX-License-Identifier: Apache-2.0
"""Give back what a burst took: glibc keeps freed memory below what is still in use.

A large batch is judged with large temporary arrays. What was allocated behind them meanwhile (the
flight recorder's batches) stays, so the heap never shrinks by itself.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

EVERY_S = 60.0


class Heap:
    """Returns free pages to the kernel now and then; does nothing where libc can't (musl)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # malloc_trim(3): pages in the middle of the heap too, since glibc 2.8.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._clock = clock
        self._due = clock() + EVERY_S

    def look(self) -> bool:
        """Once a batch; whether pages were looked for."""
        now = self._clock()
        if self._trim is None or now < self._due:
            return False
        self._due = now + EVERY_S
        self._trim(0)
        return True
