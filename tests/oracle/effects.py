# SPDX-License-Identifier: Apache-2.0
"""What can be before what: the stamps, the effects and the lock, as one partial order.

Every effect lies behind its stamp and before its context's next event; a broadcast's part on
each CPU, between its begin and its own end. Stamps of one CPU are ordered by its buffer, those of
two CPUs by the clock if they differ by more than its error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from ghesrace.events import Kind

from .code import Code, Episode, Hold
from .order import Order
from .record import BROADCASTS, LOCAL, OF_CALLERS, Ev

USES = (Kind.MAP, Kind.UNMAP)
WITH_EFFECT = (Kind.MAP, Kind.UNMAP, Kind.READ, Kind.WRITE, *LOCAL)


@dataclass(slots=True)
class Effects:
    """The nodes of one record. `effect` and `stamp` are by event; `part` by broadcast and CPU;
    `implied` by the event that implies it, what, and CPU; `untraced` the access of an episode."""

    code: Code
    order: Order = field(default_factory=Order)
    stamp: dict[int, int] = field(default_factory=dict)
    effect: dict[int, int] = field(default_factory=dict)
    part: dict[tuple[int, int], int] = field(default_factory=dict)
    implied: dict[tuple[int, str, int], int] = field(default_factory=dict)
    untraced: dict[int, int] = field(default_factory=dict)
    due: dict[int, int | None] = field(default_factory=dict)
    consistent: bool = True

    def set_of(self, episode: Episode) -> int | None:
        """When the PTE is written."""
        return None if episode.map is None else self.effect[id(episode.map)]

    def clear_of(self, episode: Episode) -> int | None:
        """When the PTE is cleared; None if nothing shows it."""
        return None if episode.unmap is None else self.effect[id(episode.unmap)]

    def access_of(self, episode: Episode) -> int:
        """When the page is accessed."""
        if episode.access is not None:
            return self.effect[id(episode.access)]
        return self.untraced[episode.number]

    def own(self, event: Ev) -> int:
        """When the invalidation *event* works on its own CPU."""
        if event.kind in BROADCASTS:
            return self.part[id(event), event.cpu]
        return self.effect[id(event)]


def build(code: Code) -> Effects:
    """The order that holds in every world, locks left aside."""
    made = Effects(code)
    _stamps(made)
    for events in code.record.cpus.values():
        due = _due(events)
        for at, (event, until) in enumerate(zip(events, due, strict=True)):
            made.due[id(event)] = None if until is None else made.stamp[id(until)]
            _effect(made, event, events[at + 1 :])
    for episode in code.episodes:
        _access(made, episode)
    _shootdowns(made)
    made.consistent = made.order.close()
    return made


def _due(events: list[Ev]) -> list[Ev | None]:
    """For each event the next one in its context, or in one that it interrupted."""
    found: list[Ev | None] = [None] * len(events)
    next_at: dict[int, Ev] = {}
    for at in range(len(events) - 1, -1, -1):
        event = events[at]
        found[at] = next_at.get(event.ctx)
        for ctx in range(event.ctx, 4):  # It ends what is in its context and above.
            next_at[ctx] = event
    return found


def _stamps(made: Effects) -> None:
    record, order = made.code.record, made.order
    bounds: dict[int, list[tuple[int, int, int]]] = {}
    for cpu, events in record.cpus.items():
        low = high = 1 << 63
        rows: list[tuple[int, int, int]] = []
        for event in reversed(events):
            low, high = min(low, event.ts), min(high, event.until)
            node = made.stamp[id(event)] = order.node()
            rows.append((low, high, node))
        rows.reverse()
        bounds[cpu] = rows
        for (_, _, first), (_, _, second) in pairwise(rows):
            order.put(first, second)
    for a, mine in bounds.items():
        for b, theirs in bounds.items():
            if a == b:
                continue
            error, at = record.error(a, b), 0
            for _, high, node in mine:
                while at < len(theirs) and theirs[at][0] - high <= error:
                    at += 1
                if at == len(theirs):
                    break
                order.put(node, theirs[at][2])


def _effect(made: Effects, event: Ev, later: list[Ev]) -> None:
    order, stamp, due = made.order, made.stamp[id(event)], made.due[id(event)]
    if event.kind in BROADCASTS:
        end = made.code.ends.get(id(event))
        if end is not None:
            due = made.stamp[id(end)]
        elif made.code.record.traced(Kind.BCAST_END):
            caller = _caller(event, later)
            due = None if caller is None else made.stamp[id(caller)]
        for cpu in made.code.record.cpus:
            node = made.part[id(event), cpu] = order.node()
            order.put(stamp, node)
            order.put(node, due)
    elif event.kind in WITH_EFFECT:
        node = made.effect[id(event)] = order.node()
        order.put(stamp, node)
        order.put(node, due)
        if event.kind in (Kind.MAP, Kind.UNMAP):
            for what, cpu in _implies(made, event):
                extra = made.implied[id(event), what, cpu] = order.node()
                order.put(node, extra)
                order.put(extra, due)


def _caller(broadcast: Ev, later: list[Ev]) -> Ev | None:
    """The first event by which a *broadcast* whose end is not recorded has returned: one that its
    function does not itself make, of its context or of one that this interrupted."""
    for event in later:
        same = event.ctx == broadcast.ctx and event.kind in OF_CALLERS
        if same or event.ctx < broadcast.ctx:
            return event
    return None


def _implies(made: Effects, event: Ev) -> Iterator[tuple[str, int]]:
    what = made.code.record.implied(event)
    if event.kind == Kind.MAP and "page-after-set" in what:
        yield "page-after-set", event.cpu
    if event.kind == Kind.UNMAP and "page-after-clear" in what:
        yield "page-after-clear", event.cpu
    if event.kind == Kind.UNMAP and "broadcast-after-clear" in what:
        for cpu in made.code.record.cpus:
            yield "broadcast-after-clear", cpu


def _access(made: Effects, episode: Episode) -> None:
    """The access: behind the map function's return, before the unmap's entry."""
    if episode.map is None:
        return
    order = made.order
    if episode.access is None:
        node = made.untraced[episode.number] = order.node()
        order.put(made.effect[id(episode.map)], node)
        if episode.map_end is not None:
            order.put(made.stamp[id(episode.map_end)], node)
        until = episode.unmap or episode.replaced or episode.over
        if until is not None:
            order.put(node, made.stamp[id(until)])
        if episode.unmap is not None and episode.unmap.hidden and not episode.map.hidden:
            _lost_with(made, episode.unmap, node)
    access = made.access_of(episode)
    order.put(made.implied.get((id(episode.map), "page-after-set", episode.cpu)), access)
    if "flush-inside" in made.code.record.implied(episode.map):
        for flush in episode.in_symbol:
            order.put(made.own(flush), access)


def _lost_with(made: Effects, unmap: Ev, access: int) -> None:
    """Where a loss of both probes hid the unmap, it hid the access too, which would be there."""
    record = made.code.record
    if not record.traced(Kind.READ) or not any(
        one.cpu in (None, unmap.cpu)
        and (one.kinds is None or {Kind.READ, Kind.UNMAP} <= one.kinds)
        and one.begin <= unmap.until
        and one.end >= unmap.ts
        for one in record.losses
    ):
        return
    events = record.cpus[unmap.cpu]
    seen = [e for e in events[: events.index(unmap)] if not e.hidden]
    for event in seen[-1:]:
        made.order.put(made.stamp[id(event)], access)
        if event.ctx == unmap.ctx:  # It is the next event of this context.
            made.order.put(made.effect.get(id(event)), access)


def _shootdowns(made: Effects) -> None:
    """Every other CPU flushing V surely during the unmap: its code made them do so, once the PTE
    was clear."""
    record, owned = made.code.record, made.code.owned()
    closed = False
    for episode in made.code.episodes:
        page = record.plan.slots[episode.slot].address
        until = window_end(made, episode)
        if episode.unmap is None or page is None or until is None:
            continue
        found = []
        for cpu in record.plan.cpus:
            if cpu == episode.cpu:
                continue
            mine = [
                e
                for e in record.cpus.get(cpu, ())
                if e.kind == Kind.INV_PAGE and e.exactly(page) and id(e) not in owned
            ]
            if not mine:
                break
            if not closed and not made.order.close():
                return
            closed = True
            inside = [
                made.effect[id(e)]
                for e in mine
                if made.order.before(made.stamp[id(episode.unmap)], made.effect[id(e)])
                and made.order.before(made.effect[id(e)], until)
            ]
            if not inside:
                break
            found += inside
        else:
            for node in found:
                made.order.put(made.effect[id(episode.unmap)], node)


def window_end(made: Effects, episode: Episode) -> int | None:
    """The node at which an unmap is over; None if the record does not show it."""
    if episode.unmap_end is not None:
        return made.stamp[id(episode.unmap_end)]
    last = episode.unmap_flush or episode.unmap
    return None if last is None else made.due[id(last)]


@dataclass(slots=True)
class Locked:
    """The lock holds of one slot as nodes of *order*, to be put in a row."""

    order: Order
    holds: list[Hold]
    begin: list[int]
    end: list[int]


def lock(made: Effects, slot: int) -> Locked:
    """Put each episode of *slot* with all of its own invalidations inside its hold, in a copy of
    the order that is not closed."""
    order, stamp = made.order.copy(), made.stamp
    holds = [hold for hold in made.code.holds if hold.slot == slot]
    locked = Locked(order, holds, [], [])
    ends: dict[tuple[int, int], int] = {}
    for hold in holds:
        begin, end = order.node(), order.node()
        order.put(begin, end)
        if hold.begin is not None:
            order.put(stamp[id(hold.begin)], begin)
        if hold.over is not None:
            order.put(end, stamp[id(hold.over)])
        for event in _interruption(made, hold):
            order.put(stamp[id(event)], begin)
        last = hold.episodes[-1]
        if last.unmap is None and last.over is None and last.replaced is None:
            for events in made.code.record.cpus.values():  # It is still mapped at the end.
                if events:
                    order.put(stamp[id(events[-1])], end)
        if not hold.nested:
            order.put(ends.get((hold.cpu, hold.ctx)), begin)
            ends[hold.cpu, hold.ctx] = end
        for episode in hold.episodes:
            for node in _inside(made, episode):
                order.put(node, end)
            if episode.map is not None:
                order.put(begin, stamp[id(episode.map)])
            else:  # Its map lies before the start, and so before all that the record has.
                for events in made.code.record.cpus.values():
                    if events:
                        order.put(begin, stamp[id(events[0])])
            if episode.map is not None and episode.unmap is None and episode.over is not None:
                order.put(stamp[id(episode.last or episode.map)], end)
        locked.begin.append(begin)
        locked.end.append(end)
    _interrupted(made, locked)
    return locked


def _interrupted(made: Effects, locked: Locked) -> None:
    """A hold that another one interrupted after its last event was over by then: what interrupts
    finds the lock free, and nothing below it runs meanwhile."""
    for hold, end in zip(locked.holds, locked.end, strict=True):
        events = made.code.record.cpus[hold.cpu]
        last = events.index(_last(hold))
        for other in locked.holds:
            if other.cpu != hold.cpu or other.ctx <= hold.ctx:
                continue
            first = events.index(_first(other))
            while first > 0 and events[first - 1].ctx > hold.ctx:
                first -= 1
            if last < first:
                locked.order.put(end, made.stamp[id(events[first])])


def _first(hold: Hold) -> Ev:
    first = hold.episodes[0].map or hold.episodes[0].unmap
    assert first is not None
    return first


def _last(hold: Hold) -> Ev:
    """The last event of a hold that is surely of it."""
    last = hold.episodes[-1]
    found = last.unmap or last.last or last.map
    assert found is not None
    return found


def _interruption(made: Effects, hold: Hold) -> Iterator[Ev]:
    """The events right before *hold* in higher contexts, if they use the slot too: the lock was
    not held there, so that this hold began when its own context went on."""
    first = hold.episodes[0].map or hold.episodes[0].unmap
    events = made.code.record.cpus[hold.cpu]
    found = []
    for event in reversed(events[: events.index(first)]):
        if event.ctx <= hold.ctx:
            break
        found.append(event)
    if any(event.slot == hold.slot and event.kind in USES for event in found):
        yield from found


def _inside(made: Effects, episode: Episode) -> Iterator[int]:
    """What of an episode is over before its hold ends."""
    if episode.map is not None:
        yield made.effect[id(episode.map)]
        yield made.access_of(episode)
        if (node := made.implied.get((id(episode.map), "page-after-set", episode.cpu))) is not None:
            yield node
        for flush in episode.map_flushes:
            yield made.own(flush)
    if episode.unmap is not None:
        yield from tail(made, episode)


def tail(made: Effects, episode: Episode) -> Iterator[int]:
    """The clear, and what belongs to it."""
    assert episode.unmap is not None
    yield made.effect[id(episode.unmap)]
    for cpu in made.code.record.cpus:
        for what in ("page-after-clear", "broadcast-after-clear"):
            node = made.implied.get((id(episode.unmap), what, cpu))
            if node is not None:
                yield node
    flush = episode.unmap_flush
    if flush is not None and flush.kind in BROADCASTS:
        for cpu in made.code.record.cpus:
            yield made.part[id(flush), cpu]
    elif flush is not None:
        yield made.effect[id(flush)]
