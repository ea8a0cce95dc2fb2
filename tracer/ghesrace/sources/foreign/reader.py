# SPDX-License-Identifier: Apache-2.0
"""This module says what a reader of a foreign format has to offer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ghesrace.events import Cause
from ghesrace.plan import Unseen
from ghesrace.sources.ring.pages import EventFormat, PageLayout, Records

from .eventmap import EventType


class Reader(Protocol):
    """A reader hands out a foreign file as ring-buffer pages, whatever the file's own format is.

    This prints what is in the first buffer of a file:

        [reader, *_] = readers(Path("trace.dat"), EventMap())
        for block in reader.blocks():
            print(len(decode(b"".join(block.chunks.values()), reader.layout)))
    """

    layout: PageLayout
    formats: dict[int, tuple[str, EventFormat]]  # event id -> system and format
    clock: str
    arch: str
    release: str
    cpus: int  # how many the machine had, 0 if the file does not say
    unseen: list[Unseen]  # what files of this kind, or this one, cannot contain
    truncated: list[str]
    missed: dict[str, int]  # event name -> hits that the kernel skipped, where told
    stats: list[dict[str, int]]  # per_cpu/*/stats, where told
    # Losses of the whole file, whose time nothing tells: the cause, and the number of events (0 if
    # that is not known). They are known after `blocks` was read once.
    whole: list[tuple[Cause, int]]

    @property
    def clock_error_ns(self) -> int:
        """The order of two stamps of different CPUs is assumed to be wrong by at most this (ns)."""
        ...

    @property
    def contexts(self) -> bool:
        """This is false if the file can't tell contexts, or takes an NMI for an interrupt. It is
        known after `blocks` was read once."""
        ...

    @property
    def unknowns(self) -> frozenset[str]:
        """What the file can't tell (unknowns.UNKNOWNS), as far as its kind and its form say
        it. It is known after `blocks` was read once."""
        ...

    def blocks(self) -> Iterator[Block]:
        """Yield all pages, in blocks of bounded size. Raises InputError if the file is damaged."""
        ...

    def event_type(self, ident: int, records: Records | None, row: int) -> EventType:
        """Return what the event with id *ident* is. If *records* is given, its *row* is one of
        these events."""
        ...


@dataclass(frozen=True, slots=True)
class Gap:
    """In a gap, from `begin` to `end` (ns), `count` events of `cpu` (or ALL_CPUS) are lost; 0 if
    their number is not known."""

    begin: int
    end: int
    cause: Cause
    cpu: int
    count: int


@dataclass(frozen=True, slots=True)
class Block:
    """A block has whole pages by CPU, in read order. Everything stamped below `mark` (ns) is in
    this block or an earlier one; `mark` is None in the last block. `lost` are losses that the pages
    do not tell."""

    chunks: dict[int, bytearray]
    mark: int | None
    lost: tuple[Gap, ...] = ()
