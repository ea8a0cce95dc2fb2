# SPDX-License-Identifier: Apache-2.0
"""This says in words what an event is, for `ghesrace show`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ghesrace.checker.model import Class, class_word
from ghesrace.events import (
    NO_SLOT,
    PAGE_SIZE,
    SUMMARY_KINDS,
    Cause,
    Events,
    Flag,
    Kind,
    Sample,
    to_columns,
)
from ghesrace.plan import Plan

from .selection import Addresses

_WORDS = {
    Kind.MAP: "maps {phys} at {slot}",
    Kind.MAP_END: "has mapped {slot}",
    Kind.UNMAP: "unmaps {slot}",
    Kind.UNMAP_END: "has unmapped {slot}",
    Kind.INV_PAGE: "invalidates {slot} in its own TLB",
    Kind.INV_RANGE: "invalidates {range} in its own TLB",
    Kind.INV_ALL: "invalidates its own TLB",
    Kind.BCAST_RANGE: "tells all CPUs to invalidate {range}",
    Kind.BCAST_ALL: "tells all CPUs to invalidate everything",
    Kind.BCAST_END: "all CPUs have invalidated",
    Kind.COPY: "enters the copy of {size} bytes {way} {phys}",
    Kind.COPY_END: "leaves the copy",
    Kind.READ: "reads {size} bytes at {slot}",
    Kind.WRITE: "writes {size} bytes at {slot}",
    Kind.NOTIFY: "takes a GHES notification",
    Kind.NOTIFY_END: "leaves the GHES handler",
    Kind.NMI_REF: "the NMI handler returned after {size} ns",
    Kind.EDIT: "edits the page tables of {range}",
    Kind.EDIT_END: "has edited the page tables",
    Kind.SHOOTDOWN: "sends a TLB shootdown to other CPUs and waits{off}",
    Kind.LOSS: "{count} lost since {since}: {cause}",
    Kind.EPISODE: "an episode of class {cls}: {phys} at {slot}",
    Kind.THREAT: "the next episode may use the translation of {phys} at {slot} by CPU {mapper}",
    Kind.SAMPLE: "an episode that {sample}: {phys} at {slot}",
    Kind.COUNT: "{count} more of class {cls} at {slot} since {since}",
    Kind.AGAIN: "{count} more like the episode mapped at {since} at {slot}",
}
# Of a function whose arguments are not fetched, such as the removal of a source.
_SOME_EDIT = "edits page tables; of which addresses was not recorded"
_SAMPLE = {
    Sample.EXPOSES: "leaves its translation to other CPUs",
    Sample.VULNERABLE: "nothing would protect",
}
NO_EVENT = (*SUMMARY_KINDS, Kind.LOSS)  # They have no address.
_MOST_KEPT = 10_000  # sentences
_AT_ONCE = 1 << 14  # records that are plain numbers, which take ten times their memory


class Row(NamedTuple):
    """A row is one record of a batch in plain numbers. Each column means one thing, as in
    `events.to_columns`, and is 0 where the record's kind lacks it."""

    ts: int
    kind: int
    cpu: int
    ctx: int
    slot: int
    point: int
    seq: int
    addr: int
    phys: int
    size: int
    pid: int
    flags: int
    begin: int
    number: int  # the column `count`
    cause: int
    frame: int
    mapper: int
    cls: int
    sample: int
    end: int


_COLUMNS = ["count" if name == "number" else name for name in Row._fields]


def rows(events: Events) -> Iterator[Row]:
    """Yield *events* (EVENT, shape (n,)) as rows, in their order.

    >>> from ghesrace.events import loss
    >>> [(row.kind, row.begin, row.number) for row in rows(loss(1, 9, Cause.MISSED, count=4))]
    [(30, 1, 4)]
    """
    for first in range(0, len(events), _AT_ONCE):
        columns = to_columns(events[first : first + _AT_ONCE], summary=True)
        lists = (columns[name].tolist() for name in _COLUMNS)
        yield from map(Row._make, zip(*lists, strict=True))


