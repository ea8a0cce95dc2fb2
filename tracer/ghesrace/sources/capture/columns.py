# SPDX-License-Identifier: Apache-2.0
"""This module says what the columns of a capture file are in each format, and how they become
batches.

Format 2, which is written, has a column for each thing that a record can say, so that other
readers need to know nothing of how records lie in memory. A record has 0 in the columns that its
kind lacks. Captures of a summary have more columns than others. Format 1 (ghesrace 0.1) had the
fields of events.EVENT, and other kinds of records said something else in them; it is read, not
written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ghesrace.events import (
    EVENT,
    Cause,
    Context,
    Events,
    Flag,
    Kind,
    Sample,
    Trait,
    columns_of,
    empty,
    from_columns,
    to_columns,
)

Format = Literal["1", "2"]
WRITTEN: Format = "2"
READ: tuple[Format, ...] = ("1", "2")

# This text goes into the metadata of each column's Arrow field ("about") and says what it holds.
ABOUT = {
    "ts": "when, ns of the capture's clock; of a LOSS, COUNT or AGAIN the same as `end`; of a MARK:"
    " everything stamped earlier is in the file before it",
    "seq": "position in the CPU's buffer; it grows along the file, per CPU",
    "point": "index into the plan's probes; 65535: none",
    "cpu": "the CPU; 65535: unknown or all",
    "slot": "index into the plan's slots; -1: none",
    "kind": "what the record is",
    "ctx": "the context in which it happened",
    "addr": "of an event: kernel virtual address",
    "phys": "of an event: physical address, bytes",
    "size": "of an event: bytes; of NMI_REF: ns",
    "pid": "of an event: the running task",
    "flags": "of an event: bits",
    "begin": "of a LOSS or COUNT: begin of its window, ns; of an EPISODE, THREAT or SAMPLE: when"
    " its map began, ns; of an AGAIN: when the map of the EPISODE began that it repeats, ns",
    "end": "of a LOSS, COUNT or AGAIN: end of its window, ns; of an EPISODE, THREAT or SAMPLE: when"
    " its unmap began, ns; 0: not seen",
    "count": "of a LOSS: events lost; 0: unknown; of a COUNT or AGAIN: episodes",
    "cause": "of a LOSS: why",
    "frame": "of a summary: physical address that was mapped, bytes",
    "call": "of an EPISODE, THREAT or SAMPLE: number of its notification on its CPU and context",
    "mapper": "of an EPISODE, THREAT or SAMPLE: the CPU that mapped",
    "traits": "of a summary: bits",
    "cls": "of an EPISODE, COUNT or AGAIN: what protected it. 0 fresh, 1 broadcast, 2 map-flush,"
    " 3 same-frame, 4 incidental, 5 none, 6 uncertain",
    "sample": "of a SAMPLE: what it stands for",
}
# These go into the metadata too ("values" and "bits", as JSON) and say what the numbers stand for.
VALUES: dict[str, type[IntEnum]] = {
    "kind": Kind,
    "ctx": Context,
    "cause": Cause,
    "sample": Sample,
}
BITS: dict[str, type[Flag] | type[Trait]] = {"flags": Flag, "traits": Trait}


@dataclass(frozen=True, slots=True)
class Columns:
    """These are the columns of capture files of one *format*, which hold events or a *summary*.

    >>> Columns("2", summary=False).names[-4:]
    ['begin', 'end', 'count', 'cause']
    """

    format: Format
    summary: bool

    @property
    def types(self) -> dict[str, np.dtype[Any]]:
        """This maps the name of each column to its type, in the file's order."""
        if self.format == "1":
            return {name: EVENT[name] for name in EVENT.names or ()}
        return columns_of(self.summary)

    @property
    def names(self) -> list[str]:
        """These are the names of the columns, in the file's order."""
        return list(self.types)

    @property
    def widths(self) -> list[int]:
        """This says how many bytes one value of each column takes."""
        return [dtype.itemsize for dtype in self.types.values()]

    def fields(self) -> list[pa.Field[Any]]:
        """Return the columns as Arrow fields, whose metadata says what they hold."""
        return [
            pa.field(name, pa.from_numpy_dtype(dtype), nullable=False, metadata=_about(name))
            for name, dtype in self.types.items()
        ]

    def fit(self, found: pa.Schema) -> bool:
        """Return whether *found* has exactly these columns, whatever their metadata says."""
        mine = [(field.name, field.type) for field in self.fields()]
        try:
            return [(field.name, field.type) for field in found] == mine
        except UnicodeDecodeError:  # In a damaged file a column's name may be no text.
            return False

    def of(self, batch: Events) -> dict[str, npt.NDArray[Any]]:
        """Return the columns of a *batch* (EVENT, shape (n,)), each of shape (n,)."""
        if self.format == "1":
            return {name: batch[name] for name in self.names}
        return to_columns(batch, self.summary)

    def batch(self, columns: Mapping[str, npt.NDArray[Any]]) -> Events:
        """Return the batch of which `of` made *columns*."""
        if self.format == "2":
            return from_columns(columns, self.summary)
        events = empty(len(columns["kind"]))
        for name in self.names:
            events[name] = columns[name]
        return events


def _about(name: str) -> dict[str | bytes, str | bytes]:
    about: dict[str | bytes, str | bytes] = {"about": ABOUT[name]} if name in ABOUT else {}
    if name in VALUES:
        about["values"] = json.dumps({int(one): one.name for one in VALUES[name]})
    if name in BITS:
        about["bits"] = json.dumps({int(one): one.name for one in BITS[name]})
    return about
