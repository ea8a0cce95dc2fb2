# SPDX-License-Identifier: Apache-2.0
"""What the checker remembers is bounded by CPUs and slots, not by the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ghesrace.checker import engine as engines
from ghesrace.events import Cause, Context, Kind, empty, joined, loss, mark
from ghesrace.plan import Plan, Probe, Slot
from tests.build.uncompiled import all_uncompiled

V, W, FRAME = 0xFFFFFFFFFF57B000, 0xFFFFFFFFFF58B000, 0x70000000
TRACED = (
    "MAP", "MAP_END", "UNMAP", "UNMAP_END", "INV_PAGE", "INV_ALL", "BCAST_RANGE", "BCAST_ALL",
    "BCAST_END", "COPY", "COPY_END", "READ", "NOTIFY", "NOTIFY_END", "EDIT", "EDIT_END",
    "SHOOTDOWN",
)  # fmt: skip
PERIODS, EVEN = 8, 4  # a bounded state is as large after all of them as after so many
TASK, SOFTIRQ, IRQ, NMI = (int(context) for context in Context)


def plan(untraced: tuple[str, ...] = ()) -> Plan:
    """Two slots, one of either lock; edits and maps that may allocate."""
    probes = tuple(
        Probe(name.lower(), name, name, "kprobe", implies=IMPLIED.get(name, ()))
        for name in TRACED
        if name not in untraced
    )
    slots = Slot("irq", 1, V, "page"), Slot("nmi", 2, W, "report")
    return Plan("x86_64", "test", slots, probes, cpus=(0, 1, 2), clock_error_ns=1000)


IMPLIED = {"MAP": ("may-allocate",), "EDIT": ("may-allocate", "unmaps-status")}


class Period:
    """What happens in one period, which begins *at* (ns) and takes 1.2 s."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.points = [probe.kind for probe in plan.probes]
        self.number, self.now = number, 1_000_000 + number * 1_200_000_000
        self.rows: list[np.ndarray] = []

    def add(self, cpu: int, kind: str, ctx: int = IRQ, *, pid: int = 7, **fields: int) -> None:
        """One event, 20 us after the last. What has no probe is not recorded."""
        self.now += 20_000
        if kind not in self.points and kind != "NMI_REF":
            return
        event = empty(1)
        event["ts"], event["cpu"], event["kind"], event["ctx"] = self.now, cpu, Kind[kind], ctx
        event["seq"], event["pid"] = self.now, pid
        event["point"] = self.points.index(kind) if kind in self.points else 0xFFFF
        for name, value in fields.items():
            event[name] = value
        self.rows.append(event)

    def page(self, cpu: int, frame: int, slot: int, ctx: int, *, skip: str = "") -> None:
        """One page; *skip*: what of it nobody sees."""
        address = (V, W)[slot]
        for kind, fields in (
            ("COPY", {}),
            ("MAP", {"phys": FRAME + frame * 4096, "slot": slot}),
            ("READ", {"addr": address}),
            ("UNMAP", {"slot": slot}),
            ("INV_PAGE", {"addr": address}),
            ("COPY_END", {}),
        ):
            if kind not in skip.split():
                self.add(cpu, kind, ctx, **fields)

    def healthy(self) -> None:
        """Reports on two CPUs in turn, of two slots, and a shootdown by hand."""
        for n in range(2):
            for cpu in (0, 1):
                for slot, ctx in ((0, IRQ), (1, NMI)):
                    self.add(cpu, "NOTIFY", ctx)
                    self.page(cpu, (n + cpu + self.number) % 4, slot, ctx)
                    self.page(cpu, n, slot, ctx)
                    self.add(cpu, "NOTIFY_END", ctx)
                self.add(cpu, "NMI_REF", TASK)
                self.add(2, "INV_PAGE", TASK, addr=V)

    def odd(self) -> None:
        """What begins and does not end, ends and did not begin, or is stamped late."""
        n = self.number
        self.add(2, "BCAST_RANGE", TASK, addr=V, size=4096)
        self.add(2, "BCAST_ALL", IRQ)
        self.add(2, "BCAST_ALL", IRQ)
        self.add(1, "BCAST_END", IRQ)
        self.add(0, "BCAST_RANGE", TASK, addr=V, size=4096)
        self.add(0, "BCAST_END", TASK)
        for pid in range(2):
            self.add(2, "EDIT", TASK, addr=V, size=4096, pid=100 + 10 * n + pid)
        self.add(0, "EDIT", TASK, addr=V, size=4096)
        self.add(1, "MAP", IRQ, phys=FRAME, slot=0)
        self.add(0, "EDIT", IRQ, addr=W, size=4096)
        self.add(0, "EDIT_END", TASK)
        self.add(0, "NOTIFY", NMI)
        self.add(0, "COPY", NMI)
        self.add(0, "MAP", NMI, phys=FRAME + 4096 * (n % 3), slot=1)
        self.add(0, "COPY", NMI)
        self.add(0, "MAP", NMI, phys=FRAME, slot=1)
        self.add(0, "NMI_REF", TASK)
        self.add(1, "COPY", IRQ)
        self.add(1, "READ", IRQ, addr=W)
        self.add(1, "UNMAP", IRQ, slot=1)
        self.add(1, "READ", SOFTIRQ, addr=V)
        self.add(1, "SHOOTDOWN", IRQ, flags=1)
        self.rows[-2]["ts"] += 30_000
        self.add(1, "NMI_REF", TASK)
        self.page(1, n % 3, 0, IRQ, skip="UNMAP INV_PAGE")
        self.page(2, n % 2, 0, SOFTIRQ, skip="MAP COPY_END")
        self.page(2, n % 2, 1, NMI, skip="COPY_END INV_PAGE")
        self.add(2, "NMI_REF", TASK)

    def stream(self) -> np.ndarray:
        """All of it, with two losses, up to a MARK."""
        self.healthy()
        self.odd()
        self.healthy()
        begin, middle = int(self.rows[0]["ts"][0]), int(self.rows[40]["ts"][0])
        losses = [
            loss(middle, middle + 5_000, Cause.OVERRUN, cpu=0, count=1),
            loss(begin, begin + 9_000, Cause.NMI_UNMATCHED, cpu=1),
        ]
        return joined([*losses, *self.rows, mark(self.now + 1_100_000_000)])