class Sentences:
    """This knows the names of one plan's slots and symbols. *virtual* and *physical* write an
    address, *stamp* a time.

    >>> from ghesrace.events import empty
    >>> from ghesrace.plan import Slot
    >>> plan = Plan("x86_64", "6.12", (Slot("irq", 644, 0x5000, "page"),), ())
    >>> events = empty(1)
    >>> events["kind"], events["addr"], events["size"] = Kind.READ, 0x5010, 20
    >>> [Sentences(plan, Addresses(plan), hex, hex, str).of(row) for row in rows(events)]
    ['reads 20 bytes at irq+0x10']
    """

    def __init__(
        self,
        plan: Plan,
        addresses: Addresses,
        virtual: Callable[[int], str],
        physical: Callable[[int], str],
        stamp: Callable[[int], str],
    ) -> None:
        self._plan = plan
        self._addresses = addresses
        self._virtual, self._physical, self._stamp = virtual, physical, stamp
        self._kept: dict[tuple[object, ...], str] = {}

    def of(self, row: Row) -> str:
        """Return what *row* says. A place in no known slot is named by its address."""
        kind = Kind(row.kind)
        words = _WORDS[kind]
        if kind == Kind.EDIT and not (row.addr or row.size):
            return _SOME_EDIT
        if "{" not in words:
            return words
        if kind in NO_EVENT:
            return words.format_map({"slot": self._where(kind, row), **self._of_record(row)})
        # Most events say what another one said before.
        name = (kind, self.slot(row), row.addr, row.size, row.phys, row.flags)
        if name not in self._kept:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[name] = words.format_map(self._of_event(kind, row))
        return self._kept[name]

    def slot(self, row: Row) -> str | None:
        """Return the name of the slot that *row* names or in whose page it lies."""
        number = row.slot
        if number == NO_SLOT and row.addr:
            number = self._addresses.slot_at(row.addr)
        return None if number == NO_SLOT else self._plan.slots[number].name

    def symbol(self, row: Row) -> str | None:
        """Return the symbol whose probe made *row*, or None."""
        probes = self._plan.probes
        return probes[row.point].symbol if row.point < len(probes) else None

    def _where(self, kind: Kind, row: Row) -> str:
        name = self.slot(row)
        if name is None:
            return self._virtual(row.addr) if row.addr else "a slot"
        offset = row.addr % PAGE_SIZE if kind in (Kind.READ, Kind.WRITE) else 0
        return f"{name}+{offset:#x}" if offset else name

    def _of_event(self, kind: Kind, row: Row) -> dict[str, str]:
        return {
            "slot": self._where(kind, row),
            "range": f"{self._virtual(row.addr)} to {self._virtual(row.addr + row.size)}",
            "size": f"{row.size:,}",
            "phys": self._physical(row.phys),
            "way": "to" if row.flags & Flag.WRITE else "from",
            "off": " with interrupts off" if row.flags & Flag.IRQS_OFF else "",
        }

    def _of_record(self, row: Row) -> dict[str, str]:
        lost = "event" if row.number == 1 else "events"
        unit = {Kind.LOSS: f" {lost}", Kind.COUNT: "", Kind.AGAIN: ""}.get(Kind(row.kind), "")
        return {
            "since": self._stamp(row.begin),
            "count": f"{row.number:,}{unit}" if row.number else f"an unknown number of{unit}",
            "cause": cause_word(row.cause),
            "phys": self._physical(row.frame),
            "cls": class_word(Class(row.cls)),
            "mapper": str(row.mapper),
            "sample": _SAMPLE[Sample(row.sample)],
        }


def cause_word(cause: int) -> str:
    """Return the word of a loss's *cause* (events.Cause), or "" for 0, which is none.

    >>> cause_word(Cause.PROBE_GONE)
    'probe-gone'
    """
    return Cause(cause).name.lower().replace("_", "-") if cause else ""
