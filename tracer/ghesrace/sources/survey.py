"""The first pass over a foreign trace: which of its events are ours, the plan they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..events import PAGE_SHIFT, PAGE_SIZE, Context, Kind
from ..plan import LockUnit, Mechanism, Plan, Probe, Slot, Unseen
from ..points import Point, families
from .datpages import Block
from .decode import CONTEXT_OF, Attached
from .eventmap import EventMap, EventType, Rule, Unusable, recognise
from .ringbuffer import EventFormat, PageLayout, Records, decode

MAX_SLOTS = 64
_MAPPERS = ("MAP", "MAP_END", "UNMAP", "UNMAP_END")
_FLUSHES = ("INV_", "BCAST_")


class Reader(Protocol):
    """A foreign file as ring-buffer pages, whatever it was before."""

    layout: PageLayout
    formats: dict[int, tuple[str, EventFormat]]  # event id -> system and format
    clock: str
    arch: str
    release: str
    unseen: list[Unseen]  # what files of this kind, or this one, cannot contain
    truncated: list[str]
    missed: dict[str, int]  # event name -> hits that the kernel skipped, where told
    stats: list[dict[str, int]]  # per_cpu/*/stats, where told

    @property
    def clock_error_ns(self) -> int:
        """How wrong the order of two stamps of different CPUs can be, as assumed, ns."""
        ...

    def blocks(self) -> Iterator[Block]:
        """All pages, in bounded blocks."""
        ...

    def event_type(self, ident: int, records: Records | None, row: int) -> EventType:
        """What event *ident* is; *row* of *records* is one of them, if there is one."""
        ...


@dataclass(slots=True)
class Use:
    """One event type that is ours, its rule, and how many records there are."""

    event: EventType
    rule: Rule
    count: int = 0


@dataclass(slots=True)
class Survey:
    """What the first pass found. `skipped` counts records of events that are none of ours."""

    uses: dict[int, Use] = field(default_factory=dict)
    unusable: dict[str, Unusable] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    indices: dict[int, set[int]] = field(default_factory=dict)  # fixmap index -> contexts
    copied: set[int] = field(default_factory=set)  # indices that the copy was called with
    pages: set[int] = field(default_factory=set)  # addresses that slots without a name have
    flushed: dict[int, Counter[int]] = field(default_factory=dict)  # index -> pages
    doubles: list[str] = field(default_factory=list)  # labels of events left out
    handlers: set[int] = field(default_factory=set)
    cpus: set[int] = field(default_factory=set)
    first_ts: int = 2**62
    last_ts: int = 0

    @classmethod
    def of(cls, reader: Reader, given: EventMap) -> Survey:
        """Read everything once. Raises InputError."""
        survey = cls()
        known: dict[int, Rule | None] = {}
        for block in reader.blocks():
            records = decode(b"".join(block.chunks.values()), reader.layout)
            survey.cpus |= block.chunks.keys()
            if len(records):
                survey._block(reader, given, known, records)
        for ident in reader.formats:  # recorded, but it never happened
            if ident not in known:
                survey._meet(reader.event_type(ident, None, 0), ident, given)
        survey._drop_doubles()
        return survey

    def _drop_doubles(self) -> None:
        """Two probes on one function would show each map twice: the one that fired more stays."""
        best: dict[tuple[str, str, str], int] = {}
        for ident, use in list(self.uses.items()):
            if not use.event.symbol or not use.rule.point:
                continue
            key = (use.rule.kind, use.rule.symbol, use.rule.scope)
            other = best.setdefault(key, ident)
            if other == ident:
                continue
            less = ident if use.count <= self.uses[other].count else other
            best[key] = other if less == ident else ident
            self.doubles.append(self.uses.pop(less).event.label)

    def _meet(self, event: EventType, ident: int, given: EventMap) -> Rule | None:
        rule = recognise(event, given)
        if isinstance(rule, Unusable):
            self.unusable[event.label] = rule
            return None
        if rule is not None:
            self.uses[ident] = Use(event, rule)
        return rule

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
        for ident, count in zip(*np.unique(types, return_counts=True), strict=True):
            rows = np.flatnonzero(types == ident)
            if ident not in known:
                if int(ident) not in reader.formats:
                    known[int(ident)] = None
                else:
                    event = reader.event_type(int(ident), records, int(rows[0]))
                    known[int(ident)] = self._meet(event, int(ident), given)
            rule = known[int(ident)]
            if rule is None:
                name = reader.formats[int(ident)][1].name if ident in reader.formats else "?"
                self.skipped[name] += int(count)
                continue
            use = self.uses[int(ident)]
            use.count += int(count)
            self._columns(use, records, rows, contexts)
            if rule.kind == "INV_PAGE":
                flush_of[rows] = self._column(use, records, rows, "addr")
        self._flushes_after_maps(records, types, flush_of)

    @staticmethod
    def _column(
        use: Use, records: Records, rows: npt.NDArray[np.intp], ours: str
    ) -> npt.NDArray[np.uint64]:
        return records.column(use.event.format.fields[use.rule.fields[ours]], rows)

    def _columns(
        self,
        use: Use,
        records: Records,
        rows: npt.NDArray[np.intp],
        contexts: npt.NDArray[np.uint8],
    ) -> None:
        rule = use.rule
        if "index" in rule.fields and rule.kind in ("MAP", "COPY"):
            index = self._column(use, records, rows, "index")
            for value in np.unique(index)[: MAX_SLOTS + 1].tolist():
                seen = np.unique(contexts[rows[index == np.uint64(value)]]).tolist()
                self.indices.setdefault(value, set()).update(seen)
                if rule.kind == "COPY":
                    self.copied.add(value)
        if "addr" in rule.fields and rule.kind in _MAPPERS and not rule.role:
            pages = self._column(use, records, rows, "addr") >> np.uint64(PAGE_SHIFT)
            self.pages.update(v << PAGE_SHIFT for v in np.unique(pages)[: MAX_SLOTS + 1].tolist())
            self.pages.discard(0)
        if "handler" in rule.fields:
            self.handlers.update(np.unique(self._column(use, records, rows, "handler")).tolist())
        if max(len(self.indices), len(self.pages)) > 4 * MAX_SLOTS:
            self._too_many()

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
        """x86's fixmap setter ends in the invalidation of the page: so it shows its address."""
        for ident, use in self.uses.items():
            if use.rule.kind != "MAP" or "index" not in use.rule.fields:
                continue
            rows = np.flatnonzero((types[:-1] == ident) & (flush_of[1:] != 0))
            index = self._column(use, records, rows, "index")
            pages = flush_of[rows + 1] & ~np.uint64(PAGE_SIZE - 1)
            for value in np.unique(index)[:MAX_SLOTS].tolist():
                found, counts = np.unique(pages[index == np.uint64(value)], return_counts=True)
                best = int(counts.argmax())
                self.flushed.setdefault(value, Counter())[int(found[best])] += int(counts[best])


