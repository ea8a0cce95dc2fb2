# SPDX-License-Identifier: Apache-2.0
"""Which other orders of the same lock holds would surely be stale (DESIGN, "Prediction")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ghesrace.events import Kind

from . import effects, worlds
from .code import Episode, Hold
from .effects import Effects
from .record import BROADCASTS, LOCAL, Record

# What an order of holds depends on; a lost read or return moves neither a hold nor a flush.
MATTERS = frozenset(
    (
        *LOCAL,
        *BROADCASTS,
        Kind.BCAST_END,
        Kind.MAP,
        Kind.UNMAP,
        Kind.NOTIFY,
        Kind.NOTIFY_END,
        Kind.COPY,
        Kind.COPY_END,
    )
)


@dataclass(slots=True, frozen=True)
class Prediction:
    """The hold of *x* with frame *p* put just before that of *y* with frame *q*."""

    slot: int
    x: int
    y: int
    p: int
    q: int


def predictions(
    every: list[Effects], lost: bool = False, one_call: bool = False
) -> list[Prediction]:
    """All that hold in every world; of each (slot, x, y, p, q) one. *every*: the record with each
    choice of hidden events that has a world; first as it stands, if so it has one.

    With *lost* also those of holds that a loss touches: they are no predictions, but "a loss turns
    nothing into clean". With *one_call* also those of holds of one CPU that may be, and may not
    be, of one notification.
    """
    built = every[0]
    seen, record = built.code, built.code.record
    found: set[Prediction] = set()
    for slot in range(len(record.plan.slots)):
        mine = [
            e for e in seen.episodes if e.slot == slot and e.map is not None and not e.map.hidden
        ]
        if len(mine) < 2:
            continue
        rows = worlds.rows(built, slot)
        if not rows.rows:
            continue
        ordered = _before(mine, rows.overlapping)
        clean = [e for e in ordered if lost or not _touched(record, e)]
        givers = [e for e in clean if _leaves(built, rows, e)]
        takers = [e for e in clean if _bare(built, rows, e)]
        if givers and takers and not lost:
            givers = _in_all(every[1:], slot, givers, _leaves)
            takers = _in_all(every[1:], slot, takers, _bare)
        alone = len({e.cpu for e in mine}) == 1 and len(record.plan.cpus) > 1
        for g in givers:
            for h in takers:
                if g.frame is None or h.frame is None or g.frame == h.frame:
                    continue
                apart = _apart(g, h) or (one_call and not _together(record, g, h))
                if g.cpu != h.cpu or (alone and apart):
                    found.add(Prediction(slot, g.cpu, h.cpu, g.frame, h.frame))
    return sorted(found, key=lambda p: (p.slot, p.x, p.y, p.p, p.q))


def doubts(built: Effects, one_call: bool = False) -> bool:
    """Whether another order of the holds may be stale, if this is what is hidden."""
    return bool(predictions([built], lost=True, one_call=one_call))


def _in_all(
    others: list[Effects],
    slot: int,
    episodes: list[Episode],
    holds: Callable[[Effects, worlds.Rows, Episode], bool],
) -> list[Episode]:
    """Those *episodes* of which something also *holds* in all other worlds."""
    for built in others:
        rows = worlds.rows(built, slot)
        there = {id(e.map): e for e in built.code.episodes}
        episodes = [e for e in episodes if holds(built, rows, there[id(e.map)])]
    return episodes


def _before(mine: list[Episode], overlapping: list[Hold]) -> list[Episode]:
    """The episodes of holds that lie before the first of those that overlap: from there on there
    is no lock, and so no order of its holds."""
    first = min(
        (e.map.ts for h in overlapping for e in h.episodes if e.map is not None), default=None
    )
    return [e for e in mine if first is None or all(_begin(o) < first for o in e.hold.episodes)]


def _begin(episode: Episode) -> int:
    return 0 if episode.map is None else episode.map.ts


def _apart(g: Episode, h: Episode) -> bool:
    """Whether they surely are of two notifications: one is never on two CPUs."""
    if g.ctx != h.ctx:
        return True
    both = (g.hold.handler, h.hold.handler)
    return None not in both and both[0] != both[1]


def _together(record: Record, g: Episode, h: Episode) -> bool:
    """Whether they surely are of one notification, in one copy or under one hold."""
    if g.hold is h.hold or (g.copy is not None and g.copy is h.copy):
        return True
    if g.hold.handler is None and h.hold.handler is None and g.ctx == h.ctx:
        return _one_run(record, g, h)
    return g.hold.handler is not None and g.hold.handler == h.hold.handler


def _one_run(record: Record, g: Episode, h: Episode) -> bool:
    """Whether the handler's own end would show between the two if they were of two runs."""
    if not record.traced(Kind.NOTIFY_END) or any(
        one.kinds is None or Kind.NOTIFY_END in one.kinds for one in record.losses
    ):
        return False
    events = record.cpus[g.cpu]
    first, last = sorted(events.index(e.map or e.unmap) for e in (g, h))
    ends = (Kind.NOTIFY, Kind.NOTIFY_END)
    return not any(e.ctx < g.ctx or e.kind in ends for e in events[first:last])