def sizes(thing: Any) -> dict[str, int]:
    """How many things are in all lists, dicts and sets that *thing* holds, by where they are; of
    objects beside each other in one sum."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [("", thing)]
    while todo:
        path, one = todo.pop()
        if id(one) in seen or isinstance(one, int | str | bytes | type | np.ndarray | None):
            continue
        seen.add(id(one))
        if isinstance(one, dict | list | tuple | set | frozenset):
            found[path] = found.get(path, 0) + len(one)
            todo += [(path, part) for part in (one.values() if isinstance(one, dict) else one)]
        elif type(one).__module__.startswith("ghesrace"):
            todo += [(f"{path}.{name}", part) for name, part in fields(one)]
    return found


def fields(one: object) -> Iterator[tuple[str, Any]]:
    """The fields of an object."""
    for name in vars(one) if hasattr(one, "__dict__") else dir(one):
        if not name.startswith("__"):
            value = getattr(one, name)
            if not callable(value):
                yield name, value


@pytest.mark.slow
@pytest.mark.parametrize("untraced", ["", "BCAST_END EDIT_END NOTIFY NOTIFY_END"])
def test_what_is_remembered_does_not_grow_with_the_run(untraced: str) -> None:
    """A daemon would eat all memory, and be slower each day: whatever began and never ended, and
    whatever can matter to nothing that comes, has to be forgotten."""
    made = plan(tuple(untraced.split()))
    engine = all_uncompiled(engines).Engine(made)
    at: list[dict[str, int]] = []
    for number in range(PERIODS):
        engine.feed(Period(made, number).stream())
        at.append(sizes(engine.core))
    grown = {path: [one.get(path, 0) for one in at] for path in at[-1]}
    grown = {path: n for path, n in grown.items() if n[-1] > max(n[EVEN - 1 : -1])}
    assert {path for path in grown if ".losses." not in path} == set(), grown
    assert grown  # losses: the test below


def test_old_losses_become_one() -> None:
    """A probe that loses events each second would make each question slower than the last."""
    core = all_uncompiled(engines).Engine(plan()).core
    size = []
    for number in range(1_000):
        begin = number * 20_000_000
        kind = (Cause.MISSED, Cause.OVERRUN)[number % 2]
        core.feed(joined([loss(begin, begin + 9, kind, cpu=number % 3, point=number % 3)]))
        if number % 20 == 0:
            core.feed(mark(begin + 1_000))
        size.append(len(core.losses.all))
    assert max(size[500:]) <= 300
    assert len(core.losses.open) <= 80  # the clock goes on by 1.4 s before one is given up
    (first, *_), last = core.losses.all, core.losses.all[-1]
    assert (first.cpu, first.begin, first.count, first.concluded) == (-1, 0, 0, True)
    assert first.kinds == core.facts.hides[0] | core.facts.hides[1] | core.facts.hides[2]
    assert last.begin == 999 * 20_000_000
    assert first.end == core.losses.all[1].begin - 20_000_000 + 9
