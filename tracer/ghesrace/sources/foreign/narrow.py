# SPDX-License-Identifier: Apache-2.0
"""This module finds the events of a foreign trace that have only the low 32 bits of addresses, as
a probe's argument `addr=%di:x32` records them. Both architectures' kernels are above that.

What is compared with an address that has all its bits would differ: a flush of a slot would be one
of another page, and no invalidation of the slot would be known.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ghesrace.events import PAGE_MASK

NARROW = 1 << 32  # All addresses of the kernel are above.
# Both fixmaps are in the last 32 MiB of what 32 bits reach, where programs have nothing but, with
# 32 bits themselves, a stack.
FIXMAP_HALF = 0xFE00_0000
_MOST = 4096  # pages that are remembered
# Of these a user's address may be what was recorded: it is one of below 4 GiB, or a half one.
_OF_USERS = ("INV_", "BCAST_")


@dataclass(slots=True)
class _Seen:
    """What one argument of one event type was: its largest value, and its pages below 4 GiB while
    it has no others."""

    largest: int = 0
    pages: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Narrow:
    """These are the addresses of a trace by what recorded them.

    >>> narrow = Narrow()
    >>> narrow.note(1, "MAP", "addr", np.array([0xFFFFFFFFFF57A000], np.uint64))
    >>> narrow.note(2, "INV_PAGE", "addr", np.array([0xFF57A000, 0x400000], np.uint64))
    >>> narrow.found()
    [(2, 'addr')]
    """

    _seen: dict[tuple[int, str], tuple[str, _Seen]] = field(default_factory=dict)
    _kernel: set[int] = field(default_factory=set)  # pages of the kernel's, of any but flushes

    def note(self, ident: int, kind: str, ours: str, addresses: npt.NDArray[np.uint64]) -> None:
        """Note the *addresses* (shape (n,)) that events of the type *ident*, which become *kind*,
        have as *ours*."""
        if not len(addresses):
            return
        _, seen = self._seen.setdefault((ident, ours), (kind, _Seen()))
        seen.largest = max(seen.largest, int(addresses.max()))
        users = kind.startswith(_OF_USERS)
        if users and seen.largest >= NARROW:
            return
        into = seen.pages if users else self._kernel
        if len(into) <= _MOST:
            into.update(np.unique(addresses & np.uint64(PAGE_MASK)).tolist())

    @property
    def alone(self) -> bool:
        """Whether the kernel's own addresses, of which there are some, are all half ones."""
        return any(self._kernel) and max(self._kernel) < NARROW

    def found(self, slots: Collection[int] = ()) -> list[tuple[int, str]]:
        """Return the types, and which of our fields of them, that have half addresses where others
        have whole ones. *slots* are halves that flushes alone tell, as they follow maps."""
        whole = {page for page in self._kernel if page >= NARROW}
        halves = {page % NARROW for page in whole} | {*slots}
        many = len(self._kernel) > _MOST
        made = []
        for (ident, ours), (kind, seen) in self._seen.items():
            if not whole or not 0 < seen.largest < NARROW:
                continue
            # A flush of a user's page, of which a program has few below 4 GiB, is no slot's.
            if not kind.startswith(_OF_USERS) or many or seen.pages & halves:
                made.append((ident, ours))
        return made
