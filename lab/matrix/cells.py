# SPDX-License-Identifier: Apache-2.0
"""Read from one capture what a row of the page says of each way to notify.

That is how many hand-offs there were, what made them safe, and what was lost.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Class, Judged
from ghesrace.events import Context
from ghesrace.plan import Plan
from ghesrace.sources.capture.file import CaptureSource

NOTIFICATIONS = ("nmi", "irq", "polled", "sea")


@dataclass(frozen=True, slots=True)
class Way:
    """This says how a way to notify shows in events.

    It has a slot, and a context too if other ways share the slot.
    """

    slot: str
    context: Context | None = None


# The ways are ghes_notify_nmi(), ghes_irq_func(), ghes_poll_func() and ghes_notify_sea() of
# drivers/acpi/apei/ghes.c.
WAYS: dict[str, dict[str, Way]] = {
    "amd64": {
        "nmi": Way("GHES_NMI"),
        "irq": Way("GHES_IRQ", Context.IRQ),
        "polled": Way("GHES_IRQ", Context.SOFTIRQ),
    },
    "arm64": {
        "irq": Way("GHES_IRQ", Context.IRQ),
        "polled": Way("GHES_IRQ", Context.SOFTIRQ),
        "sea": Way("GHES_SEA"),
    },
}
NO_WAY = {
    ("amd64", "sea"): "x86 has no SEA",
    ("arm64", "nmi"): "arm64 has no NMI notification; SEA and SDEI stand in for it",
}


@dataclass(slots=True)
class CellCounts:
    """These count, for one way to notify, the episodes and the hand-offs between CPUs by class.

    >>> CellCounts(9, 5, {"map-flush": 4, "none": 1}).mechanism
    'map-flush'
    """

    episodes: int
    handoffs: int
    classes: dict[str, int]

    @property
    def mechanism(self) -> str:
        """Return the class of most hand-offs, or "" if there is none."""
        return max(self.classes, key=lambda name: self.classes[name], default="")


def measure(path: Path, arch: str) -> dict[str, Any]:
    """Judge the capture at *path*, of a kernel for *arch* ("amd64", "arm64").

    Returns a JSON object: the verdict, its reasons, the losses, `ways` (the CellCounts of each way
    to notify), and from the plan the probe points and what is unseen. Raises InputError if it is
    no capture.

        measure(Path("examples/stock.arrows"), "amd64")["ways"]["nmi"]["handoffs"]
    """
    source = CaptureSource(path)
    engine = Engine(source.plan)
    judged = [slot for batch in source.batches() for slot in engine.feed(batch)]
    judged += engine.finish()
    report = engine.report()
    return {
        "release": source.plan.release,
        "verdict": report.verdict.word,
        "reasons": report.reasons,
        "events": report.events,
        "losses": report.losses,
        "ways": {
            name: asdict(_counts(judged, source.plan, way)) for name, way in WAYS[arch].items()
        },
        "probes": _probes(source.plan),
        "unseen": [[u.what, u.why] for u in source.plan.unseen],
        "not_checked": source.plan.not_checked,
    }


def _counts(judged: list[Judged], plan: Plan, way: Way) -> CellCounts:
    episodes, classes = 0, Counter[str]()
    for slot in judged:
        if plan.slots[slot.slot].name.rpartition(":")[2] != way.slot:
            continue
        mine = np.ones(len(slot.episodes), np.bool_)
        if way.context is not None:
            mine = slot.episodes["ctx"] == way.context
        episodes += int(mine.sum())
        for cls in slot.cls[mine & slot.handoff]:
            classes[Class(int(cls)).name.lower().replace("_", "-")] += 1
    return CellCounts(episodes, classes.total(), dict(classes))


def _probes(plan: Plan) -> dict[str, list[str]]:
    """Return {probe point: its symbols, each as "symbol (mechanism)" and only once}."""
    found: dict[str, list[str]] = {}
    for probe in plan.probes:
        served = f"{probe.symbol} ({probe.mechanism})"
        if served not in found.setdefault(probe.point, []):
            found[probe.point].append(served)
    return found
