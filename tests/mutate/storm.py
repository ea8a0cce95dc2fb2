# SPDX-License-Identifier: Apache-2.0
"""Storms: records far too large for the oracle, of everything that a stream may hold at once.

Handlers of three CPUs and two slots, interrupted and interrupting, in an order that their locks
mostly keep; page-table edits, shootdowns, luck; probes that were skipped, hits that came twice,
stamps that tie, or differ by the clocks' error and a nanosecond; losses that begin and end at
stamps; a plan that knows much or little. What the checker says of a storm is pinned: no world
vouches for it, but that it is the same however a storm is cut, and what it is when compiled
(tests/unit/test_storm.py), and a change of it has to be meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from ghesrace.checker.engine import Engine
from ghesrace.events import (
    ALL_CPUS,
    NO_POINT,
    NO_SLOT,
    Cause,
    Context,
    Events,
    Kind,
    empty,
    joined,
    loss,
    mark,
)
from ghesrace.plan import Implied, Plan, Probe, Slot

V, FRAME, PAGE = 0xFFFFFFFFFF57B000, 0x70000000, 4096
ERROR = 1000  # ns
KINDS = tuple(kind for kind in Kind if kind < Kind.EPISODE)
TASK, SOFTIRQ, IRQ, NMI = Context
CAUSES = (Cause.MISSED, Cause.MISSED, Cause.OVERRUN, Cause.OVERRUN, Cause.NMI_UNMATCHED,
          Cause.CPU_ONLINE, Cause.CLOCK)  # fmt: skip
UNTRACED: tuple[tuple[Kind, ...], ...] = (
    (), (), (), (Kind.MAP_END, Kind.UNMAP_END), (Kind.READ, Kind.WRITE), (Kind.COPY, Kind.COPY_END),
    (Kind.NOTIFY, Kind.NOTIFY_END), (Kind.COPY_END,), (Kind.BCAST_END,), (Kind.EDIT_END,),
    (Kind.MAP_END, Kind.UNMAP_END, Kind.COPY, Kind.COPY_END, Kind.EDIT, Kind.EDIT_END),
    (Kind.NOTIFY, Kind.NOTIFY_END, Kind.READ, Kind.WRITE, Kind.BCAST_END),
)  # fmt: skip
PROTOCOLS = ("local", "local", "map-flush", "map-flush", "pre", "broadcast", "none", "by hand")
Step = tuple[int, Context, Kind, dict[str, int]]
Run = tuple[int, Context, list[Step]]


def plan(dice: Random) -> Plan:
    """What a kernel's plan may say."""
    untraced, slots = dice.choice(UNTRACED), dice.choice((1, 2, 2))
    implies: dict[Kind, list[str]] = {}
    for kind, what, odds in (
        (Kind.MAP, "page-after-set", 0.1),
        (Kind.UNMAP, "page-after-clear", 0.15),
        (Kind.UNMAP, "broadcast-after-clear", 0.15),
        (Kind.MAP, "may-allocate", 0.3),
        (Kind.UNMAP, "may-free", 0.1),
        (Kind.EDIT, "may-allocate", 0.4),
        (Kind.EDIT, "may-free", 0.2),
        (Kind.EDIT, "unmaps-status", 0.2),
    ):
        if dice.random() < odds:
            implies.setdefault(kind, []).append(what)
    if dice.random() < 0.25:
        for kind in (Kind.MAP, Kind.UNMAP):
            implies.setdefault(kind, []).append("flush-inside")
    probes = tuple(
        Probe(
            "notify-proc" if kind == Kind.NOTIFY and dice.random() < 0.1 else kind.name.lower(),
            kind.name,
            "f" if dice.random() < 0.5 else kind.name.lower(),
            "kprobe",
            implies=tuple(implies.get(kind, ())),
        )
        for kind in KINDS
        if kind not in untraced
    )
    proven = tuple(
        Implied(probe.point, probe.symbol, what, "proven", "")
        for probe in probes
        for what in probe.implies
        if dice.random() < 0.6
    )
    error = dice.choice((0, ERROR, ERROR, ERROR, 5 * ERROR))
    pairs = [(0, 1, 300), (1, 2, 2 * error + 500)] if dice.random() < 0.2 else []
    return Plan(
        "x86_64",
        "storm",
        tuple(
            Slot(
                ("irq", "nmi")[n],
                n,
                V + n * dice.choice((PAGE, 600 * PAGE)) if dice.random() < 0.85 else None,
                dice.choice(("page", "report")),  # type: ignore[arg-type]
                module="ghes" if n and dice.random() < 0.2 else "",
            )
            for n in range(slots)
        ),
        probes,
        cpus=dice.choice(((0, 1, 2), (0, 1, 2), (0, 1, 2), (0, 1, 2, 3), ())),
        pti=dice.random() < 0.03,
        forced_broadcast=dice.random() < 0.05,
        clock_error_ns=error,
        clock_proven_ns=error * 4 if dice.random() < 0.15 else None,
        pair_errors_ns=tuple(pairs),
        implications=proven,
        contexts=dice.random() < 0.97,
    )


