# SPDX-License-Identifier: Apache-2.0
"""Which other orders of the same lock holds would surely be stale (DESIGN, "Prediction")."""

from __future__ import annotations

from dataclasses import dataclass

from ghesrace.events import Kind

from . import effects, worlds
from .code import Episode
from .effects import Effects
from .record import BROADCASTS, LOCAL, Record


@dataclass(slots=True, frozen=True)
class Prediction:
    """The hold of *x* with frame *p* put just before that of *y* with frame *q*."""

    slot: int
    x: int
    y: int
    p: int
    q: int


def predictions(built: Effects, lost: bool = False) -> list[Prediction]:
    """All that hold in every world; of each (slot, x, y, p, q) one.

    With *lost* also those of holds that a loss touches: they are no predictions, but "a loss turns
    nothing into clean".
    """
    seen, record = built.code, built.code.record
    found: set[Prediction] = set()
    for slot in range(len(record.plan.slots)):
        mine = [e for e in seen.episodes if e.slot == slot and e.map is not None]
        if len(mine) < 2:
            continue
        rows = worlds.rows(built, slot)
        if rows.overlapping or not rows.rows:
            continue
        clean = [e for e in mine if lost or not _touched(record, e)]
        givers = [e for e in clean if _leaves(built, rows, e)]
        takers = [e for e in clean if _bare(built, rows, e)]
        alone = len({e.cpu for e in mine}) == 1 and len(record.plan.cpus) > 1
        for g in givers:
            for h in takers:
                if g.frame == h.frame or g.hold is h.hold or None in (g.frame, h.frame):
                    continue
                other = g.cpu != h.cpu
                apart = g.ctx != h.ctx or (
                    g.hold.handler != h.hold.handler
                    and None not in (g.hold.handler, h.hold.handler)
                )
                if other or (alone and apart):
                    assert g.frame is not None
                    assert h.frame is not None
                    found.add(Prediction(slot, g.cpu, h.cpu, g.frame, h.frame))
    return sorted(found, key=lambda p: (p.slot, p.x, p.y, p.p, p.q))


def _touched(record: Record, episode: Episode) -> bool:
    """Whether a loss on its CPU touches its hold."""
    hold = episode.hold
    first, last = hold.episodes[0], hold.episodes[-1]
    begin = hold.begin or first.map or first.unmap
    end = hold.over or last.unmap_flush or last.unmap or last.last or last.map
    assert begin is not None
    assert end is not None
    error = record.plan.clock_error_ns
    return any(
        one.cpu in (None, episode.cpu)
        and one.begin - error <= end.until
        and one.end + error >= begin.ts
        for one in record.losses
    )


def _leaves(built: Effects, rows: worlds.Rows, g: Episode) -> bool:
    """Whether the hold of *g* surely ends with the translation of *g* uncovered elsewhere."""
    if g.unmap is None and g.replaced is None:
        return False
    behind = _perhaps_one_hold(built, g)
    behind = behind[behind.index(g) :]
    for later in behind:
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


def _bounded(built: Effects, e: Episode) -> bool:
    """Whether it is known where the hold of *e* begins and ends."""
    page = built.code.record.plan.slots[e.slot].lock == "page"
    return page or e.hold.handler is not None


def _perhaps_one_hold(built: Effects, e: Episode) -> list[Episode]:
    """The episodes that may be under one hold with *e*."""
    if _bounded(built, e):
        return e.hold.episodes
    key = (e.slot, e.cpu, e.ctx, None)
    return [o for o in built.code.episodes if (o.slot, o.cpu, o.ctx, o.hold.handler) == key]


def _shot_down(built: Effects, rows: worlds.Rows, episode: Episode) -> bool:
    """Whether every other CPU may have flushed V one by one during this unmap."""
    assert episode.unmap is not None
    record, order = built.code.record, rows.rows[0].order
    page = record.plan.slots[episode.slot].address
    others = [cpu for cpu in record.plan.cpus if cpu != episode.cpu]
    if page is None or not others:
        return False
    begin = built.effect[id(episode.unmap)]
    end = effects.window_end(built, episode)
    return all(
        any(
            e.kind == Kind.INV_PAGE
            and e.exactly(page)
            and not order.before(built.effect[id(e)], begin)
            and (end is None or not order.before(end, built.effect[id(e)]))
            for e in record.cpus.get(cpu, ())
        )
        for cpu in others
    )


def _bare(built: Effects, rows: worlds.Rows, h: Episode) -> bool:
    """Whether the hold of *h* surely has no invalidation before the access of *h*."""
    record = built.code.record
    page = record.plan.slots[h.slot].address
    assert h.map is not None
    if (id(h.map), "page-after-set", h.cpu) in built.implied:
        return False
    earlier = _perhaps_one_hold(built, h)
    earlier = earlier[: earlier.index(h)]
    for e in earlier:
        for event, what in ((e.map, "page-after-set"), (e.unmap, "page-after-clear")):
            if event is not None and (id(event), what, h.cpu) in built.implied:
                return False
        if e.unmap is not None and ((id(e.unmap), "broadcast-after-clear", h.cpu) in built.implied):
            return False
    order = rows.rows[0].order
    access = built.access_of(h)
    floor = built.stamp[id(h.hold.begin)] if h.hold.begin is not None else None
    previous = _previous_end(built, h) if _bounded(built, h) else []
    for event in record.cpus[h.cpu]:
        if page is None or not event.covers(page):
            continue
        if event.kind not in LOCAL and event.kind not in BROADCASTS:
            continue
        node = built.own(event)
        if order.before(access, node):
            continue
        outside = (floor is not None and order.before(node, floor)) or any(
            node == one or order.before(node, one) for one in previous
        )
        if not outside:
            return False
    return True


def _previous_end(built: Effects, h: Episode) -> list[int]:
    """The ends of the earlier holds of this context: the hold begins behind them."""
    found = []
    for hold in built.code.holds:
        if hold is h.hold:
            break
        if (hold.slot, hold.cpu, hold.ctx) == (h.slot, h.cpu, h.ctx):
            for episode in hold.episodes:
                if episode.unmap is not None:
                    found += list(effects.tail(built, episode))
    return found
