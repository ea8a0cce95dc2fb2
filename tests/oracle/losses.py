# SPDX-License-Identifier: Apache-2.0
"""What a loss may have hidden: the record with events put in that the kernel's code could have
made there.

A world hides one bundle of events: one unmap, one map, both, a flush, a page, a whole handler, a
hold's bounds. Each hidden event is paid for by a loss of its probe, CPU and time. A map whose
copy ended without an unmap is itself a missed probe: there something is hidden in every world.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from ghesrace.events import NO_POINT, NO_SLOT, PAGE_SIZE, Cause, Context, Kind

from . import code
from .code import Code
from .record import Ev, Loss, Record

MAP, UNMAP, INV, ALL = Kind.MAP, Kind.UNMAP, Kind.INV_PAGE, Kind.INV_ALL
READ, NOTIFY, NOTIFY_END = Kind.READ, Kind.NOTIFY, Kind.NOTIFY_END
BCAST, BCAST_END = Kind.BCAST_RANGE, Kind.BCAST_END

PAGES = tuple(
    (MAP, *first, READ, UNMAP, *last)
    for first in ((), (INV,))
    for last in ((), (INV,), (BCAST, BCAST_END))
)
# What fits into what is already there; which of it the code can have done, `code` says.
PARTS: tuple[tuple[Kind, ...], ...] = (
    (UNMAP,),
    (UNMAP, INV),
    (UNMAP, BCAST, BCAST_END),
    (INV,),
    (ALL,),
    (BCAST, BCAST_END),
    (BCAST,),
    (MAP,),
    (MAP, INV),
    (READ, UNMAP),
    (READ, UNMAP, INV),
    (MAP, READ),
    (MAP, INV, READ),
    (UNMAP, MAP),
    (UNMAP, INV, MAP),
    (UNMAP, INV, MAP, INV),
    (READ, UNMAP, MAP, READ),
    (READ, UNMAP, INV, MAP, READ),
    (UNMAP, MAP, READ, UNMAP),
    (UNMAP, INV, MAP, READ, UNMAP, INV),
    (UNMAP, INV, MAP, INV, READ, UNMAP, INV),
    (UNMAP, Kind.COPY_END, NOTIFY_END, NOTIFY, Kind.COPY, MAP),
    (UNMAP, INV, Kind.COPY_END, NOTIFY_END, NOTIFY, Kind.COPY, MAP),
    (UNMAP, INV, Kind.COPY_END, NOTIFY_END, NOTIFY, Kind.COPY, MAP, INV),
    (UNMAP, INV, Kind.COPY_END, Kind.COPY, MAP, INV),
    (Kind.MAP_END,),
    (NOTIFY,),
    (NOTIFY_END, NOTIFY),
    (Kind.COPY,),
    (Kind.COPY_END, Kind.COPY),
)
LUCK: tuple[tuple[Kind, ...], ...] = ((ALL,), (BCAST, BCAST_END), (BCAST,))
# A handler that ended, luck of a task, and a handler that began: it may be under way since.
LEFT = (
    *((*f, Kind.COPY_END, NOTIFY_END) for f in ((), (UNMAP,), (UNMAP, INV), (READ, UNMAP, INV))),
)
BACK = (*((NOTIFY, Kind.COPY, *b) for b in ((), (MAP,), (MAP, INV), (MAP, INV, READ))),)
# What the plan has no probe for is there all the same, or never.
FREE = (READ, NOTIFY, NOTIFY_END, Kind.COPY, Kind.COPY_END)


@dataclass(slots=True)
class Gap:
    """A place in a CPU's buffer where events were lost, stamped within [ts, until] (ns)."""

    cpu: int
    at: int
    ts: int
    until: int
    losses: list[Loss]


def variants(record: Record) -> Iterator[tuple[Code, bool]]:
    """What the code did if the record stands as it is, then with hidden events; whether any are
    hidden."""
    seen = code.read(record)
    faults = len(seen.faults)
    if not faults:
        yield seen, False
    found = False
    for gap in _gaps(record):
        for hidden in _bundles(record, gap):
            for bundle in (hidden, *_doing_less(record, hidden)):
                for made in _completed(code.read(insert(record, gap, bundle)), gap, bundle):
                    found = True
                    yield made, True
    if faults and not found:
        for one in _repairs(record, faults):
            found = True
            yield code.read(one), True
    if faults and not found:
        yield seen, True  # No world explains it: what is seen is judged as it stands.


def _doing_less(record: Record, hidden: list[Ev]) -> Iterator[list[Ev]]:
    """The same hidden events with unmaps that invalidate nothing, if their symbol is only taken to:
    nobody saw these unmaps, nor that this kernel's code invalidates there."""
    if any(event.kind == UNMAP and record.assumed(event) for event in hidden):
        yield [replace(e, point=NO_POINT) if e.kind == UNMAP else e for e in hidden]


