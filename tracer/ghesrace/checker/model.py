# SPDX-License-Identifier: Apache-2.0
"""These are the words of the checker: classes, causes, and judged episodes as columns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

from ghesrace.events import Bools, Ints


class Class(IntEnum):
    """A class says what saved an episode; the first that matches wins."""

    FRESH = 0
    BROADCAST = 1
    MAP_FLUSH = 2
    SAME_FRAME = 3
    INCIDENTAL = 4
    NONE = 5
    UNCERTAIN = 6


class Why(IntEnum):
    """This says why an episode is uncertain."""

    CERTAIN = 0
    START = 1  # its CPU may hold a translation from before the capture
    LOSS = 2  # a loss may have hidden what matters
    ORDER = 3  # the clocks can't order what matters
    PTI = 4  # a CR3 write may have dropped the entry: kernel entries are not global
    INCONSISTENT = 5  # its lock did not hold: the record has no world


SAFE = (Class.FRESH, Class.BROADCAST, Class.MAP_FLUSH, Class.SAME_FRAME)


@dataclass(slots=True)
class Judged:
    """These are new episodes of one slot, judged. All columns have the length of `episodes`.

    `cls` holds Classes and `why` holds Whys. `latent` says that the episode's CPU might still hold
    another frame's translation when it began, and `handoff` that the slot's hold before was on
    another CPU. `before` is when that one unmapped it (ns), or NEVER.
    """

    slot: int
    episodes: Table
    cls: Ints
    why: Ints
    latent: Bools
    handoff: Bools
    before: Ints


Table = npt.NDArray[np.void]


class Mark(IntFlag):
    """A mark says what is known of an episode."""

    WRITE = 16  # it wrote through the slot (the 4-byte status clear)
    ACCESS_SEEN = 32  # the access itself was traced
    UNMAPPED = 64  # its unmap was seen


# This is one episode. The columns t_* are ns, and NEVER where nothing was seen; seq_map is the
# map's position in the CPU's buffer. The time of an entry probe is the begin of its effect's
# interval.
EPISODE = np.dtype(
    [
        ("slot", "<i2"),
        ("cpu", "<u2"),
        ("ctx", "u1"),
        ("marks", "u1"),
        ("pid", "<u4"),
        ("frame", "<u8"),  # physical address, page aligned
        ("seq_map", "<i8"),
        ("t_map", "<i8"),
        ("t_read", "<i8"),
        ("t_unmap", "<i8"),
    ]
)


def class_word(cls: Class) -> str:
    """Return the class as users see it.

    >>> class_word(Class.MAP_FLUSH)
    'map-flush'
    """
    return cls.name.lower().replace("_", "-")
