# SPDX-License-Identifier: Apache-2.0
"""Ring-buffer records of the plan's probes -> events of events.EVENT. No I/O.

Per CPU the decoder keeps what must survive from one read to the next: the position in the
buffer and the last stamp, so that a loss gets the exact place and window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ghesrace.errors import InputError
from ghesrace.events import NO_SLOT, Cause, Context, Events, Flag, Kind, empty, loss, select
from ghesrace.plan import FieldOf, Plan, Probe
from ghesrace.sources.tracefs_text import FLAG_OF
from ghesrace.sources.values import Value, slots_by_index, values

from .pages import EventFormat, PageLayout, Records, decode


def _contexts() -> npt.NDArray[np.uint8]:
    table = np.full(256, Context.TASK, np.uint8)
    flags = np.arange(256)
    table[flags & FLAG_OF["softirq"] != 0] = Context.SOFTIRQ
    table[flags & FLAG_OF["irq"] != 0] = Context.IRQ
    table[flags & FLAG_OF["nmi"] != 0] = Context.NMI
    return table


# Context by common_flags.
CONTEXT_OF = _contexts()


@dataclass(frozen=True, slots=True)
class Attached:
    """One probe of the plan, attached: its index in Plan.probes and its event's format."""

    point: int
    probe: Probe
    format: EventFormat

    def column(
        self, name: str, records: Records, rows: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.uint64]:
        """The plan's field *name* in the *rows* of *records*. Raises InputError if it is not there.

        A tracepoint and a foreign trace call it as the plan says, our own probe event as we do.
        """
        fetch = self.probe.fields[name]
        key = fetch.field if isinstance(fetch, FieldOf) else name
        try:
            return records.column(self.format.fields[key], rows)
        except KeyError:
            raise InputError(
                f"event {self.format.name} has no field {key!r}",
                "the plan does not fit this kernel: run `ghesrace plan` on it",
            ) from None


class SlotTable:
    """Fixmap index -> slot of the plan.

    Where there was no BTF, slots have no index in the plan: the copy's own argument names
    them, in the order of appearance. One table serves all CPUs of a run.
    """

    def __init__(self, plan: Plan) -> None:
        slots = enumerate(plan.slots)
        self._known = slots_by_index(plan)
        self._spare = [i for i, s in slots if s.index is None and s.family == "fixmap"]

    @property
    def complete(self) -> bool:
        """Whether every slot's index is known."""
        return not self._spare

    def learn(self, indices: npt.NDArray[np.uint64]) -> None:
        """Take indices that ghes_copy_tofrom_phys() was called with."""
        for index in np.unique(indices).tolist():
            if index not in self._known and self._spare:
                self._known[index] = self._spare.pop(0)

    def slots(self, indices: npt.NDArray[np.uint64]) -> npt.NDArray[np.int16]:
        """Slot of each index, NO_SLOT for an index that is no slot of the plan."""
        slot = np.full(len(indices), NO_SLOT, np.int16)
        for index, number in self._known.items():
            slot[indices == np.uint64(index)] = number
        return slot


@dataclass(slots=True)
class CpuState:
    """What must survive from one read of a CPU to the next."""

    last_ts: int  # ns: nothing before it can be lost any more
    seq: int = 0  # position of the next event in the CPU's buffer, lost ones counted
    overrun: int = 0  # events known to be overwritten, to compare with per_cpu/*/stats


