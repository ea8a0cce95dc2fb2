# SPDX-License-Identifier: Apache-2.0
"""This module makes the plan of a foreign trace, out of what is in the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ghesrace.errors import InputError
from ghesrace.events import Context, Kind
from ghesrace.plan import FieldOf, LockUnit, Mechanism, Plan, Probe, Slot, Unseen
from ghesrace.points import Point, families
from ghesrace.sources.ring.decode import Attached
from ghesrace.sources.ring.pages import EventFormat

from .eventmap import EventMap, Rule
from .reader import Reader
from .scan import FLUSHES, MOST_SLOTS_OF_A_FILE, Survey, Use


def attached(survey: Survey, plan: Plan) -> list[Attached]:
    """Return the probes of *plan*, which `make_plan` made of *survey*, with the formats of their
    events."""
    return [
        Attached(point, probe, EventFormat(use.event.name, ident, use.event.format.fields))
        for (ident, use), (point, probe) in zip(
            survey.uses.items(), enumerate(plan.probes), strict=True
        )
    ]


def make_plan(survey: Survey, reader: Reader, given: EventMap) -> Plan:
    """Return the plan of the trace that *reader* reads and *survey* describes; *given* is its map
    file. Raises InputError if nothing in the trace maps a slot, or if it maps too many.

        survey = Survey.of(reader, given)
        plan = make_plan(survey, reader, given)
    """
    maps = [use for use in survey.uses.values() if use.rule.kind == "MAP"]
    if not maps:
        raise _nothing(survey)
    arch = given.arch or reader.arch or _arch(survey)
    slots = _slots(survey, given)
    if len(slots) > MOST_SLOTS_OF_A_FILE:
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
    if survey.mistaken and reader.contexts:
        what = "which events happened in NMIs"
        why = "the function that only NMIs call is marked as an interrupt's: use the trace.dat"
        unseen.append(Unseen(what, why, ("stale", "torn_edit", "overlap"), names))
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
    elif not any(p.implies or p.kind.startswith(FLUSHES) for p in probes):
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
        contexts=reader.contexts and not survey.mistaken,
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
    """Return the only architecture on which all the probed symbols exist, or x86_64 if they exist
    on both."""
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
        implies += rule.candidate.implied(arch, present)
    return Probe(
        point=rule.point or use.event.label,
        kind=rule.kind,
        symbol=symbol,
        mechanism="tracepoint" if tracepoint else mechanism,
        fields={ours: FieldOf(theirs) for ours, theirs in rule.fields.items()},
        clear_kind=rule.clear_kind,
        slot=slot,
        implies=implies,
        why=f"{use.event.label}: {rule.why}",
    )


def _incomplete(slots: tuple[Slot, ...], probes: tuple[Probe, ...]) -> dict[str, str]:
    """Return the slots that nothing in the trace unmaps, as name -> why."""
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
    """Yield what the plan can't see: the probe points of which the trace has no usable event, and
    what no probe can see."""
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
    """Return *plan* without its NMI references, because the trace does not tell (*why*) which of
    them are GHES handlers. They are removed from *survey* too."""
    gone = [i for i, use in survey.uses.items() if use.rule.kind == Kind.NMI_REF.name]
    if not gone:
        return plan
    for ident in gone:
        del survey.uses[ident]
    probes = tuple(p for p in plan.probes if p.kind != Kind.NMI_REF.name)
    what = "the independent count of GHES NMIs: a missed one cannot be noticed"
    return replace(plan, probes=probes, unseen=(*plan.unseen, Unseen(what, why, ("stale",))))
