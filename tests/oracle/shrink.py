# SPDX-License-Identifier: Apache-2.0
"""Makes a record small while a checker still says the same wrong thing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from ghesrace.events import Kind

from . import code, effects, litmus, worlds
from .compare import Difference, Make, depends_on_the_cut, differences, engine, lost
from .litmus import STEP
from .record import Ev, Record
from .worlds import TooManyWorlds

Still = Callable[[Record], bool]


def shrink(record: Record, difference: str, make: Make = engine) -> Record:
    """The smallest record that this finds of which *make* still says *difference*."""
    cause = lost(record).split(" ")[0]
    faults = len(code.read(record).faults)
    strict = not record.losses and _possible(record, faults)

    def still(small: Record) -> bool:
        if not small.size or lost(small).split(" ")[0] != cause:
            return False
        if strict and not _possible(small, faults):
            return False
        try:
            found = differences(small, make)[1]
            if "cut" in difference:
                found += depends_on_the_cut(small, make)
            return any(str(one) == difference for one in found)
        except (TooManyWorlds, ValueError):
            return False

    assert still(record), "the record shows the difference to begin with"
    again = True
    while again:
        again = False
        for small in _smaller(record):
            if still(small):
                record, again = small, True
                break
    return record


def _possible(record: Record, faults: int) -> bool:
    """Whether the kernel's code can have made it: no more faults, and the lock has a world."""
    seen = code.read(record)
    if len(seen.faults) > faults:
        return False
    built = effects.build(seen)
    return not any(worlds.rows(built, slot).overlapping for slot in range(len(record.plan.slots)))


def _smaller(record: Record) -> Iterator[Record]:
    """Records with less in them, the smallest first."""
    seen = code.read(record)
    for cpu in record.cpus:  # A whole CPU.
        if record.cpus[cpu]:
            yield record.without(record.cpus[cpu])
    for episode in seen.episodes:  # A whole episode.
        yield record.without(_of_episode(record, episode))
    for events in record.cpus.values():
        for event in events:  # One event, or a pair.
            if event.kind in (Kind.MAP, Kind.UNMAP, Kind.READ, Kind.WRITE):
                continue
            gone = [event]
            if event.kind in (Kind.NOTIFY, Kind.COPY, Kind.BCAST_RANGE, Kind.BCAST_ALL):
                gone += _partner(events, event)
            yield record.without(gone)
    used = [cpu for cpu, events in record.cpus.items() if events]
    if record.plan.cpus[-1] > max(used, default=0) + 1:
        cpus = record.plan.cpus[:-1]
        plan = replace(record.plan, cpus=cpus)
        yield replace(record, plan=plan, cpus={cpu: record.cpus[cpu] for cpu in cpus})
    if not any(e.slot > 0 for events in record.cpus.values() for e in events):
        plan = record.plan
        if len(plan.slots) > 1:
            yield replace(record, plan=replace(plan, slots=plan.slots[:1]))
    yield from _retimed(record)


def _of_episode(record: Record, episode: code.Episode) -> list[Ev]:
    gone = [
        episode.map,
        episode.unmap,
        episode.access,
        episode.map_end,
        episode.unmap_end,
        episode.unmap_flush,
        *episode.map_flushes,
        *episode.pre,
    ]
    gone += [
        e
        for e in record.cpus[episode.cpu]
        if e.kind in (Kind.READ, Kind.WRITE)
        and e.slot == episode.slot
        and _within(record, e, episode)
    ]
    flush = episode.unmap_flush
    if flush is not None and flush.kind in (Kind.BCAST_RANGE, Kind.BCAST_ALL):
        gone += _partner(record.cpus[episode.cpu], flush)
    return [event for event in gone if event is not None]


def _within(record: Record, event: Ev, episode: code.Episode) -> bool:
    events = record.cpus[episode.cpu]
    if episode.map is None or episode.unmap is None or event.ctx != episode.ctx:
        return False
    return events.index(episode.map) < events.index(event) < events.index(episode.unmap)


_ENDS = {
    Kind.NOTIFY: Kind.NOTIFY_END,
    Kind.COPY: Kind.COPY_END,
    Kind.BCAST_RANGE: Kind.BCAST_END,
    Kind.BCAST_ALL: Kind.BCAST_END,
}


def _partner(events: list[Ev], event: Ev) -> list[Ev]:
    """The end that belongs to this begin."""
    for other in events[events.index(event) + 1 :]:
        if other.ctx == event.ctx and other.kind == _ENDS[Kind(event.kind)]:
            return [other]
    return []


def _retimed(record: Record) -> Iterator[Record]:
    """The same order with every step 10 us, then with single steps so long."""
    times = sorted({e.ts for events in record.cpus.values() for e in events})
    base = 1_000_000
    plain = {ts: base + (n + 1) * STEP for n, ts in enumerate(times)}
    if any(plain[ts] != ts for ts in times):
        yield _at(record, plain)
    for n, ts in enumerate(times):
        before = times[n - 1] if n else base
        if ts - before != STEP:
            shift = STEP - (ts - before)
            yield _at(record, {t: t + shift if t >= ts else t for t in times})


def _at(record: Record, times: dict[int, int]) -> Record:
    """*record* with these stamps, its losses moved along."""
    order = sorted(times)

    def moved(ts: int) -> int:
        before = [t for t in order if t <= ts]
        behind = [t for t in order if t > ts]
        if before and behind:
            return (times[before[-1]] + times[behind[0]]) // 2
        if before:
            return times[before[-1]] + STEP // 2
        return times[behind[0]] - STEP // 2 if behind else ts

    cpus = {}
    for cpu, events in record.cpus.items():
        cpus[cpu] = [replace(e, ts=times[e.ts], until=times[e.ts]) for e in events]
    losses = [replace(one, begin=moved(one.begin), end=moved(one.end)) for one in record.losses]
    return replace(record, cpus=cpus, losses=losses)


def case(record: Record, difference: Difference | str, seed: object, make: Make = engine) -> str:
    """The shrunk record as a litmus file."""
    small = shrink(record, str(difference), make)
    truth, _ = differences(small, make)
    about = [
        f"A checker said of it: {difference}.",
        "Over all worlds, in order: "
        + ", ".join(f"CPU {one.cpu} {{{', '.join(sorted(one.worlds))}}}" for one in truth.episodes)
        + ".",
    ]
    return litmus.text(small, truth, about, f'DESIGN.md, "Worlds"; found by tests/oracle, {seed}')