def _touched(record: Record, episode: Episode) -> bool:
    """Whether a loss on its CPU touches its hold: it may hide what the order depends on."""
    hold = episode.hold
    first, last = hold.episodes[0], hold.episodes[-1]
    begin = first.map or first.unmap
    if (
        hold.begin is not None and not hold.begin.hidden
    ):  # What may be hidden, each world has or not.
        begin = hold.begin
    end = hold.over or last.unmap_flush or last.unmap or last.last or last.map
    assert begin is not None
    assert end is not None
    return any(
        one.cpu in (None, episode.cpu)
        and (one.kinds is None or one.kinds & MATTERS)
        and one.begin <= end.until
        and one.end >= begin.ts
        for one in record.losses
    )


def _bounded(built: Effects, e: Episode) -> bool:
    """Whether it is known where the hold of *e* begins and ends."""
    page = built.code.record.plan.slots[e.slot].lock == "page"
    return page or e.hold.handler is not None


def _perhaps_one_hold(built: Effects, e: Episode) -> list[Episode]:
    """The episodes that may be under one hold with *e*."""
    if _bounded(built, e):
        return e.hold.episodes
    key = (e.slot, e.cpu, e.ctx, None)
    return [
        o
        for o in built.code.episodes
        if (o.slot, o.cpu, o.ctx, o.hold.handler) == key and not _left_between(built, e, o)
    ]


def _left_between(built: Effects, one: Episode, other: Episode) -> bool:
    """Whether their CPU left their context between the two: a lower one went on."""
    events = built.code.record.cpus[one.cpu]
    first, last = sorted(events.index(e.map or e.unmap) for e in (one, other))
    return any(event.ctx < one.ctx for event in events[first:last])


def _leaves(built: Effects, rows: worlds.Rows, g: Episode) -> bool:
    """Whether the hold of *g* surely ends with the translation of *g* uncovered elsewhere."""
    if g.unmap is None and g.replaced is None:
        return False
    behind = _perhaps_one_hold(built, g)
    for later in behind[behind.index(g) :]:
        if later.unmap is None:
            continue
        if "broadcast-after-clear" in built.code.record.implied(later.unmap):
            return False
        flush = later.unmap_flush
        if flush is not None and flush.kind in BROADCASTS:
            return False
        if _shot_down(built, rows, later):
            return False
    return True


def _shot_down(built: Effects, rows: worlds.Rows, episode: Episode) -> bool:
    """Whether every other CPU may have flushed V one by one during this unmap."""
    return any(_shot_down_in(built, row, episode) for row in rows.rows)


def _shot_down_in(built: Effects, row: worlds.Row, episode: Episode) -> bool:
    """The same in one row of the holds."""
    assert episode.unmap is not None
    record, order = built.code.record, row.order
    page = record.plan.slots[episode.slot].address
    others = [cpu for cpu in record.plan.cpus if cpu != episode.cpu]
    if page is None or not others:
        return False
    begin = built.effect[id(episode.unmap)]
    end = worlds.answers_end(built, row, episode)
    owned = built.code.owned()

    def during(node: int) -> bool:
        return not order.before(node, begin) and (end is None or not order.before(end, node))

    return all(
        any(
            e.kind == Kind.INV_PAGE
            and id(e) not in owned
            and e.exactly(page)
            and during(built.effect[id(e)])
            for e in record.cpus.get(cpu, ())
        )
        for cpu in others
    )


def _bare(built: Effects, rows: worlds.Rows, h: Episode) -> bool:
    """Whether the hold of *h* surely has no invalidation before the access of *h*."""
    implied = built.implied
    record = built.code.record
    mine = [e for e in built.code.episodes if (e.slot, e.cpu) == (h.slot, h.cpu)]
    traced = record.traced(Kind.NOTIFY) or record.traced(Kind.COPY)
    if traced and h.hold.begin is None and h.copy is None and mine[0].hold is h.hold:
        return False  # It began before the record does, and may have invalidated there.
    earlier = _perhaps_one_hold(built, h)
    earlier = earlier[: earlier.index(h)]
    if (id(h.map), "page-after-set", h.cpu) in implied:
        return False
    for e in earlier:
        of_map = (id(e.map), "page-after-set", h.cpu)
        of_unmap = [
            (id(e.unmap), what, h.cpu) for what in ("page-after-clear", "broadcast-after-clear")
        ]
        if any(key in implied for key in (of_map, *of_unmap)):
            return False
    return all(_bare_in(built, row, h) for row in rows.rows)


def _bare_in(built: Effects, row: worlds.Row, h: Episode) -> bool:
    """The same of what is recorded, in one row of the holds."""
    record, order = built.code.record, row.order
    page = record.plan.slots[h.slot].address
    access = built.access_of(h)
    before = [built.stamp[id(h.hold.begin)]] if h.hold.begin is not None else []
    before += _interrupted(built, h)
    one_hold = _perhaps_one_hold(built, h)
    for hold in row.holds[: row.holds.index(h.hold)]:
        for episode in hold.episodes:
            if episode.unmap is not None and episode not in one_hold:
                before += effects.tail(built, episode)
    for event in record.cpus[h.cpu]:
        if page is None or not event.covers(page):
            continue
        node = built.own(event)
        outside = any(node == one or order.before(node, one) for one in before)
        if not outside and not order.before(access, node):
            return False
    return True


def _interrupted(built: Effects, h: Episode) -> list[int]:
    """The last event of what the handler of *h* interrupted: its hold begins behind that."""
    events = built.code.record.cpus[h.cpu]
    assert h.map is not None
    earlier = events[: events.index(h.map)]
    return [built.stamp[id(e)] for e in earlier if e.ctx < h.map.ctx][-1:]
