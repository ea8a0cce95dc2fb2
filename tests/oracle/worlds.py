# SPDX-License-Identifier: Apache-2.0
"""The worlds of one slot: every row of its lock holds, every order of what matters to a read.

What matters to an episode of CPU y is when the slot was mapped and cleared, and when each
invalidation that covers it worked on y. `Question` names these; `classes` answers in one order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from ghesrace.events import Kind

from .code import Episode, Hold
from .effects import USES, Effects, Locked, lock, tail, window_end
from .order import Order
from .record import BROADCASTS, LOCAL, Ev

# own: structural, by y for another episode; mine: for this one; broadcast: structural, of an
# unmap; luck: all others.
Role = Literal["own", "mine", "broadcast", "luck"]


class TooManyWorlds(RuntimeError):
    """A record leaves more open than the oracle can enumerate."""


@dataclass(slots=True)
class Invalidation:
    """One invalidation on y. It has its `role` if it lies behind all of `behind` and before
    `before`, and for each group of `each` one node lies there too; else it has the role
    `otherwise`. `maybe`: in some worlds it has the other role in any order."""

    node: int
    role: Role
    before: int | None = None
    behind: tuple[int, ...] = ()
    each: tuple[tuple[int, ...], ...] = ()
    maybe: bool = False
    otherwise: Role = "luck"


@dataclass(slots=True)
class Translation:
    """V->frame from `begin` (None: the start) to `end` (None: not seen)."""

    frame: int | None
    begin: int | None
    end: int | None
    episode: Episode


@dataclass(slots=True)
class Question:
    """Of one episode, whose access is at the node `access`, in one row of the lock holds."""

    episode: Episode
    begin: int
    access: int
    translations: list[Translation]
    invalidations: list[Invalidation]
    start: bool  # Whether its CPU may hold something from before the start.


@dataclass(slots=True)
class Row:
    """The holds of a slot in one order that the record allows; `order` is closed."""

    order: Order
    holds: list[Hold]
    locked: bool = True


@dataclass(slots=True)
class Rows:
    """Every row of one slot's holds. `overlapping`: the holds that surely overlap, of a record
    that no row explains."""

    rows: list[Row] = field(default_factory=list)
    overlapping: list[Hold] = field(default_factory=list)


def rows(effects: Effects, slot: int) -> Rows:
    """Every order of the lock holds of *slot*; without any, the one without a lock."""
    locked = lock(effects, slot)
    order = locked.order
    found = Rows()
    if order.close():
        count = len(locked.holds)
        first = [
            sum(1 << b for b in range(count) if b != a and _must(order, locked, b, a))
            for a in range(count)
        ]
        for chosen in _rows(count, first, 0, []):
            chain = [(locked.end[a], locked.begin[b]) for a, b in pairwise(chosen)]
            closed = order.with_chain(chain) if chain else order
            if closed is not None:
                found.rows.append(Row(closed, [locked.holds[n] for n in chosen]))
        if found.rows:
            return found
        clash = {
            n
            for a in range(count)
            for b in range(a)
            if _must(order, locked, a, b) and _must(order, locked, b, a)
            for n in (a, b)
        }
        found.overlapping = [locked.holds[n] for n in sorted(clash or range(count))]
        found.rows.append(Row(order, locked.holds, False))
    else:
        found.overlapping = list(locked.holds)
    return found


def _must(order: Order, locked: Locked, a: int, b: int) -> bool:
    """Whether hold *b* can't come before hold *a*."""
    return order.before(locked.begin[a], locked.end[b])


def _rows(count: int, first: list[int], done: int, row: list[int]) -> Iterator[list[int]]:
    if len(row) == count:
        yield row
    for n in range(count):
        if not done >> n & 1 and not first[n] & ~done:
            yield from _rows(count, first, done | 1 << n, [*row, n])