class Decoder:
    """Turns raw pages into events, in buffer order per CPU, with the losses in place.

    All CPUs' pages are decoded in one go, so that a tick costs the same on a big machine.
    *start* (ns): begin of the window of a loss that comes before a CPU's first event.
    *counters*: read = kept + other; "lost:overrun".
    """

    def __init__(
        self,
        slots: SlotTable,
        attached: list[Attached],
        layout: PageLayout,
        start: int,
        counters: Counter[str],
    ) -> None:
        self.cpus: dict[int, CpuState] = {}
        self._slots = slots
        self._attached = attached
        self._layout = layout
        self._start = start
        self._counters = counters

    def feed(self, chunks: dict[int, bytearray], complete: int = 0) -> Events:
        """Events of whole raw pages in read order; *chunks*: CPU -> its pages.

        *complete* (ns): everything before it was read earlier. The result is grouped by CPU,
        in the order of *chunks*. Raises InputError on damaged pages.
        """
        records = decode(b"".join(chunks.values()), self._layout)
        pages = [len(data) // self._layout.size for data in chunks.values()]
        last_page = np.cumsum(pages, dtype=np.int64)
        events, keep = self._events(records)
        events["cpu"] = np.repeat(list(chunks), pages)[records.page]

        losses: list[Events] = []
        places: list[int] = []
        bounds = [0, *np.searchsorted(records.page, last_page).tolist()]
        for number, cpu in enumerate(chunks):
            state = self.cpus.setdefault(cpu, CpuState(self._start))
            state.last_ts = max(state.last_ts, complete)
            span = range(bounds[number], bounds[number + 1])
            first_page = int(last_page[number]) - pages[number]
            seq = np.arange(len(span), dtype=np.uint64) + np.uint64(state.seq)
            lossy = np.flatnonzero(records.missed[first_page : last_page[number]]) + first_page
            lost = 0
            for page in lossy.tolist():  # per loss, not per event
                overrun = self._overrun(cpu, state, records, page, span)
                count = int(select(overrun, Kind.LOSS)["count"][0]) or 1  # its place in the buffer
                first = max(int(records.first[page]), span.start)
                overrun["seq"] = state.seq + first - span.start + lost
                seq[first - span.start :] += np.uint64(count)
                lost += count
                losses.append(overrun)
                places.append(first)
            events["seq"][span.start : span.stop] = seq
            state.seq += len(span) + lost
            if len(span):
                state.last_ts = max(state.last_ts, int(records.ts[span.stop - 1]))

        kept = events[keep]
        self._counters["read"] += len(events)
        self._counters["kept"] += len(kept)
        self._counters["other"] += len(events) - len(kept)
        if losses:
            before = np.concatenate(([0], np.cumsum(keep)))
            kept = np.insert(kept, before[places], np.concatenate(losses))
        return kept

    def _overrun(
        self, cpu: int, state: CpuState, records: Records, page: int, span: range
    ) -> Events:
        """The LOSS before the first event of a page that follows overwritten ones."""
        first = int(records.first[page])
        begin = state.last_ts
        if first > span.start:
            begin = max(begin, int(records.ts[first - 1]))
        end = int(records.ts[first]) if first < span.stop else int(records.page_ts[page])
        count = max(int(records.missed[page]), 0)
        state.overrun += count
        self._counters["lost:overrun"] += count
        self._counters["uncounted losses"] += count == 0
        return loss(min(begin, end), end, Cause.OVERRUN, cpu, count)

    def _events(self, records: Records) -> tuple[Events, npt.NDArray[np.bool_]]:
        events = empty(len(records))
        keep = np.zeros(len(records), bool)
        if not self._attached or not len(records):
            return events, keep
        everything = np.arange(len(records))
        common = self._attached[0].format.fields
        types = records.column(common["common_type"], everything)
        flags = records.column(common["common_flags"], everything)
        events["pid"] = records.column(common["common_pid"], everything).astype(np.uint32)
        events["ts"] = records.ts
        events["ctx"] = CONTEXT_OF[flags & 0xFF]
        events["flags"] = np.where(flags & FLAG_OF["interrupts-off"], Flag.IRQS_OFF, 0)
        if not self._slots.complete:
            for a in self._attached:
                if a.probe.kind == Kind.COPY.name and "index" in a.probe.fields:
                    rows = np.flatnonzero(types == a.format.id)
                    self._slots.learn(a.column("index", records, rows))
        for a in self._attached:
            rows = np.flatnonzero(types == a.format.id)
            if len(rows):
                keep[rows] = self._fill(events, rows, records, a)
        return events, keep

    def _fill(
        self, events: Events, rows: npt.NDArray[np.intp], records: Records, attached: Attached
    ) -> npt.NDArray[np.bool_]:
        """Fill the events *rows* of one probe; which of them concern a slot of the plan."""
        probe, of = attached.probe, values(attached.probe)

        def column(name: str) -> npt.NDArray[np.uint64]:
            return attached.column(name, records, rows)

        events["point"][rows] = attached.point
        if probe.slot is not None:
            events["slot"][rows] = probe.slot
        for name, value in (("addr", of.addr), ("phys", of.phys), ("size", of.size)):
            if value is not None:
                events[name][rows] = _computed(value, column)
        if of.writes is not None:
            writes = column(of.writes) == 0
            events["flags"][rows] |= np.where(writes, Flag.WRITE, 0).astype(np.uint8)
        kind = np.full(len(rows), Kind[probe.kind], np.uint8)
        if probe.clear_kind is not None:
            clears = np.ones(len(rows), bool)
            for name in of.clears:
                clears &= column(name) == 0
            kind[clears] = Kind[probe.clear_kind]
        events["kind"][rows] = kind
        if of.index is None:
            return np.ones(len(rows), bool)
        slot = self._slots.slots(column(of.index))
        events["slot"][rows] = slot
        return np.asarray(slot != NO_SLOT)


def _computed(
    value: Value, column: Callable[[str], npt.NDArray[np.uint64]]
) -> npt.NDArray[np.uint64]:
    """*value* of what *column* returns for each of its fields."""
    made = column(value.field)
    if value.shift:
        made = made << np.uint64(value.shift)
    if value.minus:
        made = made - column(value.minus)
    return made + column(value.plus) if value.plus else made
