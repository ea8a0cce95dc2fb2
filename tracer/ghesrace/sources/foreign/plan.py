# SPDX-License-Identifier: Apache-2.0
"""This module makes the plan of a foreign trace, out of what is in the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice

from ghesrace.errors import InputError
from ghesrace.events import Context, Kind
from ghesrace.plan import UNPROVEN_NS, FieldOf, LockUnit, Mechanism, Plan, Probe, Slot, Unseen
from ghesrace.points import Point, families
from ghesrace.sources.ring.decode import Attached
from ghesrace.sources.ring.pages import EventFormat

from .eventmap import EventMap, Rule
from .narrow import NARROW
from .reader import Reader
from .scan import FLUSHES, MAPPERS, MOST_SLOTS_OF_A_FILE, Survey, Use
from .unknowns import unknowns

# Documentation/arch/arm64/memory.rst and Documentation/arch/x86/x86_64/mm.rst. Before Linux 5.4
# arm64's vmalloc is in the lower half of its 48 bits, and later at 0xffff800000000000, low in the
# upper half. x86_64's vmalloc is where KASLR puts it above 0xffff888000000000 (with five levels
# 0xff11000000000000), and its fixmap and text are in the last 2 GiB.
ARM64_ONLY = (0xFFFF_0000_0000_0000, 0xFFFF_8000_0000_0000)
X86_64_ONLY = (
    (0xFF11_0000_0000_0000, 0xFFD3_0000_0000_0000),
    (0xFFFF_8880_0000_0000, 0xFFFF_F000_0000_0000),
    (0xFFFF_FFFF_8000_0000, 2**64),
)


def attached(survey: Survey, plan: Plan) -> list[Attached]:
    """Return the probes of *plan*, which `make_plan` made of *survey*, with the formats of their
    events."""
    return [
        Attached(point, probe, EventFormat(use.event.name, ident, use.event.format.fields))
        for (ident, use), (point, probe) in zip(
            survey.uses.items(), enumerate(plan.probes), strict=True
        )
    ]


_ARCHES = ("x86_64", "arm64")
# What nobody has recorded, and no code of the kernel was read for.
_UNSEEN_FLUSHES = {"page-after-set", "page-after-clear", "broadcast-after-clear"}


def make_plan(survey: Survey, reader: Reader, given: EventMap) -> Plan:
    """Return the plan of the trace that *reader* reads and *survey* describes; *given* is its map
    file. Raises InputError if nothing in the trace maps a slot, or if it maps too many.

        survey = Survey.of(reader, given)
        plan = make_plan(survey, reader, given)
    """
    maps = [u for u in survey.uses.values() if u.rule.kind == "MAP" and not u.blind]
    if not maps:
        raise _nothing(survey)
    # Of a third machine nothing is known, and its functions may have the names of these.
    strange = reader.arch not in ("", *_ARCHES)
    known = given.arch or ("" if strange else reader.arch)
    proven = known or ("" if strange else _arch_of_symbols(survey))
    told = proven or ("" if strange else _arch_of_addresses(survey))
    arch = told or "x86_64"
    slots = _slots(survey, given)
    if len(slots) > MOST_SLOTS_OF_A_FILE:
        survey._too_many()
    present = survey.present
    numbers = {slot.name: n for n, slot in enumerate(slots)}
    probes = tuple(
        _probe(use, arch, present, numbers.get(_slot_name(use.rule)))
        for use in survey.uses.values()
    )
    names = tuple(slot.name for slot in slots)
    unseen = [*reader.unseen, *_absent(survey, arch, present, names)]
    if survey.doubles:
        why = "another event is on the same function"
        if survey.unpaired:
            why += "; one may have seen what the other did not: that counts as lost"
        unseen.append(Unseen(f"events {', '.join(survey.doubles[:8])}: left out", why))
    if survey.mistaken and reader.contexts:
        what = "which events happened in NMIs"
        why = "the function that only NMIs call is marked as an interrupt's: use the trace.dat"
        unseen.append(Unseen(what, why, ("stale", "torn_edit", "overlap"), names))
    error_ns, proven_ns = given.clock_error_ns, None
    if error_ns is None:
        proven_ns = UNPROVEN_NS
        error_ns = reader.clock_error_ns
        what = f"the clocks' error between CPUs: {error_ns:,} ns is assumed"
        unseen.append(Unseen(what, f"the trace does not tell (its clock: {reader.clock or '?'})"))
    if survey.changed:
        what = f"the arguments of {', '.join(sorted(survey.changed))}"
        why = "GCC made a clone, which may take them in other registers than its source says"
        unseen.append(Unseen(what, why, ("stale",), names))
    halved = survey.narrow.alone or any(0 < (slot.address or 0) < NARROW for slot in slots)
    if halved:
        why = (
            "they are compared as they are, and another page may have the same: record them as x64"
        )
        unseen.append(Unseen("the upper 32 bits of addresses", why, ("stale", "torn_edit"), names))
    cpus = _cpus(survey.cpus, reader.cpus)
    if reader.cpus == 0 and len(survey.cpus) == 1:
        what = "how many CPUs there are: more than the one of which there are events are assumed"
        unseen.append(Unseen(what, "nothing in the trace says it, as the head of a `trace` does"))
    incomplete = _incomplete(slots, probes)
    unseen += [Unseen(f"unmapping of {n}", why, ("stale",), (n,)) for n, why in incomplete.items()]
    not_checked = {}
    nowhere = _nowhere(slots, probes)
    if nowhere:
        why = "no event says where it is, so no invalidation can be told to be of it"
        unseen += [Unseen(f"the address of {name}", why, ("stale",), (name,)) for name in nowhere]
        not_checked["stale"] = f"{', '.join(nowhere)}: {why}"
    if not told and (strange or _matters(survey)):
        why = "the architecture is not known, and what an unmap does depends on it"
        if strange:
            why = f"it was recorded on {reader.arch}, of which nothing is known"
        unseen.append(Unseen("the architecture", 'say arch = "..." in a map file (--map)'))
        not_checked["stale"] = f'{why}: say arch = "..." in a map file (--map)'
    elif not known:
        what = f"the architecture: taken for {arch}"
        unseen.append(Unseen(what, "the trace does not tell, but its functions or addresses do"))
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
        cpus=cpus,
        clock=reader.clock or "unknown",
        clock_error_ns=error_ns,
        clock_proven_ns=proven_ns,
        contexts=reader.contexts and not survey.mistaken,
        unknowns=unknowns(
            survey,
            reader,
            given,
            halved=halved,
            guessed_arch=bool(told and not proven) and _matters(survey),
            implied=any(_UNSEEN_FLUSHES & {*probe.implies} for probe in probes),
        ),
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


def _arch_of_symbols(survey: Survey) -> str:
    """Return the only architecture on which all the probed symbols exist, or ""."""
    arches = [
        set(use.rule.candidate.arch)
        for use in survey.uses.values()
        if use.rule.candidate is not None and use.rule.candidate.arch
    ]
    common = set.intersection(*arches) if arches else set()
    return common.pop() if len(common) == 1 else ""


def _arch_of_addresses(survey: Survey) -> str:
    """Return the architecture in whose regions the kernel's addresses lie, or "" if they tell
    none."""
    if ARM64_ONLY[0] <= survey.lowest < ARM64_ONLY[1]:
        return "arm64"
    ends = (survey.lowest, survey.highest)
    x86 = all(any(low <= end < high for low, high in X86_64_ONLY) for end in ends)
    return "x86_64" if x86 else ""


def _matters(survey: Survey) -> bool:
    """Return whether what some event implies differs from one architecture to the other."""
    present = survey.present
    candidates = [u.rule.candidate for u in survey.uses.values() if u.rule.candidate is not None]
    return any(c.implied("x86_64", present) != c.implied("arm64", present) for c in candidates)


def _cpus(seen: set[int], number: int) -> tuple[int, ...]:
    """Return the CPUs that there are: those *seen*, and as many more as there are by their *number*
    (0 if nothing tells it). One that no event is of may take the next notification, too.

    >>> _cpus({0, 5}, 4), _cpus({2}, 0), _cpus({2}, 1)
    ((0, 1, 2, 5), (0, 2), (2,))
    """
    more = (cpu for cpu in count() if cpu not in seen)
    return tuple(sorted([*seen, *islice(more, max((number or 2) - len(seen), 0))]))


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
        if address is not None and address < NARROW and survey.highest:
            address = None  # Others have whole addresses, so that this is no slot's.
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
        said = rule.candidate.implied(arch, present)
        implies += tuple(one.what for one in said if not one.instead)
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


def _nowhere(slots: tuple[Slot, ...], probes: tuple[Probe, ...]) -> list[str]:
    """Return the slots that are mapped and whose address nothing in the trace tells, if it has
    flushes that name theirs."""
    if not any(p.kind.startswith(FLUSHES) and p.fields for p in probes):
        return []
    return [
        slot.name
        for number, slot in enumerate(slots)
        if slot.address is None
        and slot.index is None
        and any(p.kind == Kind.MAP.name and p.slot in (None, number) for p in probes)
        and not any(
            p.kind in MAPPERS and p.slot in (None, number) and "addr" in p.fields for p in probes
        )
    ]


def _absent(
    survey: Survey, arch: str, present: set[str], names: tuple[str, ...]
) -> Iterator[Unseen]:
    """Yield what the plan can't see: the probe points of which the trace has no usable event, and
    what no probe can see."""
    silent = {use.event.label for use in survey.uses.values() if use.blind}
    for unusable in survey.unusable.values():
        suffers = {"SHOOTDOWN": "shootdown", "EDIT": "torn_edit"}.get(unusable.kind, "stale")
        why = unusable.why
        if unusable.event in silent:
            why += "; each counts as lost: record it with its arguments ($arg1, or %di on x86_64)"
        yield Unseen(f"what {unusable.event} says", why, (suffers,), names)
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