def attached(survey: Survey, plan: Plan) -> list[Attached]:
    """The plan's probes with the formats of their events, fields under our names."""
    made = []
    for (ident, use), (point, probe) in zip(
        survey.uses.items(), enumerate(plan.probes), strict=True
    ):
        theirs = use.event.format.fields
        fields = {n: f for n, f in theirs.items() if n.startswith("common_")}
        fields |= {ours: theirs[name] for ours, name in use.rule.fields.items()}
        if probe.mechanism == "tracepoint":
            fields = theirs
        made.append(Attached(point, probe, EventFormat(use.event.name, ident, fields)))
    return made


def make_plan(survey: Survey, reader: Reader, given: EventMap) -> Plan:
    """The plan of the trace. Raises InputError if nothing in it maps a slot."""
    maps = [use for use in survey.uses.values() if use.rule.kind == "MAP"]
    if not maps:
        raise _nothing(survey)
    arch = given.arch or reader.arch or _arch(survey)
    slots = _slots(survey, given)
    if len(slots) > MAX_SLOTS:
        survey._too_many()
    present = {use.rule.point for use in survey.uses.values()}
    numbers = {slot.name: n for n, slot in enumerate(slots)}
    probes = tuple(
        _probe(use, arch, present, numbers.get(_slot_name(use.rule)))
        for use in survey.uses.values()
    )
    names = tuple(slot.name for slot in slots)
    unseen = [*reader.unseen, *_absent(survey, arch, present, names)]
    if survey.doubles:
        why = "another event is on the same function"
        unseen.append(Unseen(f"events {', '.join(survey.doubles[:8])}: left out", why))
    error_ns = given.clock_error_ns
    if error_ns is None:
        error_ns = reader.clock_error_ns
        what = f"the clocks' error between CPUs: {error_ns:,} ns is assumed"
        unseen.append(Unseen(what, f"the trace does not tell (its clock: {reader.clock or '?'})"))
    incomplete = _incomplete(slots, probes)
    unseen += [Unseen(f"unmapping of {n}", why, ("stale",), (n,)) for n, why in incomplete.items()]
    not_checked = {}
    if slots and len(incomplete) == len(slots):
        not_checked["stale"] = "; ".join(f"{n}: {why}" for n, why in incomplete.items())
    elif not any(p.implies or p.kind.startswith(_FLUSHES) for p in probes):
        not_checked["stale"] = "the trace has no invalidation, and nothing says what the unmap does"
    return Plan(
        arch=arch,
        release=reader.release,
        slots=slots,
        probes=probes,
        unseen=tuple(unseen),
        not_checked=not_checked,
        cpus=tuple(sorted(survey.cpus)),
        clock=reader.clock or "unknown",
        clock_error_ns=error_ns,
    )


