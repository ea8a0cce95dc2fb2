# SPDX-License-Identifier: Apache-2.0
"""These are the words of the checker, as columns: classes, episodes, luck and spans."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

from ghesrace.events import Bools, Events, Ints, Kind


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


SAFE = (Class.FRESH, Class.BROADCAST, Class.MAP_FLUSH, Class.SAME_FRAME)


@dataclass(slots=True)
class Judged:
    """These are new episodes of one slot, judged. All columns have the length of `episodes`.

    `cls` holds Classes and `why` holds Whys. `latent` says that the episode's CPU might still hold
    another frame's translation when it began, and `handoff` that the slot's episode before was on
    another CPU. `threat` is the row of `threats` (EPISODE) that matters most, or -1. An episode is
    `vulnerable` if nothing structural would protect its access if another CPU's lock hold came just
    before its own. It `exposes` its translation if its unmap left that in other CPUs' reach. It is
    `touched` if a loss may have hidden what says otherwise of either.
    """

    slot: int
    episodes: Table
    cls: Ints
    why: Ints
    latent: Bools
    handoff: Bools
    threat: Ints
    threats: Table
    vulnerable: Bools
    exposes: Bools
    touched: Bools


FORCE_CLOSE_NS = 1_000_000_000  # no GHES handler holds a slot's lock for a second

Table = npt.NDArray[np.void]


class Mark(IntFlag):
    """A mark says what is known of an episode."""

    MAP_FLUSH = 1  # its CPU invalidated the slot after the map and before the access
    PRE_FLUSH = 2  # ... just before the map, in the same lock hold (t_pre)
    UNMAP_FLUSH = 4  # its CPU invalidated the slot after the clear, as part of the unmap
    BROADCAST = 8  # all CPUs were invalidated after the clear, as part of the unmap
    WRITE = 16  # it wrote through the slot (the 4-byte status clear)
    ACCESS_SEEN = 32  # the access itself was traced
    UNMAPPED = 64  # its unmap was seen


# This is one episode. The columns t_* are ns and seq_* are positions in the CPU's buffer; both are
# NEVER where nothing was seen. The time of an entry probe is the begin of its effect's interval.
EPISODE = np.dtype(
    [
        ("slot", "<i2"),
        ("cpu", "<u2"),
        ("ctx", "u1"),
        ("marks", "u1"),
        ("pid", "<u4"),
        ("frame", "<u8"),  # physical address, page aligned
        ("seq_hold", "<i8"),  # its lock hold's first map: names the hold, with cpu and ctx
        ("seq_entry", "<i8"),  # where its context entered the handler, as far as seen
        ("t_hold", "<i8"),
        ("t_pre", "<i8"),
        ("seq_map", "<i8"),
        ("t_map", "<i8"),
        ("seq_read", "<i8"),  # the earliest position at which the access may have begun
        ("t_read", "<i8"),
        ("seq_read_end", "<i8"),  # ... the latest
        ("t_read_end", "<i8"),
        ("t_unmap", "<i8"),
        ("seq_clear", "<i8"),  # the PTE is clear at this position
        ("t_clear", "<i8"),
        ("seq_close", "<i8"),  # the unmap is over at this position
        ("t_close", "<i8"),
    ]
)

# This is one invalidation that is not part of an episode's own map or unmap: it is luck.
LUCK = np.dtype(
    [
        ("slot", "<i2"),
        ("cpu", "<u2"),  # whose TLB; ALL_CPUS for a broadcast
        ("sender", "<u2"),
        ("ctx", "u1"),
        ("kind", "u1"),
        ("seq", "<i8"),
        ("t", "<i8"),
        ("seq_end", "<i8"),  # its effect is over at this position
        ("t_end", "<i8"),
    ]
)

LOCAL_INVALIDATIONS = (Kind.INV_PAGE, Kind.INV_RANGE, Kind.INV_ALL)

BROADCASTS = (Kind.BCAST_RANGE, Kind.BCAST_ALL)


class What(IntEnum):
    """This says what a span is."""

    WRITE = 0  # a GHES map or unmap is in the function that writes the PTE
    USE = 1  # a slot, from its map to the end of its unmap
    CALL = 2  # a GHES notification handler runs
    EDIT = 3  # another page-table edit of [addr, addr + size) is in progress


# This is one span. The columns t* are ns and seq* are positions in the CPU's buffer. A use is sure
# until its unmap is entered (t_sure) and over when that has returned (t_end). It is `ended` if its
# end was seen, not only that it is over, and `touched` if a loss may have hidden its real end.
SPAN = np.dtype(
    [
        ("what", "u1"),
        ("kind", "u1"),
        ("cpu", "<u2"),
        ("ctx", "u1"),
        ("ended", "?"),
        ("touched", "?"),
        ("slot", "<i2"),
        ("point", "<u2"),
        ("pid", "<u4"),
        ("addr", "<u8"),
        ("size", "<u8"),
        ("phys", "<u8"),
        ("seq", "<i8"),
        ("seq_end", "<i8"),
        ("t", "<i8"),
        ("t_sure", "<i8"),
        ("t_end", "<i8"),
    ]
)


@dataclass(slots=True)
class Spans:
    """One step of the tracker yields these spans (SPAN): those that are over by `watermark` (ns),
    and those that are still open, whose t_end is NEVER."""

    over: Table
    open: Table
    watermark: int


@dataclass(slots=True)
class Chunk:
    """One step of correlation yields a chunk, which is ready to be judged.

    `episodes` (EPISODE, new ones only) stand in slot order within each slot, and `luck` (LUCK) are
    the invalidations outside them. `events` are the raw events that they came from, and `losses`
    (events.LOSS) those delivered so far that may still touch something. `fresh` are those of the
    events that no chunk before had, all stamped below `watermark` (ns).
    """

    episodes: Table
    luck: Table
    events: Events
    losses: Events
    fresh: Events
    watermark: int


def class_word(cls: Class) -> str:
    """Return the class as users see it.

    >>> class_word(Class.MAP_FLUSH)
    'map-flush'
    """
    return cls.name.lower().replace("_", "-")
