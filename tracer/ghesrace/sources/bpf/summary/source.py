# SPDX-License-Identifier: Apache-2.0
"""The summary source yields what the kernel judged by itself (probes/summary_*.bpf.c), as batches.

Episodes that are not safe come through the rings, like events, as events.SUMMARY_EPISODE. Counters
and samples are read from the mapped state at every tick, and become records of the same stream:
events.SUMMARY_COUNT and SUMMARY_SAMPLE.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from ghesrace.events import MOST_AGAIN, Events, Kind, Sample, Trait, as_events, blank
from ghesrace.host.clocks import clock_now
from ghesrace.plan import Plan
from ghesrace.sources.accounts import Accounts
from ghesrace.sources.bpf.attach import RING_MAPS, STATES
from ghesrace.sources.bpf.source import BpfSource
from ghesrace.sources.nmi import NmiMatcher

from . import program
from .program import KNOWN

SHAPE = np.dtype(
    [
        ("frame", "<u8"),
        ("begin", "<u8"),
        ("end", "<u8"),
        ("call", "<u4"),
        ("level", "u1"),
        ("traits", "u1"),
        ("pad", "<u2"),
    ]
)
SHAPES = np.dtype([("known", "<u4"), ("sure", "<u4"), ("of", SHAPE, 4)])
AGAIN = np.dtype(
    [
        ("begin", "<u8"),
        ("threat", "<u8"),
        ("frame", "<u8"),
        ("n", "<u4"),
        ("threat_cpu", "<u2"),
        ("cls", "u1"),
        ("traits", "u1"),
    ]
)
COUNTERS = 32
_CLOSED, _TAIL, _UNCERTAIN = 0, 4, 6  # of `state`: an episode is between them; of checker's Class
_WORDS = (
    *("number", "begin", "frame", "since", "since_maybe", "covered", "hold", "lucky", "maybe"),
    *("pending", "later", "luck_told", "met", "later_met", "entered", "ended", "pre", "pre_maybe"),
    *("after", "after_of", "telling"),
)
_BYTES = ("state", "level", "base", "traits", "pre_level", "telling_level", "waits", "stuck")
OWN = np.dtype(
    [
        ("counts", "<u8", COUNTERS),
        ("shapes", SHAPES, 3),
        ("again", AGAIN, KNOWN),
        *((name, "<u8") for name in _WORDS),
        ("call", "<u4"),
        ("pre_call", "<u4"),
        *((name, "u1") for name in _BYTES),
    ]
)
# The index of a counter is a class plus _CLASSES times a number whose bits are these traits, in
# this order.
_CLASSES = 4
_TRAITS = (Trait.FLUSHED, Trait.HANDOFF, Trait.LATENT)
_SAMPLES = (Sample.EXPOSES, Sample.VULNERABLE, Sample.VULNERABLE)  # what the three `shapes` are


def state_dtype(slots: int) -> np.dtype[np.void]:
    """Return the layout of struct state in probes/summary_state.bpf.c, for a plan of so many
    *slots*."""
    parts = [("edge", "<u4", 4), ("ticks", "<u4"), ("pid", "<u4"), ("notified", "u1")]
    parts += [("pending", "u1"), ("clearing", "u1"), ("direct", "u1"), ("pad", "<u4")]
    return np.dtype([*parts, ("own", OWN, slots)])


def counter(index: int) -> tuple[int, Trait]:
    """Return the class and the traits of the episodes that counter *index* counts.

    >>> counter(6)
    (2, <Trait.FLUSHED: 1>)
    """
    bits = index // _CLASSES
    traits = [trait for n, trait in enumerate(_TRAITS) if bits >> n & 1]
    return index % _CLASSES, Trait(sum(traits))


class States:
    """This maps the state of *cpus* CPUs at *slots* slots, and `read` hands out what is new in it.

    *fd* is the BPF array of struct state, and *start* (ns) is when its programs were attached.
    """

    def __init__(self, fd: int, *, slots: int, cpus: int, start: int) -> None:
        dtype = state_dtype(slots)
        size = -(-dtype.itemsize * cpus // mmap.PAGESIZE) * mmap.PAGESIZE
        self._map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
        states = np.frombuffer(self._map, dtype, cpus)
        self._rows: npt.NDArray[np.void] = states["own"]
        self._edges: npt.NDArray[np.uint32] = states["edge"]
        self._counted = np.zeros((cpus, slots, COUNTERS), np.uint64)
        self._sampled = np.zeros((cpus, slots, len(_SAMPLES)), np.uint32)
        self._again = np.ones((cpus, slots, KNOWN), np.uint32)  # The first one was recorded.
        self._read = start

    def close(self) -> None:
        """Unmap the state."""
        del self._rows, self._edges
        self._map.close()

    def read(self, now: int, final: bool) -> list[Events]:
        """Return what is new at *now* (ns) as SAMPLE, COUNT and AGAIN records, which are parts of a
        batch. *final* says that no program runs any more."""
        counts = self._rows["counts"].copy()
        samples = self._new_samples(now, final)
        more = counts - self._counted
        at = np.nonzero(more)
        records = blank(Kind.COUNT, len(at[0]))
        records["begin"], records["end"] = self._read, now
        records["cpu"], records["slot"], records["count"] = at[0], at[1], more[at]
        said = [counter(int(index)) for index in at[2]]
        records["cls"], records["traits"] = [c for c, _ in said], [int(t) for _, t in said]
        self._counted, self._read = counts, now
        ends = [self._open_ends(now)] if final else []
        return [*samples, as_events(records), self._repeated(now), *ends]

    def _open_ends(self, now: int) -> Events:
        """Return, as EPISODE records, the episodes whose handler was left without an unmap, as far
        as no later map has shown that."""
        own = self._rows
        mapped = (own["state"] > _CLOSED) & (own["state"] < _TAIL)
        edge = np.take_along_axis(self._edges, own["level"].astype(np.int64), axis=1)
        at = np.nonzero(mapped & (own["call"] != edge))
        records = blank(Kind.EPISODE, len(at[0]))
        records["ts"], records["cls"] = now, _UNCERTAIN
        records["cpu"] = records["mapper"] = at[0]
        records["slot"], records["ctx"] = at[1], own["level"][at]
        for name in ("begin", "frame", "call"):
            records[name] = own[name][at]
        return as_events(records)

    def _repeated(self, now: int) -> Events:
        n = np.maximum(self._rows["again"]["n"], 1)
        more = np.minimum(n - self._again, MOST_AGAIN)
        at = np.nonzero(more)
        first = self._rows["again"][at]
        records = blank(Kind.AGAIN, len(first))
        records["begin"], records["end"] = first["begin"], now
        records["cpu"], records["slot"], records["count"] = at[0], at[1], more[at]
        for name in ("cls", "traits", "frame"):
            records[name] = first[name]
        self._again += more
        return as_events(records)

    def _new_samples(self, now: int, final: bool) -> list[Events]:
        # A lock hold that goes on may yet broadcast to all CPUs, and at the end no hold goes on.
        known = self._rows["shapes"]["known" if final else "sure"].astype(np.uint32)
        found = []
        for cpu, slot, sort in zip(*np.nonzero(known > self._sampled), strict=True):
            first, last = self._sampled[cpu, slot, sort], known[cpu, slot, sort]
            shapes = self._rows["shapes"]["of"][cpu, slot, sort][first:last]
            records = blank(Kind.SAMPLE, len(shapes))
            records["ts"], records["sample"] = now, _SAMPLES[sort]
            for name in ("begin", "end", "frame", "call", "traits"):
                records[name] = shapes[name]
            records["cpu"] = records["mapper"] = cpu
            records["slot"], records["ctx"] = slot, shapes["level"]
            found.append(as_events(records))
            self._sampled[cpu, slot, sort] = last
        return found


class SummarySource(BpfSource):
    """This source yields the live batches of a summary, whose plan summary.plan.summarised made;
    see BpfSource. The first batch has all that was counted since the programs were attached.

        with SummarySource(summarised(plan), host) as source:  # takes root
            threading.Timer(10, source.stop).start()
            for batch in source.batches():
                engine.feed(batch)
    """

    _write = staticmethod(program.source)
    _maps = (*RING_MAPS, STATES)

    def __init__(self, plan: Plan, host: dict[str, Any], **how: Any) -> None:
        super().__init__(plan, host, **how)
        self._states: States | None = None

    def _attach(self) -> None:
        before = clock_now(self.plan.clock)
        super()._attach()
        assert self._loaded is not None
        after, cpus = self._start, self._cpus
        self._matchers = {cpu: NmiMatcher(after) for cpu in range(cpus)}
        self._start = self._asked = before
        # The state counts from the first hit on, so all misses since then count as losses.
        self._misses = [0] * len(self.plan.probes)
        self._unrun = dict.fromkeys(self._unrun, 0)
        self._settled = dict.fromkeys(self._settled, before)
        self._states = States(
            self._loaded.maps[-1], slots=len(self.plan.slots), cpus=cpus, start=before
        )

    def _detach(self) -> None:
        if self._states is not None:
            self._states.close()
            self._states = None
        super()._detach()

    def _count(self, accounts: Accounts, final: bool, now: int) -> list[Events]:
        parts = super()._count(accounts, final, now)
        assert self._states is not None
        return [*parts, *self._states.read(clock_now(self.plan.clock), final)]