def _completed(seen: Code, gap: Gap, bundle: list[Ev]) -> Iterator[Code]:
    """*seen* if the kernel's code can have done it; and with the unmap of a use that the same loss
    may have ended, in the other context of its CPU."""
    if not seen.faults:
        yield seen
    open_uses = {
        (e.slot, e.ctx)
        for e in seen.episodes
        if e.cpu == gap.cpu and not (e.unmap or e.replaced) and not (e.map and e.map.hidden)
    }
    kinds = tuple(Kind(e.kind) for e in bundle)
    if not open_uses or UNMAP in kinds or all(one.count == 1 for one in gap.losses):
        return
    for other in _gaps(seen.record):
        if other.cpu != gap.cpu:
            continue
        for slot, ctx in open_uses:
            for more in ((UNMAP,), (UNMAP, INV)):
                if _paid(seen.record, other, (*kinds, *more), _handlers(other)):
                    hidden = _made(seen.record, other, more, slot, ctx, None)
                    made = code.read(insert(seen.record, other, hidden))
                    if not made.faults:
                        yield made


def _repairs(record: Record, faults: int, depth: int = 3) -> Iterator[Record]:
    """With what surely is missing: an unmap in each use that ended without, a map."""
    if not faults or not depth:
        return
    for cpu, events in record.cpus.items():
        for at in range(1, len(events)):
            ts, until = events[at - 1].ts, events[at].until
            gap = Gap(cpu, at, min(ts, until), until, [])
            for slot in range(len(record.plan.slots)):
                for ctx in {events[at - 1].ctx, events[at].ctx}:
                    for kind in (UNMAP, MAP):
                        hidden = [_event(record, gap, kind, slot, ctx, None)]
                        made = insert(record, gap, hidden)
                        left = len(code.read(made).faults)
                        if not left:
                            yield made
                            for less in _doing_less(record, hidden):
                                yield insert(record, gap, less)
                        elif left < faults:
                            yield from _repairs(made, left, depth - 1)
                        elif left == faults and kind == MAP:
                            # An access without either: with its map, it still has no unmap.
                            yield from _repairs(made, left, min(depth - 1, 1))


def _gaps(record: Record) -> Iterator[Gap]:
    for cpu, events in record.cpus.items():
        losses = [one for one in record.losses if one.cpu in (None, cpu)]
        if not losses:
            continue
        low = [e.ts for e in events]
        for at in range(len(low) - 2, -1, -1):
            low[at] = min(low[at], low[at + 1])
        for at in range(len(events) + 1):
            after = low[at - 1] if at else 0
            until = low[at] if at < len(events) else 1 << 62
            here = [one for one in losses if one.begin <= until and one.end >= after]
            if here:
                begin = max(after, min(one.begin for one in here))
                end = min(until, max(one.end for one in here))
                yield Gap(cpu, at, begin, max(begin, end), here)


def _bundles(record: Record, gap: Gap) -> Iterator[list[Ev]]:
    """Everything that may be hidden at *gap*."""
    handlers = _handlers(gap)
    events = record.cpus[gap.cpu]
    for slot in range(len(record.plan.slots)):
        frames = _frames(record, slot)
        used = _contexts(record, slot, gap, events)
        if Context.TASK not in used and _idle(events, gap.at):
            # What any task flushes is luck, which may take effect behind what interrupted it.
            for kinds in LUCK:
                if _paid(record, gap, kinds, handlers):
                    yield _made(record, gap, kinds, slot, int(Context.TASK), None)
        yield from _away(record, gap, slot, frames)
        for ctx in used:
            running = _running(events, gap.at, ctx)
            for kinds in PARTS:
                if _paid(record, gap, kinds, handlers):
                    for frame in frames if MAP in kinds else (None,):
                        yield _made(record, gap, kinds, slot, ctx, frame)
            for kinds in PAGES:
                if not running and record.traced(NOTIFY):
                    kinds = (NOTIFY, *kinds, NOTIFY_END)
                if _paid(record, gap, kinds, handlers):
                    for frame in frames:
                        yield _made(record, gap, kinds, slot, ctx, frame)
            if handlers and ctx == Context.NMI and not running:
                for kinds in PAGES:
                    whole = (NOTIFY, *kinds, NOTIFY_END)
                    if all(record.traced(kind) or kind in FREE for kind in whole):
                        for frame in frames:
                            yield _made(record, gap, whole, slot, ctx, frame)


def _handlers(gap: Gap) -> list[Loss]:
    """The losses at *gap* of whole NMI handlers: these pay for nothing else."""
    return [one for one in gap.losses if one.cause == Cause.NMI_UNMATCHED]


