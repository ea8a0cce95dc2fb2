# SPDX-License-Identifier: Apache-2.0
"""This module makes the first pass over a foreign trace, which finds the events that concern us."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ghesrace.errors import InputError
from ghesrace.events import PAGE_SHIFT, PAGE_SIZE, Context, present
from ghesrace.sources.ring.decode import CONTEXT_OF
from ghesrace.sources.ring.pages import Records, decode

from .eventmap import EventMap, EventType, Rule, Unusable, enough, function_of, recognise
from .narrow import FIXMAP_HALF, NARROW, Narrow
from .reader import Reader

MOST_SLOTS_OF_A_FILE = 64
MAPPERS = ("MAP", "MAP_END", "UNMAP", "UNMAP_END")
FLUSHES = ("INV_", "BCAST_")
_KERNEL = 0xFF00_0000_0000_0000  # Addresses are in the kernel from here on, on both architectures.
# Of these an event without its argument is a loss. What others lack hides nothing.
# GCC takes arguments out of a clone's call, or puts constants in their place.
CHANGED = re.compile(r"\.(?:isra|constprop|part)\b")
_BLINDING = ("MAP", "INV_PAGE", "INV_RANGE", "BCAST_RANGE", "EDIT")


def _distinct(values: npt.NDArray[np.uint64], known: Collection[int]) -> list[int]:
    """Return the distinct *values*, sorted. It is fast where few of them are not *known*."""
    if len(known) > MOST_SLOTS_OF_A_FILE:
        return [int(value) for value in np.unique(values)]
    found = []
    for value in known:
        same = values == np.uint64(value)
        if same.any():
            found.append(value)
            values = values[~same]
    return sorted([*found, *np.unique(values).tolist()])


@dataclass(slots=True)
class Use:
    """This has one event type that concerns us, its rule, and how many records of it there are."""

    event: EventType
    rule: Rule
    count: int = 0
    blind: bool = False  # It says that something happened, and not to what: a loss of that kind.
    point: str = ""  # the probe point that it is of, if it is blind


@dataclass(slots=True)
class Survey:
    """A survey is what the first pass found. `uses` has the events that concern us by their id,
    `unusable` has those that lack something by their label, and `skipped` counts the records of all
    other events by their name. `first_ts` and `last_ts` are stamps (ns of the trace's clock).

        survey = Survey.of(reader, EventMap())
        print({use.event.label: use.count for use in survey.uses.values()})
    """

    uses: dict[int, Use] = field(default_factory=dict)
    unusable: dict[str, Unusable] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    indices: dict[int, set[int]] = field(default_factory=dict)  # fixmap index -> contexts
    copied: set[int] = field(default_factory=set)  # indices that the copy was called with
    pages: set[int] = field(default_factory=set)  # addresses that slots without a name have
    flushed: dict[int, Counter[int]] = field(default_factory=dict)  # index -> pages
    doubles: list[str] = field(default_factory=list)  # labels of events left out
    unpaired: int = 0  # how many of these are not known to be another probe's, too
    lowest: int = 2**64  # of the kernel's addresses that it has, and `highest`
    highest: int = 0
    narrow: Narrow = field(default_factory=Narrow)
    mistaken: bool = False  # an NMI's map is marked as an interrupt's
    changed: set[str] = field(default_factory=set)  # functions whose arguments GCC changed
    handlers: set[int] = field(default_factory=set)
    cpus: set[int] = field(default_factory=set)
    first_ts: int = 2**62
    last_ts: int = 0

    @classmethod
    def of(cls, reader: Reader, given: EventMap) -> Survey:
        """Read everything that *reader* has once. Raises InputError if the file is damaged, maps
        more addresses than GHES has slots, or contradicts the map file (*given*)."""
        survey = cls()
        known: dict[int, Rule | None] = {}
        for block in reader.blocks():
            records = decode(b"".join(block.chunks.values()), reader.layout)
            survey.cpus |= block.chunks.keys()
            if len(records):
                survey._block(reader, given, known, records)
        for ident in reader.formats:  # Some events were to be recorded, but never happened.
            if ident not in known:
                survey._meet(reader.event_type(ident, None, 0), ident, given)
        survey._drop_narrow()
        survey._drop_blind()
        survey._drop_doubles()
        survey._note_changed()
        return survey

    def _note_changed(self) -> None:
        """Note the functions whose arguments may be in other registers than their source says."""
        for use in self.uses.values():
            if use.count and use.rule.point and use.rule.fields and not use.rule.returns:
                changed = CHANGED.search(use.event.symbol)
                if changed:
                    self.changed.add(use.event.symbol)

    def _drop_narrow(self) -> None:
        """Take the arguments away that have half an address only, and what is nothing without."""
        slots = {page for counts in self.flushed.values() for page in counts if page < NARROW}
        for ident, ours in self.narrow.found(slots):
            use = self.uses.get(ident)
            if use is None or use.blind:
                continue
            rule = use.rule
            if rule.kind in MAPPERS:
                self.pages = {page for page in self.pages if page >= NARROW}
            fields = {mine: theirs for mine, theirs in rule.fields.items() if mine != ours}
            use.rule = replace(rule, fields=fields)
            if enough(rule.kind, fields.keys()):
                continue
            why = f"its {rule.fields[ours]} has the low 32 bits of addresses only: record it as x64"
            self._can_not_use(
                ident, use.event, Unusable(use.event.label, rule.kind, why, rule.point)
            )
            if ident in self.uses:
                self.uses[ident].count = use.count

    def _can_not_use(self, ident: int, event: EventType, found: Unusable) -> Rule | None:
        """Note that the type *ident* says too little; return its rule if its events are losses."""
        self.unusable[event.label] = found
        self.uses.pop(ident, None)
        if found.kind not in _BLINDING:
            return None
        rule = Rule(found.kind, symbol=event.symbol, scope=event.module, why=found.why)
        self.uses[ident] = Use(event, rule, blind=True, point=found.point)
        return rule

    def _drop_blind(self) -> None:
        """Leave out events that say too little where another on the same function says enough, or
        where they were only printed and others of their kind are told."""
        told = {
            (u.rule.kind, function_of(u.event.symbol), u.event.module)
            for u in self.uses.values()
            if not u.blind and u.count
        }
        for ident, use in list(self.uses.items()):
            key = (use.rule.kind, function_of(use.event.symbol), use.event.module)
            again = use.event.symbol and key in told
            if use.event.printed:
                again = any(kind == use.rule.kind for kind, *_ in told)
            if use.blind and (not use.count or again):
                del self.uses[ident]

    def _drop_doubles(self) -> None:
        """Keep only the probe that fired more often where two are on one function, because together
        they would show each map twice. Did they not fire equally often, one may have seen what the
        other did not, as two with filters do."""
        best: dict[tuple[str, ...], int] = {}
        for ident, use in list(self.uses.items()):
            place = use.event.symbol or use.event.place
            if not place or not use.rule.point:
                continue
            # perf numbers the places where a function is inlined: each is another one.
            where = "" if use.event.symbol else place
            key = (use.rule.kind, use.rule.symbol, use.rule.scope, where)
            other = best.setdefault(key, ident)
            if other == ident:
                continue
            less = ident if use.count <= self.uses[other].count else other
            best[key] = other if less == ident else ident
            gone = self.uses.pop(less)
            self.doubles.append(gone.event.label)
            self.unpaired += gone.count if gone.count != self.uses[best[key]].count else 0

    def _meet(self, event: EventType, ident: int, given: EventMap) -> Rule | None:
        found = recognise(event, given)
        if isinstance(found, Unusable):
            return self._can_not_use(ident, event, found)
        if found is not None:
            self.uses[ident] = Use(event, found)
        return found

    @property
    def present(self) -> set[str]:
        """These are the probe points of which there are events, be they told from what they say or
        not. What else is recorded of them is known to have happened, or not to have."""
        return {use.rule.point or use.point for use in self.uses.values()}

    def _block(
        self,
        reader: Reader,
        given: EventMap,
        known: dict[int, Rule | None],
        records: Records,
    ) -> None:
        first = next(iter(reader.formats.values()), None)
        if first is None:
            return
        common = first[1].fields
        everything = np.arange(len(records))
        types = records.column(common["common_type"], everything).astype(np.int64)
        contexts = CONTEXT_OF[records.column(common["common_flags"], everything) & 0xFF]
        if int(records.ts.max()) >= 2**62:
            raise InputError("an event has an impossible time stamp", "the file is damaged")
        self.first_ts = min(self.first_ts, int(records.ts.min()))
        self.last_ts = max(self.last_ts, int(records.ts.max()))
        flush_of = np.zeros(len(records), np.uint64)
        counts = np.bincount(types)
        # Of a type of 16 bits, as all are but in damaged files, this takes one pass for all types.
        order = np.argsort(types.astype("u2") if len(counts) <= 1 << 16 else types, kind="stable")
        ends = np.cumsum(counts)
        for ident in np.flatnonzero(counts).tolist():
            count = int(counts[ident])
            rows = order[ends[ident] - count : ends[ident]]
            if ident not in known:
                if ident not in reader.formats:
                    known[ident] = None
                else:
                    event = reader.event_type(ident, records, int(rows[0]))
                    known[ident] = self._meet(event, ident, given)
            rule = known[ident]
            if rule is None:
                name = reader.formats[ident][1].name if ident in reader.formats else "?"
                self.skipped[name] += count
                continue
            use = self.uses[ident]
            use.count += count
            self._columns(ident, use, records, rows, contexts)
            if rule.kind == "INV_PAGE" and not use.blind:
                flush_of[rows] = self._column(use, records, rows, "addr")
        self._flushes_after_maps(records, types, flush_of)

    @staticmethod
    def _column(
        use: Use, records: Records, rows: npt.NDArray[np.intp], ours: str
    ) -> npt.NDArray[np.uint64]:
        return records.column(use.event.format.fields[use.rule.fields[ours]], rows)

    def _columns(
        self,
        ident: int,
        use: Use,
        records: Records,
        rows: npt.NDArray[np.intp],
        contexts: npt.NDArray[np.uint8],
    ) -> None:
        rule = use.rule
        if use.blind:
            return
        for ours in rule.fields.keys() & {"addr", "end"}:
            addresses = self._column(use, records, rows, ours)
            self._addresses(addresses)
            self.narrow.note(ident, rule.kind, ours, addresses)
        if rule.point and rule.role == "nmi" and rule.kind == "MAP":
            self.mistaken |= bool((contexts[rows] == Context.IRQ).any())
        if "index" in rule.fields and rule.kind in ("MAP", "COPY"):
            index = self._column(use, records, rows, "index")
            for value in _distinct(index, self.indices)[: MOST_SLOTS_OF_A_FILE + 1]:
                seen = present(contexts[rows[index == np.uint64(value)]]).tolist()
                self.indices.setdefault(value, set()).update(seen)
                if rule.kind == "COPY":
                    self.copied.add(value)
        if "addr" in rule.fields and rule.kind in MAPPERS and not rule.role:
            pages = self._column(use, records, rows, "addr") >> np.uint64(PAGE_SHIFT)
            known = {page >> PAGE_SHIFT for page in self.pages}
            found = _distinct(pages, known)[: MOST_SLOTS_OF_A_FILE + 1]
            self.pages.update(page << PAGE_SHIFT for page in found)
            self.pages.discard(0)
        if "handler" in rule.fields:
            self.handlers.update(
                _distinct(self._column(use, records, rows, "handler"), self.handlers)
            )
        if max(len(self.indices), len(self.pages)) > 4 * MOST_SLOTS_OF_A_FILE:
            self._too_many()

    def _addresses(self, addresses: npt.NDArray[np.uint64]) -> None:
        """Remember in what regions addresses lie, which differ from one architecture to another."""
        kernel = addresses[addresses >= np.uint64(_KERNEL)]
        if len(kernel):
            self.lowest = min(self.lowest, int(kernel.min()))
            self.highest = max(self.highest, int(kernel.max()))

    def _too_many(self) -> None:
        raise InputError(
            "its events map more addresses than GHES has slots",
            "a map file can name the slots, or ignore events that are none: --map",
        )

    def _flushes_after_maps(
        self,
        records: Records,
        types: npt.NDArray[np.int64],
        flush_of: npt.NDArray[np.uint64],
    ) -> None:
        """Learn the addresses of fixmap slots from x86's fixmap setter, which ends in an
        invalidation of the page that it mapped."""
        for ident, use in self.uses.items():
            if use.rule.kind != "MAP" or "index" not in use.rule.fields:
                continue
            # A user's page, of which a task's flush is next by chance, is no slot.
            mine = flush_of[1:] >= np.uint64(_KERNEL)
            if not mine.any():
                mine = (flush_of[1:] >= np.uint64(FIXMAP_HALF)) & (flush_of[1:] < np.uint64(NARROW))
            rows = np.flatnonzero((types[:-1] == ident) & mine)
            index = self._column(use, records, rows, "index")
            pages = flush_of[rows + 1] & ~np.uint64(PAGE_SIZE - 1)
            for value in _distinct(index, self.flushed)[:MOST_SLOTS_OF_A_FILE]:
                found, counts = np.unique(pages[index == np.uint64(value)], return_counts=True)
                best = int(counts.argmax())
                self.flushed.setdefault(value, Counter())[int(found[best])] += int(counts[best])
