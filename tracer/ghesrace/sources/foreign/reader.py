# SPDX-License-Identifier: Apache-2.0
"""What a reader of a foreign format offers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ghesrace.plan import Unseen
from ghesrace.sources.ring.pages import EventFormat, PageLayout, Records

from .eventmap import EventType


class Reader(Protocol):
    """A foreign file as ring-buffer pages, whatever it was before."""

    layout: PageLayout
    formats: dict[int, tuple[str, EventFormat]]  # event id -> system and format
    clock: str
    arch: str
    release: str
    unseen: list[Unseen]  # what files of this kind, or this one, cannot contain
    truncated: list[str]
    missed: dict[str, int]  # event name -> hits that the kernel skipped, where told
    stats: list[dict[str, int]]  # per_cpu/*/stats, where told

    @property
    def clock_error_ns(self) -> int:
        """How wrong the order of two stamps of different CPUs can be, as assumed, ns."""
        ...

    def blocks(self) -> Iterator[Block]:
        """All pages, in bounded blocks."""
        ...

    def event_type(self, ident: int, records: Records | None, row: int) -> EventType:
        """What event *ident* is; *row* of *records* is one of them, if there is one."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """Whole pages by CPU, in read order. `mark`: everything stamped below it is in this block or
    an earlier one, ns; None for the last block."""

    chunks: dict[int, bytearray]
    mark: int | None