def question(effects: Effects, row: Row, episode: Episode) -> Question:
    """What matters to *episode* in *row*."""
    slot, order = episode.slot, row.order
    access = effects.access_of(episode)
    begin = effects.effect[id(episode.map)]
    translations = []
    for other in effects.code.episodes:
        if other.slot == slot and other is not episode:
            node = effects.set_of(other)
            if node is None or not order.before(access, node):
                end = effects.clear_of(other)
                if end is None and other.replaced is not None:
                    end = effects.effect[id(other.replaced)]
                translations.append(Translation(other.frame, node, end, other))
    invalidations = [
        one for one in _invalidations(effects, row, episode) if not order.before(access, one.node)
    ]
    asked = Question(episode, begin, access, translations, invalidations, True)
    _drop_the_past(order, asked)
    return asked


def _drop_the_past(order: Order, asked: Question) -> None:
    """What is surely over before an own invalidation that surely precedes the episode."""
    sure = [
        one.node
        for one in asked.invalidations
        if one.role == "own"
        and not (one.before or one.behind or one.each or one.maybe)
        and order.before(one.node, asked.begin)
        and all(
            order.before(one.node, two.node) for two in asked.invalidations if two.role == "mine"
        )
    ]
    if not sure:
        return
    past = 0
    for node in range(len(order.later)):
        if any(order.before(node, one) for one in sure):
            past |= 1 << node
    last = [n for n in sure if not past >> n & 1]
    asked.start = False
    asked.invalidations = [
        i for i in asked.invalidations if i.node in last[:1] or not past >> i.node & 1
    ]
    asked.translations = [
        one for one in asked.translations if one.end is None or not past >> one.end & 1
    ]


def _invalidations(effects: Effects, row: Row, episode: Episode) -> Iterator[Invalidation]:
    """Everything that drops V on the episode's CPU, with its role."""
    code, y = effects.code, episode.cpu
    page = code.record.plan.slots[episode.slot].address
    used: set[int] = set()
    for other in code.episodes:
        if other.slot != episode.slot:
            continue
        yield from _of_unmap(effects, other, y, used)
        if other.cpu == y and other.map is not None:
            yield from _of_map(effects, row, other, other is episode, used)
    if page is None:
        return
    for cpu, events in code.record.cpus.items():
        for event in events:
            if id(event) in used or not event.covers(page):
                continue
            if event.kind in BROADCASTS:
                yield Invalidation(effects.part[id(event), y], "luck")
            elif event.kind in LOCAL and cpu == y:
                yield _perhaps_a_shootdown(effects, row, event, episode.slot, page)


def _of_unmap(effects: Effects, other: Episode, y: int, used: set[int]) -> Iterator[Invalidation]:
    if other.unmap is None:
        return
    name = id(other.unmap)
    if (node := effects.implied.get((name, "broadcast-after-clear", y))) is not None:
        yield Invalidation(node, "broadcast")
    if other.cpu == y and (node := effects.implied.get((name, "page-after-clear", y))) is not None:
        yield Invalidation(node, "own")
    flush = other.unmap_flush
    if flush is not None and flush.kind in BROADCASTS:
        used.add(id(flush))
        yield Invalidation(effects.part[id(flush), y], "broadcast")
    elif flush is not None and other.cpu == y:
        used.add(id(flush))
        yield Invalidation(effects.effect[id(flush)], "own")


def _of_map(
    effects: Effects, row: Row, other: Episode, mine: bool, used: set[int]
) -> Iterator[Invalidation]:
    role: Role = "mine" if mine else "own"
    node = effects.implied.get((id(other.map), "page-after-set", other.cpu))
    if node is not None:
        yield Invalidation(node, role)
    before = None if other.access is not None else effects.access_of(other)
    for flush in other.map_flushes:
        used.add(id(flush))
        yield Invalidation(effects.own(flush), role, before)
    for flush in other.pre:
        if _used_between(effects, flush, other):
            continue  # The lock was not held then: luck.
        used.add(id(flush))
        behind = list(_previous(effects, row, other))
        if other.hold.begin is not None:
            behind.append(effects.stamp[id(other.hold.begin)])
        known = _begin_known(effects, flush, other)
        yield Invalidation(effects.own(flush), role, None, tuple(behind), maybe=not known)