def _away(record: Record, gap: Gap, slot: int, frames: list[int | None]) -> Iterator[list[Ev]]:
    """A task's luck between two handlers that look like one."""
    events = record.cpus[gap.cpu]
    if _idle(events, gap.at) or all(one.count in (1, 2) for one in gap.losses):
        return
    ctx = min(events[gap.at - 1].ctx, events[gap.at].ctx)
    if ctx == Context.TASK or any(_running(events, gap.at, c) for c in range(1, ctx)):
        return  # What this context interrupted goes on behind it: no task ran in between.
    for left, luck, back in product(LEFT, ((ALL,), (BCAST,)), BACK):
        if not _paid(record, gap, (*left, *luck, *back), _handlers(gap)):
            continue
        for frame in frames if MAP in back else (None,):
            first = _made(record, gap, left, slot, ctx, None)
            between = _made(record, gap, luck, slot, int(Context.TASK), None)
            yield [*first, *between, *_made(record, gap, back, slot, ctx, frame)]


def _frames(record: Record, slot: int) -> list[int | None]:
    """The frames that a hidden map may have: each of the record's, and one that none has."""
    found = {
        e.frame
        for events in record.cpus.values()
        for e in events
        if e.kind == MAP and e.slot == slot and e.frame is not None
    }
    return [None, *sorted(found)]


def _contexts(record: Record, slot: int, gap: Gap, events: list[Ev]) -> list[int]:
    """The contexts in which the slot's code, or luck, can have run at *gap*."""
    used = {
        e.ctx
        for all_events in record.cpus.values()
        for e in all_events
        if e.kind in (MAP, UNMAP) and e.slot == slot
    }
    if any(one.cause == Cause.NMI_UNMATCHED for one in gap.losses):
        used.add(int(Context.NMI))
    lowest = 0
    if not _idle(events, gap.at):
        around = min(events[gap.at - 1].ctx, events[gap.at].ctx)
        lowest = max((c for c in _under_way(events[: gap.at]) if c <= around), default=0)
    return sorted(ctx for ctx in used if ctx >= lowest)


def _under_way(earlier: list[Ev]) -> set[int]:
    """The contexts that may go on behind *earlier*: nothing of a lower one came behind theirs."""
    found: set[int] = set()
    for event in reversed(earlier):
        if not found or event.ctx < min(found):
            found.add(event.ctx)
    return found


def _idle(events: list[Ev], at: int) -> bool:
    """Whether nothing that the record shows was under way at this place."""
    if at == 0 or at == len(events):
        return True
    return events[at - 1].kind == NOTIFY_END or events[at].kind == NOTIFY


def _running(events: list[Ev], at: int, ctx: int) -> bool:
    """Whether a handler runs in *ctx* at this place."""
    for event in reversed(events[:at]):
        if event.ctx < ctx:
            return False
        if event.ctx == ctx and event.kind in (NOTIFY, NOTIFY_END):
            return event.kind == NOTIFY
    return False


def _paid(record: Record, gap: Gap, kinds: tuple[Kind, ...], handlers: list[Loss]) -> bool:
    """Whether the losses at *gap* account for events of these *kinds*."""
    left: dict[int, int | None] = {
        n: one.count for n, one in enumerate(gap.losses) if one not in handlers
    }
    # First those that only few losses can pay for.
    for kind in sorted(kinds, key=lambda k: sum(_pays(gap.losses[n], k) for n in left)):
        if not record.traced(kind):
            if kind not in FREE:
                return False
            continue
        for number in sorted(left, key=lambda n: gap.losses[n].kinds is None):
            count = left[number]
            if _pays(gap.losses[number], kind) and count != 0:
                left[number] = None if count is None else count - 1
                break
        else:
            return False
    return True


def _pays(one: Loss, kind: Kind) -> bool:
    return one.kinds is None or kind in one.kinds


def _made(
    record: Record, gap: Gap, kinds: tuple[Kind, ...], slot: int, ctx: int, frame: int | None
) -> list[Ev]:
    return [_event(record, gap, k, slot, ctx, frame) for k in kinds if record.traced(k)]


def _event(record: Record, gap: Gap, kind: Kind, slot: int, ctx: int, frame: int | None) -> Ev:
    """One hidden event."""
    made = Ev(gap.cpu, ctx, int(kind), gap.ts, gap.until, hidden=True)
    made.point = record.point(kind)
    made.slot = slot if kind in (MAP, UNMAP, READ) else NO_SLOT
    made.frame = frame if kind == MAP else 0
    if kind in (INV, BCAST, READ):
        made.addr, made.size = record.plan.slots[slot].address or 0, PAGE_SIZE
    return made


def insert(record: Record, gap: Gap, bundle: list[Ev]) -> Record:
    """*record* with the hidden events of *bundle* at *gap*."""
    events = list(record.cpus[gap.cpu])
    events[gap.at : gap.at] = bundle
    return replace(record, cpus={**record.cpus, gap.cpu: events})
