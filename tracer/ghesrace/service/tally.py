# SPDX-License-Identifier: Apache-2.0
"""This module counts what went by for the metrics: events, losses and hand-offs.

It judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ghesrace.checker.model import Judged
from ghesrace.events import (
    ALL_CPUS,
    NEVER,
    NO_POINT,
    Cause,
    Context,
    Events,
    Kind,
    present,
    promised,
    select,
)
from ghesrace.plan import Plan

EVENT_KINDS = tuple(k for k in Kind if k < Kind.LOSS)
# The stage tells the operator where a loss happened, and so whether a bigger buffer would cure it.
STAGES = {
    Cause.OVERRUN: "buffer",
    Cause.DROPPED: "buffer",
    Cause.MISSED: "probe",
    Cause.NMI_UNMATCHED: "probe",
    Cause.PROBE_GONE: "probe",
    Cause.CPU_ONLINE: "host",
    Cause.CLOCK: "host",
    Cause.UNWATCHED: "host",
    Cause.TRUNCATED: "file",
    Cause.UNREAD: "file",
}
REMAP_BOUNDS = tuple(10.0**e for e in range(-6, 5))  # seconds; the last bucket is open

Counts = npt.NDArray[np.int64]


def _zeros(*shape: int) -> Counts:
    return np.zeros(shape, np.int64)


@dataclass(slots=True)
class Tally:
    """A tally has the counters of one run. They only grow, and how many there are depends on the
    plan and the number of CPUs alone.

    `kinds` counts records by Kind and Context (shape (Kind.LOSS, 4)), `losses` counts LOSS records
    by Cause, and `lost` the events that they name. `missed` counts missed hits by probe, and
    `remap` counts hand-offs by the time since the unmap (REMAP_BOUNDS, in seconds). `gone` has the
    probes that do not fire now. Times are in ns of the capture's clock, and 0 stands for never.

    >>> from ghesrace.events import loss
    >>> tally = Tally(Plan("x86_64", "6.12", (), ()))
    >>> tally.count(loss(begin=5, end=9, cause=Cause.OVERRUN, count=3), [])
    >>> int(tally.lost[Cause.OVERRUN])
    3
    """

    plan: Plan
    kinds: Counts = field(default_factory=lambda: _zeros(Kind.LOSS, len(Context)))
    losses: Counts = field(default_factory=lambda: _zeros(max(Cause) + 1))
    lost: Counts = field(default_factory=lambda: _zeros(max(Cause) + 1))
    missed: Counts = field(init=False)
    remap: Counts = field(default_factory=lambda: _zeros(len(REMAP_BOUNDS) + 1))
    remap_sum_ns: int = 0
    gone: frozenset[int] = frozenset()
    last_event: int = 0
    last_notification: int = 0
    watermark: int = 0
    cpu_events: dict[int, int] = field(default_factory=dict)
    cpu_lost: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.missed = _zeros(len(self.plan.probes))

    def count(self, batch: Events, judged: list[Judged]) -> None:
        """Count one batch (EVENT, shape (n,)), and the episodes that it decided."""
        kind = batch["kind"]
        events = batch[kind < Kind.LOSS]
        if len(events):
            pairs = events["kind"].astype(np.int64) * len(Context) + events["ctx"]
            self.kinds += np.bincount(pairs, minlength=self.kinds.size).reshape(self.kinds.shape)
            self.last_event = max(self.last_event, int(events["ts"].max()))
            notes = events["ts"][np.isin(events["kind"], (Kind.NOTIFY, Kind.NMI_REF))]
            self.last_notification = max(self.last_notification, int(notes.max(initial=0)))
            _per_cpu(self.cpu_events, events["cpu"], np.ones(len(events), np.int64))
        self._lose(select(batch, Kind.LOSS))
        self.watermark = max(self.watermark, promised(batch))
        for slot in judged:
            self._handoffs(slot)

    def _lose(self, losses: Events) -> None:
        cause = losses["cause"]
        gone = losses["point"][cause == Cause.PROBE_GONE]
        everything = frozenset(range(len(self.plan.probes)))
        self.gone = everything if (gone == NO_POINT).any() else frozenset(gone.tolist())
        if not len(losses):
            return
        count = losses["count"].astype(np.int64)
        np.add.at(self.losses, cause, 1)
        np.add.at(self.lost, cause, count)
        named = (cause == Cause.MISSED) & (losses["point"] < len(self.missed))
        np.add.at(self.missed, losses["point"][named], count[named])
        here = losses["cpu"] != ALL_CPUS
        _per_cpu(self.cpu_lost, losses["cpu"][here], count[here])

    def _handoffs(self, judged: Judged) -> None:
        at = np.flatnonzero(judged.handoff)
        unmap, mapped = judged.before[at], judged.episodes["t_map"][at]
        known = unmap != NEVER
        waited = np.maximum(mapped[known] - unmap[known], 0)
        bucket = np.searchsorted(REMAP_BOUNDS, waited / 1e9, side="left")
        self.remap += np.bincount(bucket, minlength=len(self.remap))
        self.remap_sum_ns += int(waited.sum())


def _per_cpu(counts: dict[int, int], cpus: npt.NDArray[np.uint16], weights: Counts) -> None:
    for cpu in present(cpus).tolist():
        counts[cpu] = counts.get(cpu, 0) + int(weights[cpus == cpu].sum())
