# SPDX-License-Identifier: Apache-2.0
"""This module says, as data, how the fields that a probe fetches become the values of its event.

The decoder of ring-buffer records computes them with NumPy; for the BPF programs they are written
as C.
"""

from __future__ import annotations

from dataclasses import dataclass

from ghesrace.events import PAGE_SHIFT
from ghesrace.plan import Plan, Probe


@dataclass(frozen=True, slots=True)
class Value:
    """A value of an event is the field `field`, which is shifted left by `shift` bits, or from
    which the field `minus` is subtracted, or to which the field `plus` is added, modulo 2**64."""

    field: str
    shift: int = 0
    minus: str = ""
    plus: str = ""

    @property
    def needs(self) -> set[str]:
        """These are the names of the fields that the value is made of."""
        return {self.field, self.minus, self.plus} - {""}


# These are the ways to make each value. The first way counts of which a probe has all fields.
_WAYS = {
    "addr": (Value("addr"),),
    "phys": (Value("pfn", shift=PAGE_SHIFT), Value("phys")),
    "size": (Value("delta_ns"), Value("end", minus="addr"), Value("end"), Value("size")),
    "end": (Value("end"), Value("addr", plus="size")),
}
_CLEARING = ("phys", "pfn", "prot")


@dataclass(frozen=True, slots=True)
class Values:
    """This says how the values of one probe's event are made. None stands for a value that none of
    the probe's fields tells; it is 0 in the event.

    `addr`, `phys` and `size` are columns of the event (events.EVENT); `end` is the first address
    behind a range that begins at `addr`. If the probe has a `clear_kind`, its event is of that kind
    when all fields in `clears` are 0. The event has Flag.WRITE when the field `writes` is 0. The
    field `index` is a fixmap index, which tells the slot; an event whose index belongs to no slot
    is left out.
    """

    addr: Value | None
    phys: Value | None
    size: Value | None
    end: Value | None
    clears: tuple[str, ...]
    writes: str | None
    index: str | None

    @property
    def needs(self) -> set[str]:
        """The fields that an event is made of, its kind aside."""
        made = [value.needs for value in (self.addr, self.phys, self.size) if value]
        others = {name for name in (self.writes, self.index) if name is not None}
        return others.union(*made)


def values(probe: Probe) -> Values:
    """Return how *probe*'s fields become its event's values.

    >>> from ghesrace.plan import Fetch
    >>> values(Probe("m", "MAP", "f", "kprobe", {"pfn": Fetch(1)})).phys
    Value(field='pfn', shift=12, minus='', plus='')
    """
    there = probe.fields.keys()

    def way(name: str) -> Value | None:
        return next((value for value in _WAYS[name] if value.needs <= there), None)

    return Values(
        addr=way("addr"),
        phys=way("phys"),
        size=way("size"),
        end=way("end"),
        clears=tuple(name for name in _CLEARING if name in there),
        writes="from_phys" if "from_phys" in there else None,
        index="index" if "index" in there else None,
    )


def slots_by_index(plan: Plan) -> dict[int, int]:
    """Return a dictionary from each fixmap index that *plan* knows to the number of its slot.

    >>> from ghesrace.plan import Slot
    >>> slots_by_index(Plan("x86_64", "6.12", (Slot("irq", 644, None, "report"),), ()))
    {644: 0}
    """
    return {slot.index: n for n, slot in enumerate(plan.slots) if slot.index is not None}
