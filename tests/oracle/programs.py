# SPDX-License-Identifier: Apache-2.0
"""Which records are compared: every small one, a sample of larger ones, each by its number."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product

from ghesrace.events import Cause, Context, Kind

from .kernel import (
    COPIES,
    ERROR,
    HANDLERS,
    PROTOCOLS,
    READS,
    RETURNS,
    STEPS,
    UNTRACED,
    Luck,
    Protocol,
    Run,
    Shape,
    every,
    made,
    plan,
)
from .record import BROADCASTS, LOCAL, Ev, Loss, Record

MOST_EVENTS = 16


def small() -> Iterator[tuple[str, Record]]:
    """Every order of every small shape, with a name that finds it again."""
    for number, shape in enumerate(small_shapes()):
        for order, record in enumerate(every(shape)):
            yield f"small {number}.{order}", record


def few() -> Iterator[tuple[str, Record]]:
    """One order of every small shape: always the same."""
    for number, shape in enumerate(small_shapes()):
        yield f"few {number}", made(shape, random.Random(number).randrange)[0]


def small_shapes() -> Iterator[Shape]:
    """Up to 3 episodes on 2 CPUs and one slot: every protocol, frame choice and placement."""
    for protocol, step in product(PROTOCOLS, STEPS):
        untraced = (*RETURNS, *COPIES) if protocol.lock == "report" else RETURNS
        if protocol.lock == "page":
            untraced = (*RETURNS, *HANDLERS, Kind.COPY_END)
        base = plan(protocol, 2, 1, untraced)
        for runs in _placements(protocol):
            yield Shape(base, protocol, runs, (), step)
            if [run.frames for run in runs] == ["A", "B"] and step != "same":
                for cpu in (0, 1):
                    for luck in (
                        Luck(cpu, Kind.INV_ALL, Context.TASK),
                        Luck(cpu, Kind.INV_ALL, Context.NMI),
                        Luck(cpu, Kind.BCAST_ALL, Context.TASK),
                    ):
                        yield Shape(base, protocol, runs, (luck,), step)
    yield from _blind_shapes()


def _blind_shapes() -> Iterator[Shape]:
    """The same where no access is traced, and of kernels whose unmap does not flush."""
    for protocol, step in product(PROTOCOLS, STEPS):
        bare = protocol._replace(lock="page", on_unmap="none")
        for shown in (protocol,) if protocol.pre else (protocol, bare):
            base = plan(shown, 2, 1, (*RETURNS, *READS))
            for one, two in (("A", "B"), ("A", "BB"), ("AB", "A")):
                runs = Run(0, Context.IRQ, 0, one), Run(1, Context.IRQ, 0, two)
                yield Shape(base, shown, runs, (), step)


def _placements(protocol: Protocol) -> Iterator[tuple[Run, ...]]:
    irq = Context.IRQ
    for frames in ("A", "AA", "AB"):
        yield (Run(0, irq, 0, frames),)
    for one, two in (("A", "A"), ("A", "B"), ("AB", "A"), ("AB", "B"), ("AB", "C"), ("A", "BA")):
        yield Run(0, irq, 0, one), Run(1, irq, 0, two)
        if len(one + two) == 2:
            yield Run(0, irq, 0, one), Run(0, irq, 0, two)
    for frames in ("AAA", "AAB", "ABA", "ABB", "ABC"):
        for cpus in ((0, 1, 0), (0, 0, 1), (0, 1, 1)):
            yield tuple(Run(cpu, irq, 0, f) for cpu, f in zip(cpus, frames, strict=True))


def sample(seed: int) -> Record:
    """Record number *seed*: up to 4 episodes, 16 events, 3 CPUs and 2 slots."""
    return happened(seed)[0]


def happened(seed: int) -> tuple[Record, list[Ev]]:
    """Record number *seed*, and what happened in true order, unseen or lost things too: with each
    effect just after its event that is one of the record's worlds."""
    for attempt in range(1000):
        dice = random.Random(f"{seed}.{attempt}")
        record, log = _random(dice, old=seed % 4 == 1)
        if 0 < record.size <= MOST_EVENTS:
            return record, log
    raise AssertionError(f"seed {seed} makes no small record")


def broken(seed: int) -> Record:
    """As `sample`, of a kernel whose locks do not hold; of every other one no context is known."""
    for attempt in range(1000):
        dice = random.Random(f"broken {seed}.{attempt}")
        record, _ = _random(dice, locks=False)
        if 0 < record.size <= MOST_EVENTS:
            if seed % 2:
                for events in record.cpus.values():
                    for event in events:
                        event.ctx = int(Context.TASK)
            return record
    raise AssertionError(f"seed {seed} makes no small record")