class Storm:
    """The record of a seed: its `plan`, and its `batches` as a source would deliver them."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(f"storm {seed}")
        self.plan = plan(self.dice)
        self.protocol = self.dice.choice(PROTOCOLS)
        self.addresses = [slot.address or V + 1200 * PAGE for slot in self.plan.slots]
        self.points = {probe.kind: n for n, probe in enumerate(self.plan.probes)}
        self.idle = True  # whether nothing runs
        self.number = 0
        self.events = joined([empty(), *self.recorded()])
        self.batches = list(self.cut())

    # -- what happens ------------------------------------------------------------------------

    def handler(self, cpu: int) -> Run:
        """A notification: some pages of one slot."""
        dice = self.dice
        slot = dice.randrange(len(self.plan.slots))
        ctx = dice.choice((IRQ, IRQ, SOFTIRQ)) if not slot else dice.choice((NMI, NMI, IRQ))
        steps: list[Step] = []

        def add(kind: Kind, **fields: int) -> None:
            steps.append((cpu, ctx, kind, fields))

        if dice.random() < 0.95:
            add(Kind.NOTIFY)
        per_page = dice.random() < 0.5
        for number in range(dice.choice((1, 1, 1, 2, 2, 3))):
            if per_page or not number:
                add(Kind.COPY, size=64, flags=dice.choice((0, 0, 1, 2, 3)))
            self.page(add, slot, dice)
            if per_page:
                add(Kind.COPY_END)
        if not per_page:
            add(Kind.COPY_END)
        add(Kind.NOTIFY_END)
        if ctx == NMI and dice.random() < 0.3:
            steps.append((cpu, NMI, Kind.NMI_REF, {}))
        if dice.random() < 0.5:
            steps.append((cpu, TASK, Kind.NMI_REF, {}))
        return cpu, ctx, steps

    def page(self, add: Any, slot: int, dice: Random) -> None:
        """One page by the kernel's protocol."""
        address, how = self.addresses[slot], self.protocol
        if how == "pre":
            add(Kind.INV_PAGE, addr=address)
        add(Kind.MAP, slot=slot, phys=FRAME + PAGE * dice.choice((0, 0, 1, 1, 2)))
        if how == "map-flush":
            add(Kind.INV_PAGE, addr=address)
        add(Kind.MAP_END, slot=slot)
        for _ in range(dice.choice((1, 1, 1, 2))):
            add(dice.choice((Kind.READ, Kind.READ, Kind.WRITE)), addr=address + 16, size=4,
                slot=dice.choice((NO_SLOT, slot)))  # fmt: skip
        add(Kind.UNMAP, slot=slot)
        if how in ("local", "map-flush", "by hand") and dice.random() < 0.9:
            add(Kind.INV_PAGE, addr=address)
        elif how == "broadcast":
            add(Kind.BCAST_RANGE, addr=address, size=PAGE)
            add(Kind.BCAST_END)
        if how == "by hand":
            add(Kind.SHOOTDOWN, addr=address, flags=1)  # which `recorded` sends
        add(Kind.UNMAP_END, slot=slot)

    def other(self, cpu: int) -> Run:
        """What has nothing to do with GHES."""
        dice = self.dice
        ctx, address = dice.choice(tuple(Context)), dice.choice(self.addresses)
        kind = dice.choice((Kind.INV_PAGE, Kind.INV_RANGE, Kind.INV_ALL, Kind.BCAST_RANGE,
                            Kind.BCAST_ALL, Kind.EDIT, Kind.EDIT, Kind.SHOOTDOWN))  # fmt: skip
        fields = {"addr": address, "size": dice.choice((0, PAGE, 9 * PAGE))}
        if kind in (Kind.INV_RANGE, Kind.BCAST_RANGE, Kind.EDIT) and dice.random() < 0.5:
            fields = {"addr": address - dice.choice((1, 4, 300)) * PAGE,
                      "size": dice.choice((1, 4, 5, 600)) * PAGE}  # fmt: skip
        elif dice.random() < 0.3:
            fields = {"addr": address + dice.choice((0, 16, PAGE - 16)),
                      "size": dice.choice((16, 17, PAGE - 16, PAGE))}  # fmt: skip
        if kind == Kind.SHOOTDOWN:
            fields["flags"] = dice.choice((0, 1))
        steps: list[Step] = [(cpu, ctx, kind, fields)]
        if kind in (Kind.BCAST_RANGE, Kind.BCAST_ALL):
            steps.append((cpu, ctx, Kind.BCAST_END, {}))
        if kind == Kind.EDIT:
            steps += [(cpu, ctx, Kind.NMI_REF, {})] * dice.choice((0, 1, 2))
            steps.append((cpu, ctx, Kind.EDIT_END, {}))
        if dice.random() < 0.4:
            steps.append((cpu, TASK, Kind.NMI_REF, {}))
        return cpu, ctx, steps

    def happens(self) -> Iterator[Step]:
        """All steps of all CPUs, in an order that may be."""
        dice = self.dice
        cpus = dice.choice((1, 2, 2, 3, 3))
        waiting = [
            self.handler(dice.randrange(cpus)) if dice.random() < 0.7 else
            self.other(dice.randrange(cpus)) for _ in range(dice.choice((3, 5, 8, 12)))
        ]  # fmt: skip
        running: list[list[Run]] = [[] for _ in range(cpus)]
        fairness, locked = dice.choice((0.05, 0.3, 0.6)), dice.random() < 0.8
        while waiting or any(running):
            busy = [stack for stack in running if stack]
            self.idle = not busy
            if waiting and (not busy or dice.random() < fairness):
                run = waiting.pop()
                stack = running[run[0]]
                while locked and (owner := holder(running, run)):
                    yield owner[2].pop(0)
                    for other in running:
                        other[:] = [one for one in other if one[2]]
                if stack and stack[-1][1] >= run[1]:  # it can't interrupt what runs there
                    yield from stack.pop()[2]
                stack.append(run)
                continue
            stack = dice.choice(busy)
            yield stack[-1][2].pop(0)
            if not stack[-1][2]:
                stack.pop()

    # -- what is recorded of it ----------------------------------------------------------------

    def recorded(self) -> Iterator[Events]:
        """The events that a probe showed, stamped."""
        dice, now = self.dice, 1_000_000
        error = self.plan.clock_error_ns
        near = (0, 0, 1, error - 1, error, error + 1, error // 2, 2 * error + 1)
        tight, skipped = dice.choice((0, 0.2, 0.8)), dice.choice((0, 0, 0.03, 0.08))
        for cpu, ctx, kind, fields in self.happens():
            now += max(dice.choice(near), 0) if dice.random() < tight else 10_000
            if self.idle and dice.random() < 0.02:
                now += 1_050_000_000  # longer than anything lasts
            steps: list[Step] = [(cpu, ctx, kind, fields)]
            if kind == Kind.SHOOTDOWN and self.protocol == "by hand" and fields["flags"]:
                flush = {"addr": fields["addr"]}
                steps += [(n, IRQ, Kind.INV_PAGE, flush) for n in range(3) if n != cpu]
                steps += [(n, TASK, Kind.NMI_REF, {}) for n in range(3) if n != cpu]
            for step in steps:
                if dice.random() < skipped or step[2].name not in self.points:
                    continue
                for _ in range(2 if dice.random() < 0.005 else 1):
                    yield self.event(now, *step)
                now += 10 if len(steps) > 1 else 0

    def event(self, now: int, cpu: int, ctx: Context, kind: Kind, fields: dict[str, int]) -> Events:
        """One event; of one in a hundred the stamp is late."""
        event = empty(1)
        late = self.dice.randrange(30_000) if self.dice.random() < 0.01 else 0
        event["ts"], event["cpu"], event["kind"], event["ctx"] = now + late, cpu, kind, ctx
        event["pid"], event["slot"] = 100 + cpu, NO_SLOT
        event["point"] = self.points.get(kind.name, NO_POINT)
        for name, value in fields.items():
            event[name] = value
        self.number += 1
        event["seq"] = self.number
        return event

    def losses(self) -> list[Events]:
        """Losses between stamps, at stamps, of everything, a probe, a CPU."""
        dice, stamps = self.dice, sorted(self.events["ts"].tolist())
        if not stamps or dice.random() < 0.5:
            return []
        found = []
        for _ in range(dice.choice((1, 1, 2, 3))):
            first = dice.randrange(len(stamps))
            last = min(first + dice.choice((0, 1, 3, 9, 40)), len(stamps) - 1)
            begin = stamps[first] + dice.choice((-5_000, -1, 0, 1))
            end = max(stamps[last] + dice.choice((-1, 0, 1, 5_000)), begin)
            found.append(
                loss(
                    dice.choice((begin, begin, begin, 0)),
                    end,
                    dice.choice(CAUSES),
                    cpu=dice.choice((0, 0, 1, 1, 2, ALL_CPUS)),
                    count=dice.choice((0, 1, 1, 2, 5)),
                    point=dice.choice((NO_POINT, *self.points.values())),
                )
            )
        return found

    def cut(self) -> Iterator[Events]:
        """The stream in pieces, each with a MARK behind what was delivered."""
        left, losses = self.events, self.losses()
        size = len(left)
        for at in sorted(self.dice.sample(range(size), min(size, self.dice.choice((0, 1, 3, 6))))):
            at -= size - len(left)
            until = int(left["ts"][at:].min())
            told = [one for one in losses if int(one["addr"][0]) < until]
            losses = [one for one in losses if int(one["addr"][0]) >= until]
            yield joined([empty(), *told, left[:at], mark(until)])
            left = left[at:]
        yield joined([empty(), *losses, left])


def holder(running: list[list[Run]], run: Run) -> Run | None:
    """Who has the lock that a *run* needs."""
    needs = slots(run)
    for stack in running:
        for one in stack:
            if needs & slots(one):
                return one
    return None


def slots(run: Run) -> set[int]:
    """The slots that a run maps and unmaps yet."""
    return {fields["slot"] for _, _, kind, fields in run[2] if kind in (Kind.MAP, Kind.UNMAP)}


def whole(storm: Storm) -> Any:
    """The report on a storm that is not cut."""
    engine = Engine(storm.plan)
    for batch in storm.batches:
        engine.feed(batch[batch["kind"] != Kind.MARK])
    engine.finish()
    return engine.report()


def answer(seed: int) -> tuple[Any, list[object]]:
    """The report on the storm of a seed, and what was said of each episode."""
    storm = Storm(seed)
    engine = Engine(storm.plan)
    judged = [one for batch in storm.batches for one in engine.feed(batch)]
    judged += engine.finish()
    said: list[object] = []
    for one in judged:
        columns = one.cls, one.why, one.latent, one.handoff, one.before
        said += [one.slot, one.episodes.tobytes(), *(column.tolist() for column in columns)]
    return engine.report(), said
