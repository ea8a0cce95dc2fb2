# SPDX-License-Identifier: Apache-2.0
"""What meets what: two uses of one slot (`overlap`), a GHES write and an edit (`torn_edit`).

No lock is assumed here. Two meet surely if they do so in every order that stamps, clocks and
effects allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

from ghesrace.events import PAGE_SIZE, TABLE_SHIFT, Context, Kind

from . import effects
from .code import Code, Episode
from .effects import Effects
from .record import Ev, Record


@dataclass(slots=True)
class Pairs:
    """`observed`, `predicted`: (CPU, CPU) of each pair that meets surely; `open`: how many may;
    `lost`: a loss may have hidden one."""

    name: str
    observed: list[tuple[int, int]] = field(default_factory=list)
    predicted: list[tuple[int, int]] = field(default_factory=list)
    open: int = 0
    lost: bool = False

    def reasons(self, record: Record) -> list[str]:
        """Why the verdict can't be clean."""
        found = []
        if self.open and (self.name == "torn_edit" or self.observed):
            found.append(f"uncertain: {self.name}")
        if self.lost:
            found.append(f"losses: {self.name}")
        return found


def overlaps(built: Effects) -> Pairs:
    """Pairs of uses of one slot: from the entry of the map, under the lock, to the unmap's end."""
    seen = built.code
    found = Pairs("overlap")
    if not built.consistent:
        return found
    for a, b in combinations(seen.episodes, 2):
        if a.slot == b.slot and a.map is not None and b.map is not None:
            met = _use_meets(built, a, b)
            if met == "surely":
                found.observed.append((a.cpu, b.cpu))
            elif met == "maybe":
                found.open += 1
    return found


def _use_meets(built: Effects, a: Episode, b: Episode) -> str:
    if a.cpu == b.cpu and a.ctx == b.ctx and not (a.hold.nested or b.hold.nested):
        return "no"  # One context does one thing after the other.
    if a.cpu == b.cpu and a.ctx != b.ctx:
        low, high = (a, b) if a.ctx < b.ctx else (b, a)
        return _interrupts(built, low, high)
    one, two = built.stamp[id(a.map)], built.stamp[id(b.map)]
    if _lasts(built, a, two) and _lasts(built, b, one):
        return "surely"
    return "maybe" if _may_last(built, a, two) and _may_last(built, b, one) else "no"


def _interrupts(built: Effects, low: Episode, high: Episode) -> str:
    """A use of a lower context and one of a higher one, on one CPU."""
    order = built.order
    assert low.map is not None
    assert high.map is not None
    entry = built.stamp[id(high.map)]
    if order.before(entry, built.stamp[id(low.map)]):
        return "no"
    if low.unmap is None:
        last = built.stamp[id(low.last or low.map)]
        return "surely" if order.before(entry, last) else "maybe"
    if order.before(entry, built.stamp[id(low.unmap)]):
        return "surely"
    clear = built.clear_of(low)
    assert clear is not None
    if order.before(clear, entry) or high.ctx < Context.NMI:
        return "no"  # Or an IRQ, whose lock was free.
    return "maybe"


def _lasts(built: Effects, use: Episode, node: int) -> bool:
    """Whether *use* surely is not over before *node*: its unmap is entered behind that."""
    return built.order.before(node, built.stamp[id(use.unmap or use.last or use.map)])


def _may_last(built: Effects, use: Episode, node: int) -> bool:
    """Whether *use* may go on behind *node*: its clear, its flush or its end may lie there."""
    if use.unmap is None:
        over = use.over or use.replaced
        return over is None or not built.order.before(built.stamp[id(over)], node)
    return not all(built.order.before(n, node) for n in effects.tail(built, use))