def _nothing(survey: Survey) -> InputError:
    if survey.unusable:
        why = "; ".join(f"{u.event}: {u.why}" for u in list(survey.unusable.values())[:5])
    else:
        names = [name for name, _ in survey.skipped.most_common(5)]
        why = "its events: " + (", ".join(names) or "none")
    return InputError(
        f"no event in it maps a GHES slot ({why})",
        "say with --map which one does, or record with the script of "
        "`ghesrace plan --format trace-cmd`",
    )


def _arch(survey: Survey) -> str:
    """The only architecture on which all the probed symbols exist; x86_64 if several do."""
    arches = [
        set(use.rule.candidate.arch)
        for use in survey.uses.values()
        if use.rule.candidate is not None and use.rule.candidate.arch
    ]
    common = set.intersection(*arches) if arches else set()
    return "arm64" if common == {"arm64"} else "x86_64"


def _slot_name(rule: Rule) -> str:
    if not rule.role or not rule.point:
        return rule.role
    return f"{rule.scope or rule.family}:{rule.role}"


def _slots(survey: Survey, given: EventMap) -> tuple[Slot, ...]:
    slots = [Slot(s.name, s.index, s.address, s.lock, "map") for s in given.slots]
    taken = {s.name for s in slots}
    for use in survey.uses.values():
        name, rule = _slot_name(use.rule), use.rule
        if name and name not in taken and rule.kind in ("MAP", "UNMAP"):
            taken.add(name)
            slots.append(Slot(name, None, None, _lock(rule), rule.family or "map", rule.scope))
    named = {s.index for s in slots}
    mapped = any(u.rule.kind == "MAP" and "index" in u.rule.fields for u in survey.uses.values())
    for index in sorted(survey.copied or survey.indices) if mapped else ():
        if index in named:
            continue
        address = None
        if survey.flushed.get(index):
            address = survey.flushed[index].most_common(1)[0][0]
        nmi = survey.indices[index] == {Context.NMI}
        name = f"fixmap-{index}" + "-nmi" * nmi
        slots.append(Slot(name, index, address, "report"))
    known = {s.address for s in slots}
    if any(_by_address(use.rule) for use in survey.uses.values()):
        slots += [Slot(f"{a:#x}", None, a, "page", "map") for a in sorted(survey.pages - known)]
    return tuple(slots)


