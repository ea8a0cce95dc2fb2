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
from ghesrace.events import EVENT, NO_SLOT, Cause, Context, Events, Kind, joined, loss, pick
from ghesrace.plan import FieldOf, Plan, Probe
from ghesrace.sources.tracefs_text import FLAG_OF
from ghesrace.sources.values import slots_by_index, values

from .pages import (
    I64,
    U64,
    UNCOUNTED,
    EventFormat,
    Field,
    PageLayout,
    Records,
    decode,
    require_number,
)
from .records import TYPES, UNREADABLE, Place, fill, probe_row


def _contexts() -> npt.NDArray[np.uint8]:
    table = np.full(256, Context.TASK, np.uint8)
    flags = np.arange(256)
    table[flags & FLAG_OF["softirq"] != 0] = Context.SOFTIRQ
    table[flags & FLAG_OF["irq"] != 0] = Context.IRQ
    table[flags & FLAG_OF["nmi"] != 0] = Context.NMI
    return table


# Context by common_flags.
CONTEXT_OF = _contexts()
_ALL_BITS = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Attached:
    """One probe of the plan, attached: its index in Plan.probes and its event's format."""

    point: int
    probe: Probe
    format: EventFormat

    def field(self, name: str) -> Field:
        """Where records have the plan's field *name*. Raises InputError if they have not.

        A tracepoint and a foreign trace call it as the plan says, our own probe event as we do.
        """
        fetch = self.probe.fields[name]
        key = fetch.field if isinstance(fetch, FieldOf) else name
        try:
            return self.format.fields[key]
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

    def known(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """The indices that are slots of the plan, and their slots."""
        found = list(self._known.items())
        indices = np.array([index & _ALL_BITS for index, _ in found], np.uint64)
        return indices, np.array([slot for _, slot in found], np.int64)


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
        self._table: _Table | None = None

    def feed(self, chunks: dict[int, bytearray], complete: int = 0) -> Events:
        """Events of whole raw pages in read order; *chunks*: CPU -> its pages.

        *complete* (ns): everything before it was read earlier. The result is grouped by CPU,
        in the order of *chunks*. Raises InputError on damaged pages.
        """
        records = decode(b"".join(chunks.values()), self._layout)
        self._learn(records)
        events, kept_before = np.empty(len(records), EVENT), np.empty(len(records.missed), np.int64)
        # Of a loss without a number it is only known that something is missing.
        gaps = np.where(records.missed == UNCOUNTED, 1, records.missed).astype(np.uint64)
        fill = self._fill(records, gaps, events, kept_before)

        losses: list[Events] = []
        places: list[int] = []
        first_page = kept = 0
        for cpu, data in chunks.items():
            state = self.cpus.setdefault(cpu, CpuState(self._start))
            state.last_ts = max(state.last_ts, complete)
            last_page = first_page + len(data) // self._layout.size
            ends = np.searchsorted(records.page, (first_page, last_page)).tolist()
            span = range(*ends)
            made = fill(span.start, span.stop, first_page, last_page, cpu, state.seq, kept)
            lost = 0
            for page in np.flatnonzero(records.missed[first_page:last_page]).tolist():
                page += first_page  # per loss, not per event
                mark = self._overrun(cpu, state, records, page, span)
                mark["seq"] = state.seq + int(records.first[page]) - span.start + lost
                lost += int(gaps[page])
                losses.append(mark)
                places.append(int(kept_before[page]))
            state.seq += len(span) + lost
            if len(span):
                state.last_ts = max(state.last_ts, int(records.ts[span.stop - 1]))
            first_page, kept = last_page, made

        self._counters["read"] += len(records)
        self._counters["kept"] += kept
        self._counters["other"] += len(records) - kept
        found = pick(events, slice(kept))
        if losses:
            return np.insert(found, places, joined(losses))
        return found if kept == len(events) else found.copy()

    def _fill(
        self, records: Records, gaps: U64, events: Events, kept_before: I64
    ) -> Callable[[int, int, int, int, int, int, int], int]:
        """`fill` of *records* into *events*, for one CPU after the other. Raises InputError."""
        if not self._attached or not len(records):
            kept_before[:] = 0
            return lambda *_: 0
        if self._table is None:
            self._table = _Table(self._attached)
        table = self._table
        indices, slots = self._slots.known()
        views = (
            *(records.raw.view("<u4").data, records.page.data, records.offset.data),
            *(records.size.data, records.ts.data, gaps.data, table.common.data),
            *(table.by_type.data, table.probes.data, CONTEXT_OF.data, indices.data, slots.data),
            *(events.view(np.uint64).data, kept_before.data),
        )

        def one(start: int, stop: int, first: int, last: int, cpu: int, seq: int, made: int) -> int:
            found = fill(*views, start, stop, first, last, cpu, seq, made)
            if found >= 0:
                return found
            row, why = divmod(-found - 1, 4)
            if -1 - why == UNREADABLE:
                [kind] = records.column(table.type_field, np.array([row])).tolist()
                raise table.unfit[int(table.by_type[kind])]
            raise InputError(
                "a ring-buffer record is shorter than its event's format says",
                "the trace data is damaged: record again",
            )

        return one

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

    def _learn(self, records: Records) -> None:
        """Let the copies name the slots, where their indices are not known."""
        if self._slots.complete or not self._attached or not len(records):
            return
        everything = np.arange(len(records))
        types = records.column(self._attached[0].format.fields["common_type"], everything)
        for a in self._attached:
            if a.probe.kind == Kind.COPY.name and "index" in a.probe.fields:
                rows = np.flatnonzero(types == a.format.id)
                if len(rows):
                    self._slots.learn(records.column(a.field("index"), rows))


class _Table:
    """The attached probes as `fill` takes them. `unfit`: by row, why records can't be read.

    Raises InputError if what all events have in common can't be.
    """

    def __init__(self, attached: list[Attached]) -> None:
        common = attached[0].format.fields
        self.type_field = common["common_type"]
        places = [_place(common[f"common_{name}"]) for name in ("type", "flags", "pid")]
        self.common = np.array(places, np.int64).ravel()
        self.by_type = np.full(TYPES, -1, np.int16)
        self.unfit: dict[int, InputError] = {}
        rows = []
        for row, one in enumerate(attached):
            if one.format.id < TYPES:
                self.by_type[one.format.id] = row
            probe, of = one.probe, values(one.probe)
            found: dict[str, Place] | None
            try:
                needs = of.needs | set(of.clears if probe.clear_kind else ())
                found = {name: _place(one.field(name)) for name in sorted(needs)}
            except InputError as error:
                self.unfit[row] = error
                found = None
            slot = NO_SLOT if probe.slot is None else probe.slot
            clear = Kind[probe.clear_kind] if probe.clear_kind is not None else 0
            rows.append(probe_row(Kind[probe.kind], clear, slot, one.point, of, found))
        self.probes = np.array(rows, np.int64).ravel()


def _place(field: Field) -> Place:
    """Where a number is. Raises InputError if it is none."""
    require_number(field)
    return field.offset, field.size, field.signed