def torn_edits(built: Effects) -> Pairs:
    """GHES writes, and the edits that they may meet."""
    seen, record = built.code, built.code.record
    found = Pairs("torn_edit")
    if not record.traced(Kind.EDIT):
        return found
    if built.consistent:
        for edit, end in _edits(record):
            for write, slot in _writes(seen):
                danger = _danger(record, edit, write, slot)
                met = _edit_meets(built, edit, end, write) if danger else "no"
                sure = danger == "observed" and met == "surely" and end is not None
                if sure:
                    found.observed.append((edit.cpu, write.cpu))
                elif met == "surely" or (met == "maybe" and danger == "status"):
                    found.predicted.append((edit.cpu, write.cpu))
                elif met == "maybe":
                    found.open += 1
        _other_slots(built, found)
    edits = any(e.kind == Kind.EDIT for events in record.cpus.values() for e in events)
    for one in record.losses:
        hides = {Kind.EDIT, Kind.EDIT_END} if one.kinds is None else one.kinds
        found.lost |= bool({Kind.EDIT, Kind.EDIT_END} & set(hides)) and (
            edits or one.kinds is not None
        )
    return found


def _edits(record: Record) -> Iterator[tuple[Ev, Ev | None]]:
    for events in record.cpus.values():
        going: dict[int, list[Ev]] = {}
        ends: dict[int, Ev] = {}
        for event in events:
            if event.kind == Kind.EDIT:
                going.setdefault(event.ctx, []).append(event)
            elif event.kind == Kind.EDIT_END and going.get(event.ctx):
                ends[id(going[event.ctx].pop())] = event
        for event in events:
            if event.kind == Kind.EDIT:
                yield event, ends.get(id(event))


def _writes(seen: Code) -> Iterator[tuple[Ev, int]]:
    for episode in seen.episodes:
        for event in (episode.map, episode.unmap):
            if event is not None:
                yield event, episode.slot


def _danger(record: Record, edit: Ev, write: Ev, slot: int) -> str:
    """observed: one entry; predicted: one table that a side may allocate or free; else ""."""
    implied = record.implied(edit)
    if "unmaps-status" in implied:
        nmi = write.ctx == Context.NMI and edit.cpu != write.cpu
        return "status" if nmi else ""
    page = record.plan.slots[slot].address
    if page is None or not edit.size:
        return ""
    if edit.addr < page + PAGE_SIZE and edit.addr + edit.size > page:
        return "observed"
    if (
        not edit.addr >> TABLE_SHIFT
        <= page >> TABLE_SHIFT
        <= (edit.addr + edit.size - 1) >> TABLE_SHIFT
    ):
        return ""
    mine = record.implied(write)
    allocates = [
        "may-allocate" in implied,
        "may-allocate" in mine and write.kind == Kind.MAP,
    ]
    both = all(allocates) and edit.cpu != write.cpu  # These have a lock in common.
    free = "may-free" in implied or "may-free" in mine
    return "predicted" if free or (any(allocates) and not both) else ""


def _edit_meets(built: Effects, edit: Ev, end: Ev | None, write: Ev) -> str:
    order = built.order
    begin, node = built.stamp[id(edit)], built.effect[id(write)]
    until = built.due[id(edit)] if end is None else built.stamp[id(end)]
    if edit.cpu == write.cpu:
        if edit.ctx >= write.ctx or order.before(built.stamp[id(write)], begin):
            return "no"
        if until is not None and order.before(until, built.stamp[id(write)]):
            return "no"
        return "surely"
    if order.before(node, begin):
        return "no"
    if until is not None and order.before(until, built.stamp[id(write)]):
        return "no"
    if until is not None and order.before(begin, node) and order.before(node, until):
        return "surely"
    return "maybe"


def _other_slots(built: Effects, found: Pairs) -> None:
    """A GHES write of one slot that interrupts that of another, where a map may allocate."""
    seen = built.code
    record = seen.record
    for a, slot_a in _writes(seen):
        for b, slot_b in _writes(seen):
            if slot_a == slot_b or a.cpu != b.cpu or a.ctx >= b.ctx:
                continue
            one, two = record.plan.slots[slot_a].address, record.plan.slots[slot_b].address
            if one is None or two is None or one >> TABLE_SHIFT != two >> TABLE_SHIFT:
                continue
            allocates = any(
                e.kind == Kind.MAP and "may-allocate" in record.implied(e) for e in (a, b)
            )
            due = built.due[id(a)]
            begun = built.order.before(built.stamp[id(a)], built.stamp[id(b)])
            if allocates and begun and (due is None or built.order.before(built.stamp[id(b)], due)):
                found.predicted.append((a.cpu, b.cpu))