def _lock(rule: Rule) -> LockUnit:
    for family in families():
        for slot in family.slots:
            if family.name == rule.family and slot.name == rule.role:
                return slot.lock
    return "report"


def _by_address(rule: Rule) -> bool:
    return rule.kind == "MAP" and not rule.role and "index" not in rule.fields


def _probe(use: Use, arch: str, present: set[str], slot: int | None) -> Probe:
    rule = use.rule
    tracepoint = ":" in rule.symbol and rule.candidate is not None
    mechanism: Mechanism = "kretprobe" if rule.returns else "kprobe"
    symbol = f"{rule.scope}:{rule.symbol}" if rule.scope else rule.symbol
    implies = rule.implies
    if rule.candidate is not None:
        implies += tuple(
            i.what
            for i in rule.candidate.implies
            if (not i.arch or arch in i.arch)
            and not present & set(i.unless)
            and (not i.given or present & set(i.given))
        )
    return Probe(
        point=rule.point or use.event.label,
        kind=rule.kind,
        symbol=symbol,
        mechanism="tracepoint" if tracepoint else mechanism,
        fields=dict(rule.fields),
        clear_kind=rule.clear_kind,
        slot=slot,
        implies=implies,
        why=f"{use.event.label}: {rule.why}",
    )


def _incomplete(slots: tuple[Slot, ...], probes: tuple[Probe, ...]) -> dict[str, str]:
    """Slots of which the trace shows no unmapping."""
    found = {}
    for number, slot in enumerate(slots):
        if not any(
            (p.kind == Kind.UNMAP.name or p.clear_kind == Kind.UNMAP.name)
            and p.slot in (None, number)
            for p in probes
        ):
            found[slot.name] = "no event in the trace unmaps it"
    return found


def _absent(
    survey: Survey, arch: str, present: set[str], names: tuple[str, ...]
) -> Iterator[Unseen]:
    """The probe points that the trace has no event of, and what cannot be seen anyway."""
    for unusable in survey.unusable.values():
        suffers = {"SHOOTDOWN": "shootdown", "EDIT": "torn_edit"}.get(unusable.kind, "stale")
        yield Unseen(f"what {unusable.event} says", unusable.why, (suffers,), names)
    kinds = {use.rule.kind for use in survey.uses.values()}
    if Kind.EDIT.name in kinds and Kind.EDIT_END.name not in kinds:
        why = "the trace has only their begin: one is taken to last until its context's next event"
        yield Unseen("the end of page-table edits", why, ("torn_edit",), names)
    mapped = {use.rule.kind for use in survey.uses.values() if not use.rule.point}
    for family in families():
        for point in family.points:
            if point.role or point.optional or point.name in present or point.kind in mapped:
                continue
            if any(name in present for name in point.unless) or not _possible(point, arch):
                continue
            yield Unseen(point.what, "the trace has no such event", point.patterns, names)
        for blind in family.blind:
            if (not blind.arch or arch in blind.arch) and "hypervisor" not in blind.host:
                why = blind.why
                if blind.host:
                    why = f"nothing in the trace says whether its host has {blind.host[0].upper()}"
                yield Unseen(blind.what, why, blind.patterns, names)


def _possible(point: Point, arch: str) -> bool:
    return any(not c.arch or arch in c.arch for c in point.candidates)


def without_reference(survey: Survey, plan: Plan, why: str) -> Plan:
    """The plan without its NMI references, which the trace does not let us tell apart."""
    gone = [i for i, use in survey.uses.items() if use.rule.kind == Kind.NMI_REF.name]
    if not gone:
        return plan
    for ident in gone:
        del survey.uses[ident]
    probes = tuple(p for p in plan.probes if p.kind != Kind.NMI_REF.name)
    what = "the independent count of GHES NMIs: a missed one cannot be noticed"
    return replace(plan, probes=probes, unseen=(*plan.unseen, Unseen(what, why, ("stale",))))
