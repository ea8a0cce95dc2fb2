# SPDX-License-Identifier: Apache-2.0
"""This says which events `ghesrace show` shows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from ghesrace.checker.findings import Finding
from ghesrace.errors import UsageError
from ghesrace.events import (
    ALL_CPUS,
    NO_SLOT,
    PAGE_SIZE,
    Bools,
    Context,
    Events,
    Kind,
    of_kind,
    select,
)
from ghesrace.plan import Plan

_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
_TIME = re.compile(r"(\+?)(\d{1,18}(?:\.\d{1,9})?)(ns|us|ms|s)?")
_WHOLE_TLB = (Kind.INV_ALL, Kind.BCAST_ALL)
_BY_ADDRESS = (Kind.INV_PAGE, Kind.INV_RANGE, Kind.BCAST_RANGE, Kind.READ, Kind.WRITE, Kind.EDIT)

KINDS = {kind.name.lower().replace("_", "-"): kind for kind in Kind if kind != Kind.MARK}

Window = tuple[int, int]  # ns, both ends belong to it


def nanoseconds(text: str, unit: str) -> tuple[bool, int]:
    """Return whether *text* is relative (it begins with +), and its time in ns. Without a unit of
    its own it is in *unit*, or in us if it is relative. Raises UsageError if it is no time.

    >>> nanoseconds("321.624551", "s"), nanoseconds("+2.5", "s"), nanoseconds("3ms", "us")
    ((False, 321624551000), (True, 2500), (False, 3000000))
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is no time", "write 321.624551 (s), 20us, or +150.5 (us from the begin)"
        )
    scale = _UNITS[match[3] or ("us" if match[1] else unit)]
    return bool(match[1]), int(Decimal(match[2]) * scale)


class Addresses:
    """These are the addresses of a plan's slots: what the plan says, and what events tell later.

    >>> from ghesrace.plan import Slot
    >>> Addresses(Plan("x86_64", "6.12", (Slot("irq", 644, 0x5000, "page"),), ())).slot_at(0x5010)
    0
    """

    def __init__(self, plan: Plan) -> None:
        self.of = {n: slot.address for n, slot in enumerate(plan.slots) if slot.address is not None}
        self._unknown = len(plan.slots) - len(self.of)
        self._slots = {address // PAGE_SIZE: n for n, address in self.of.items()}

    def learn(self, events: Events) -> None:
        """Take what *events* (EVENT, shape (n,)) say of slots whose address is not known."""
        if not self._unknown:
            return
        told = events[(events["kind"] <= Kind.UNMAP_END) & (events["slot"] != NO_SLOT)]
        for slot, address in zip(told["slot"].tolist(), told["addr"].tolist(), strict=True):
            if address and slot not in self.of:
                self.of[slot] = address // PAGE_SIZE * PAGE_SIZE
                self._slots.setdefault(address // PAGE_SIZE, slot)
                self._unknown -= 1

    def slot_at(self, address: int) -> int:
        """Return the index of the slot in whose page *address* lies, or NO_SLOT."""
        return self._slots.get(address // PAGE_SIZE, NO_SLOT)


@dataclass(slots=True)
class Selection:
    """A selection says which records to show; None shows all. A loss that may have hidden one that
    is wanted is wanted too, unless `kinds` leaves losses out.

    `slots` are indices. An event is of a slot if it names it, or concerns its page, or the whole
    TLB. `windows` are stretches of time, in ns.

    >>> from ghesrace.events import Cause, loss
    >>> lost = loss(100, 200, Cause.OVERRUN, cpu=1)
    >>> plan = Plan("x86_64", "6.12", (), ())
    >>> Selection(cpus=frozenset({0})).of(lost, Addresses(plan)).tolist()
    [False]
    """

    cpus: frozenset[int] | None = None
    slots: frozenset[int] | None = None
    kinds: frozenset[Kind] | None = None
    contexts: frozenset[Context] | None = None
    windows: list[Window] | None = field(default=None)

    def of(self, events: Events, addresses: Addresses) -> Bools:
        """Return the mask of those *events* (EVENT, shape (n,)) that are wanted."""
        lost = events["kind"] == Kind.LOSS
        wanted = np.ones(len(events), np.bool_)
        if self.cpus is not None:
            cpu = events["cpu"]
            wanted &= np.isin(cpu, list(self.cpus)) | ((cpu == ALL_CPUS) & lost)
        if self.kinds is not None:
            wanted &= of_kind(events["kind"], tuple(self.kinds))
        if self.contexts is not None:
            wanted &= np.isin(events["ctx"], list(self.contexts)) | lost
        if self.slots is not None:
            wanted &= self._of_slots(events, addresses) | lost
        if self.windows is not None:
            wanted &= self._in_time(events, lost)
        return wanted

    def _of_slots(self, events: Events, addresses: Addresses) -> Bools:
        assert self.slots is not None
        found = np.isin(events["slot"], list(self.slots)) | of_kind(events["kind"], _WHOLE_TLB)
        by_address = of_kind(events["kind"], _BY_ADDRESS)
        begin, size = events["addr"], np.maximum(events["size"], np.uint64(1))
        for slot in self.slots & addresses.of.keys():
            page = np.uint64(addresses.of[slot])
            # Written so that the end of the last page does not overflow.
            covers = (begin <= page + np.uint64(PAGE_SIZE - 1)) & (
                (begin >= page) | (size > page - np.minimum(begin, page))
            )
            found |= by_address & covers
        return np.asarray(found)

    def _in_time(self, events: Events, lost: Bools) -> Bools:
        begin = events["ts"].copy()
        begin[lost] = select(events, Kind.LOSS)["begin"]
        found = np.zeros(len(events), np.bool_)
        for first, last in self.windows or ():
            found |= (events["ts"] >= np.uint64(max(first, 0))) & (begin <= np.uint64(max(last, 0)))
        return found


def windows_around(finding: Finding, before: int, after: int) -> list[Window]:
    """Return the stretches of time of a *finding*'s witness, with *before* and *after* (ns) added:
    one from its first step to its last or, where its steps are in another order than recorded, one
    for each of its two sides.

    >>> from ghesrace.checker.findings import Step
    >>> steps = [Step(side, None, ts, 0, "irq", "map", "") for side, ts in (("x", 50), ("y", 90))]
    >>> finding = Finding("stale", "observed", "read", "irq", (0, 0), None, "why", steps)
    >>> windows_around(finding, 10, 5)
    [(40, 95)]
    """
    sides = ("x", "y") if finding.reordered else ("xy",)
    found = []
    for side in sides:
        stamps = [s.ts for s in finding.steps if s.ts is not None and s.side in side]
        if stamps:
            found.append((min(stamps) - before, max(stamps) + after))
    if not found:
        found = [(o.ts - before, o.ts + after) for o in finding.occurrences[:1]]
    return sorted(found)


def chosen(names: list[str], known: dict[str, int], what: str) -> frozenset[int]:
    """Return what *known* says of *names*. Raises UsageError for one that is not there; *what* says
    what it should be.

    >>> sorted(chosen(["b"], {"a": 0, "b": 1}, "slot"))
    [1]
    """
    for name in names:
        if name not in known:
            raise UsageError(f"{name!r} is no {what}", f"one of {', '.join(known) or 'none'}")
    return frozenset(known[name] for name in names)