def _used_between(effects: Effects, flush: Ev, other: Episode) -> bool:
    """Whether what interrupted *other*'s context used the slot between a flush and its map."""
    assert other.map is not None
    events = effects.code.record.cpus[other.cpu]
    return any(
        e.ctx > other.ctx and e.slot == other.slot and e.kind in USES
        for e in events[events.index(flush) : events.index(other.map)]
    )


def _begin_known(effects: Effects, flush: Ev, other: Episode) -> bool:
    """Whether *flush* surely lies in the hold of *other* if it lies behind that one's begin: a lock
    per page is taken in the copy, a report's lock covers all of the copy."""
    record = effects.code.record
    events = record.cpus[other.cpu]
    inside = other.copy is not None and events.index(other.copy) < events.index(flush)
    if record.plan.slots[other.slot].lock == "page" and not other.hold.nested:
        return inside
    return other.hold.begin is not None or inside


def _previous(effects: Effects, row: Row, other: Episode) -> Iterator[int]:
    """The end of the hold before that of *other*."""
    at = row.holds.index(other.hold)
    if row.locked and at:
        for episode in row.holds[at - 1].episodes:
            if episode.unmap is not None:
                yield from tail(effects, episode)


def _perhaps_a_shootdown(
    effects: Effects, row: Row, event: Ev, slot: int, page: int
) -> Invalidation:
    """An own flush of V on every other CPU during an unmap is a broadcast made of local ones."""
    node = effects.effect[id(event)]
    code = effects.code
    if event.kind == Kind.INV_PAGE:
        for other in code.episodes:
            if other.slot != slot or other.unmap is None or other.cpu == event.cpu:
                continue
            clear = effects.effect[id(other.unmap)]
            end = answers_end(effects, row, other)
            over = end is not None and row.order.before(end, node)
            if over or effects.order.before(node, clear):
                continue
            groups = []
            for cpu in code.record.plan.cpus:
                if cpu in (other.cpu, event.cpu):
                    continue
                groups.append(
                    tuple(
                        effects.effect[id(e)]
                        for e in code.record.cpus.get(cpu, ())
                        if e.kind == Kind.INV_PAGE and e.exactly(page)
                    )
                )
            if all(groups):
                return Invalidation(node, "broadcast", end, (clear,), tuple(groups))
    return Invalidation(node, "luck")


def answers_end(effects: Effects, row: Row, other: Episode) -> int | None:
    """The node at which *other*'s unmap has what it asked of other CPUs: its end, where the record
    shows that, else at the latest the next hold's map, which found the lock free. None if neither
    is there."""
    end = window_end(effects, other)
    at = row.holds.index(other.hold) + 1
    if end is not None or not row.locked or at >= len(row.holds):
        return end
    first = row.holds[at].episodes[0].map
    return None if first is None else effects.stamp[id(first)]


def nodes(asked: Question) -> list[int]:
    """The nodes whose order decides the *asked* question."""
    found = {asked.access, asked.begin}
    for translation in asked.translations:
        found.update(n for n in (translation.begin, translation.end) if n is not None)
    for one in asked.invalidations:
        found.add(one.node)
        found.update(one.behind)
        found.update(n for group in one.each for n in group)
        if one.before is not None:
            found.add(one.before)
    return sorted(found)


def worlds(row: Row, asked: Question, limit: int = 50_000) -> Iterator[dict[int, int]]:
    """Every order of what matters: the position of each node. Raises TooManyWorlds."""
    for count, total in enumerate(row.order.totals(nodes(asked))):
        if count > limit:
            raise TooManyWorlds(f"more than {limit:,} orders")
        yield {node: at for at, node in enumerate(total)}