def _random(dice: random.Random, locks: bool = True, old: bool = False) -> tuple[Record, list[Ev]]:
    """With *old* a fixmap is locked per page, as from Linux 4.15 to 5.0, and a map that flushes
    has an unmap that does not."""
    protocol = dice.choice(PROTOCOLS)
    if old and protocol.implied:
        protocol = protocol._replace(lock="page")
    elif old and protocol.on_map:
        protocol = protocol._replace(on_unmap="none")
    cpus, slots = dice.choice((1, 2, 2, 2, 3)), dice.choice((1, 1, 1, 2))
    error = dice.choice((0, ERROR, ERROR, ERROR))
    # (pti is rare on a machine that has GHES, and asks nothing of the order.)
    chosen = plan(protocol, cpus, slots, dice.choice(UNTRACED), error, pti=dice.random() < 0.03)
    letters = "".join(dice.choice("AAB" if dice.random() < 0.8 else "ABC") for _ in range(4))
    runs: list[Run] = []
    used = 0
    for _ in range(dice.choice((1, 2, 2, 3, 3, 4))):
        slot = dice.randrange(slots)
        pages = dice.choice((1, 1, 1, 2))
        if used + pages > 4:
            break
        ctx = Context.NMI if slot else dice.choice((Context.IRQ, Context.IRQ, Context.SOFTIRQ))
        runs.append(Run(dice.randrange(cpus), ctx, slot, letters[used : used + pages]))
        used += pages
    luck = tuple(
        Luck(
            dice.randrange(cpus),
            dice.choice((*LOCAL, *BROADCASTS)),
            dice.choice((Context.TASK, Context.TASK, Context.NMI)),
            dice.random() < 0.3,
        )
        for _ in range(dice.choice((0, 0, 1, 1, 2)))
    )
    step = dice.choice(("far", "far", "near", "same"))
    shape = Shape(chosen, protocol, tuple(runs), luck, step, locks)
    offset = {cpu: dice.randint(0, error) for cpu in range(cpus)}
    record, log = made(shape, dice.randrange, offset if step != "far" else {})
    _late(record, dice)
    if not locks:
        return record, log
    return (_lossy(record, dice) if dice.random() < 0.15 else record), log


def _late(record: Record, dice: random.Random) -> None:
    """An NMI in the probe's clock read stamps an event late."""
    for events in record.cpus.values():
        for event, behind in pairwise(events):
            if behind.ctx == Context.NMI > event.ctx and dice.random() < 0.2:
                event.ts = event.until = behind.ts + dice.randrange(1, 5_000)


def _lossy(record: Record, dice: random.Random) -> Record:
    """What one loss of a random kind leaves of *record*."""
    cpu = dice.choice([cpu for cpu, events in record.cpus.items() if events] or [0])
    events = record.cpus[cpu]
    if not events:
        return record
    last = max(e.ts for evs in record.cpus.values() for e in evs)
    cause = dice.choice(("missed", "missed", "window", "overrun", "overrun", "nmi", "online"))
    at = dice.randrange(len(events))
    if cause in ("missed", "window"):
        gone = [events[at]]
        kinds = frozenset({events[at].kind})
        begin, end = _around(events, at, at, last) if cause == "window" else (0, last + 5_000)
        count: int | None = dice.choice((1, 1, 2))
        if events[at].kind == Kind.NMI_REF:
            return record
        one = Loss(cpu, begin, end, kinds, count, Cause.MISSED)
    elif cause == "overrun":
        until = min(len(events), at + dice.randint(1, 3)) - 1
        gone = events[at : until + 1]
        begin, end = _around(events, at, until, last)
        one = Loss(cpu, begin, end, None, dice.choice((len(gone), None)), Cause.OVERRUN)
    elif cause == "nmi":
        gone = [e for e in events if e.ctx == Context.NMI]
        if not any(e.kind == Kind.MAP for e in gone):
            return record
        first, end_at = events.index(gone[0]), events.index(gone[-1])
        begin, end = _around(events, first, end_at, last)
        gone = [e for e in events[first : end_at + 1] if e.ctx == Context.NMI]
        one = Loss(cpu, begin, end, None, None, Cause.NMI_UNMATCHED)
    else:
        gone = events[: at + 1]
        begin, end = _around(events, 0, at, last)
        one = Loss(cpu, 0, end, None, None, Cause.CPU_ONLINE)
    return replace(record.without(gone), losses=[one])


def _around(events: list[Ev], first: int, last: int, end: int) -> tuple[int, int]:
    """A window around these events that touches no stamp of their neighbours."""
    before = events[first - 1].ts if first else 0
    behind = events[last + 1].ts if last + 1 < len(events) else end + 10_000
    begin = (before + events[first].ts) // 2
    return begin, max(begin, (events[last].ts + behind) // 2)
