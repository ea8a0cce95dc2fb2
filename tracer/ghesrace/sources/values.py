# SPDX-License-Identifier: Apache-2.0
"""How what a probe fetches becomes the values of its event, as data.

The decoder of ring-buffer records computes it with NumPy, the BPF programs have it as C.
"""

from __future__ import annotations

from dataclasses import dataclass

from ghesrace.events import PAGE_SHIFT
from ghesrace.plan import Plan, Probe


@dataclass(frozen=True, slots=True)
class Value:
    """The field `field`, shifted left by `shift` bits, or with the field `minus` taken off it, or
    the field `plus` added to it; modulo 2**64."""

    field: str
    shift: int = 0
    minus: str = ""
    plus: str = ""

    @property
    def needs(self) -> set[str]:
        """The fields that it is made of."""
        return {self.field, self.minus, self.plus} - {""}


# Of each value, the ways to make it: the first counts of which a probe has all fields.
_WAYS = {
    "addr": (Value("addr"),),
    "phys": (Value("pfn", shift=PAGE_SHIFT), Value("phys")),
    "size": (Value("delta_ns"), Value("end", minus="addr"), Value("end"), Value("size")),
    "end": (Value("end"), Value("addr", plus="size")),
}
_CLEARING = ("phys", "pfn", "prot")


@dataclass(frozen=True, slots=True)
class Values:
    """What the event of one probe has. None: nothing that the probe fetches tells, so it is 0.

    `addr`, `phys` and `size` are columns of the event; `end` is the address behind a range that
    begins at `addr`. The event is of the probe's `clear_kind`, if it has one, where all fields
    `clears` are 0; it has Flag.WRITE where the field `writes` is 0. The field `index` is the
    fixmap index of its slot; an event of which it is no slot's concerns nobody.
    """

    addr: Value | None
    phys: Value | None
    size: Value | None
    end: Value | None
    clears: tuple[str, ...]
    writes: str | None
    index: str | None


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
    """Return the number of the slot of each fixmap index that the plan knows."""
    return {slot.index: n for n, slot in enumerate(plan.slots) if slot.index is not None}
