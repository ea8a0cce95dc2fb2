# SPDX-License-Identifier: Apache-2.0
"""This makes a plan from facts: for each probe point it chooses the symbol that serves it here.

The files in probes/ say what fits where; nothing here knows a kernel version or a symbol's name.
A point that cannot be resolved is no error: it becomes an `Unseen` of the plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ghesrace.errors import HostError
from ghesrace.host.facts import KPROBES, Facts
from ghesrace.plan import Backend, Fetched, Plan, Probe, Slot, Unseen
from ghesrace.points import Family, Member, Never, Point, SlotRule, families

from . import mechanism as mechanisms
from .choice import Choice, Choices, choose
from .implications import Implications
from .mechanism import place
from .slots import Slots
from .unseen import blind_spots, inside_modules, not_checked, skipped_hits, unseen_points

CLOCK_ERROR_NS = 1000


def resolve(
    facts: Facts,
    loaded: tuple[Family, ...] | None = None,
    *,
    clock_error_ns: int = CLOCK_ERROR_NS,
    backend: Backend = "ftrace",
) -> Plan:
    """Return the plan by which *backend* watches the kernel that *facts* describes.

    *loaded* are the probe files (by default the shipped ones), and *clock_error_ns* is the measured
    error of the clock between CPUs. Raises HostError if not a single slot can be observed.

        plan = resolve(read_facts(), backend="bpf")
    """
    loaded = families() if loaded is None else loaded
    all_points = [point for family in loaded for point in family.points]
    scopes = ["", *sorted({s.module for found in facts.symbols.values() for s in found} - {""})]
    chosen: Choices = {}
    refused: dict[tuple[str, str], str] = {}
    for point in all_points:
        for scope in scopes if point.scope == "any" else [""]:
            choice, reason = choose(facts, point, scope, backend)
            if choice:
                chosen[point.name, scope] = choice
            else:
                refused[point.name, scope] = reason
    slots, unseen = _slots(facts, loaded, scopes, chosen, refused)
    if not slots.all:
        raise _no_slot(facts, refused, {point.name for point in all_points if point.role})
    probes: list[Probe] = []
    implications = Implications(facts, slots)
    for choice in _useful(chosen, slots):
        made, why_not = _probes(facts, choice, chosen, slots, loaded, implications)
        probes += made
        if why_not:
            del chosen[choice.point.name, choice.scope]
            refused[choice.point.name, choice.scope] = why_not
    unseen += unseen_points(facts, loaded, chosen, refused, slots)
    unseen += skipped_hits(probes, slots) + inside_modules(probes, slots) + implications.unseen
    return Plan(
        arch=facts.arch,
        release=facts.release,
        slots=tuple(slots.all),
        probes=tuple(probes),
        unseen=tuple(unseen),
        not_checked=not_checked(facts, loaded, chosen, refused, slots) | implications.not_checked,
        pti="pti" in facts.host,
        forced_broadcast=any(b.forced_broadcast for b in blind_spots(facts, loaded, chosen)),
        cpus=facts.cpus,
        clock="mono",
        clock_error_ns=clock_error_ns,
        backend=backend,
        transport=mechanisms.transport(facts) if backend == "bpf" else "mapped",
        # Linux 4.20 brought $argN (a1303af5d79e, "tracing: probeevent: Add $argN for accessing
        # function args").
        numbered_arguments="arg" in facts.features,
        # Kernels that know $argN (4.20) know these, too.
        hexadecimal_types=bool(facts.features & {"arg", "x-types"}),
        maxactive=bool(facts.features & {"arg", "maxactive"}),
        implications=tuple(implications.all),
        unknowns=("implications",) if implications.assumed else (),
    )


def _slots(
    facts: Facts,
    loaded: tuple[Family, ...],
    scopes: list[str],
    chosen: Choices,
    refused: dict[tuple[str, str], str],
) -> tuple[Slots, list[Unseen]]:
    """Return the slots that something chosen can observe, and those that nothing can."""
    slots = Slots(facts)
    unseen: list[Unseen] = []
    for family in reversed(loaded):  # vm-area functions, where they exist, are the map
        for scope in scopes:
            for rule in family.slots:
                if rule.name:
                    _named_slot(family, rule, scope, chosen, refused, slots, unseen)
                elif scope == "" and not slots.of(""):
                    unseen += _enum_slots(facts, family, rule, chosen, refused, slots)
    return slots, unseen


def _role(family: Family, role: str, slot: str = "") -> Point | None:
    return next((p for p in family.points if p.role == role and p.slot == slot), None)


def _named_slot(
    family: Family,
    rule: SlotRule,
    scope: str,
    chosen: Choices,
    refused: dict[tuple[str, str], str],
    slots: Slots,
    unseen: list[Unseen],
) -> None:
    mapping, unmapping = _role(family, "map", rule.name), _role(family, "unmap", rule.name)
    assert mapping is not None
    assert unmapping is not None
    if (mapping.name, scope) not in chosen:
        return
    slot = Slot(f"{scope or family.name}:{rule.name}", None, None, rule.lock, family.name, scope)
    slots.add(slot, rule.name)
    if (unmapping.name, scope) not in chosen:
        reason = refused[unmapping.name, scope]
        slots.incomplete[slot.name] = reason
        unseen.append(Unseen(unmapping.what, reason, ("stale",), (slot.name,)))


def _enum_slots(
    facts: Facts,
    family: Family,
    rule: SlotRule,
    chosen: Choices,
    refused: dict[tuple[str, str], str],
    slots: Slots,
) -> list[Unseen]:
    mapping = _role(family, "map")
    assert mapping is not None
    values = facts.btf.enum(rule.enum) if facts.btf else {}
    names = {n.removeprefix(rule.prefix): v for n, v in values.items() if n.startswith(rule.match)}
    if (mapping.name, "") not in chosen:
        reason = refused.get((mapping.name, ""), "")
        return [Unseen(mapping.what, reason, ("stale",), tuple(names))] if names else []
    for name, index in sorted(names.items(), key=lambda item: item[1]):
        lock = "page" if name == rule.page_lock and _old_copy(facts, chosen) else rule.lock
        address = slots.fixmap_address(values, index)
        slots.add(Slot(name, index, address, lock, family.name), name.rpartition("GHES_")[2])
    copy = chosen.get(("copy", ""))
    if names or facts.btf or not copy or "index" not in copy.candidate.fields:
        return []
    # The copy's own index argument names the slots at run time, in order of appearance.
    made = [f"GHES_{n + 1}" for n in range(rule.unnamed.get(facts.arch, 0))]
    for name in made:
        slots.add(Slot(name, None, None, rule.lock, family.name), "")
    what = "which fixmap index is which slot: learnt from ghes_copy_tofrom_phys as it is called"
    why = "no BTF: " + facts.problems.get("BTF", "not read")
    return [Unseen(what, why, (), tuple(made))]


def _old_copy(facts: Facts, chosen: Choices) -> bool:
    copy = chosen.get(("copy", ""))
    return bool(copy and copy.symbol and facts.arity(copy.symbol) == 4)


def _useful(chosen: Choices, slots: Slots) -> list[Choice]:
    """Return the choices that serve some slot. A setter without fixmap slots does not, and a second
    view of one event is superfluous."""
    present = {name for name, _ in chosen}
    kept = []
    for choice in chosen.values():
        point = choice.point
        if any(name in present for name in point.unless):
            continue
        if point.role and not any(
            s.family == point.family and s.module == choice.scope for s in slots.all
        ):
            continue
        if choice.scope and not slots.of(choice.scope):
            continue
        kept.append(choice)
    return kept


def _probes(
    facts: Facts,
    choice: Choice,
    chosen: Choices,
    slots: Slots,
    loaded: tuple[Family, ...],
    implications: Implications,
) -> tuple[list[Probe], str]:
    """Return the entry probe of a choice and, if asked for, its return probe; or why there is
    none."""
    candidate, point = choice.candidate, choice.point
    implications.asked(point, choice.asked)
    fetch = {} if choice.bare else _fetch(facts, choice)
    condition, reason = slots.condition(candidate, facts)
    if reason:
        return [], reason
    entry = Probe(
        point=point.name,
        kind=point.kind,
        symbol=_named(facts, choice),
        mechanism=choice.mechanism,
        fields=fetch,
        clear_kind=point.clear_kind,
        filter=None if choice.bare else condition,
        slot=slots.number(choice.scope, point.slot),
        implies=_implied(facts, choice, chosen, implications),
        why=_why(facts, choice, loaded, implications.besides(point, _named(facts, choice))),
    )
    if not point.returns:
        return [entry], ""
    back = replace(
        entry,
        kind=point.returns,
        mechanism=mechanisms.RETURN[choice.mechanism],
        fields=dict(candidate.return_fields),
        clear_kind=None,
        filter=None,
        implies=(),
        why="its return",
    )
    return [entry, back], ""


def _fetch(facts: Facts, choice: Choice) -> dict[str, Fetched]:
    """Return what is fetched on this kernel, where BTF gives the offsets of structs' members."""
    candidate = choice.candidate
    if choice.mechanism == "raw-tracepoint":
        return dict(candidate.raw_fields)
    offsets = dict(candidate.struct_default)
    if candidate.struct and facts.btf:
        offsets.update(facts.btf.offsets(candidate.struct))
    return {
        name: wanted.at(offsets) if isinstance(wanted, Member) else wanted
        for name, wanted in candidate.fields.items()
    }


def _implied(
    facts: Facts, choice: Choice, chosen: Choices, implications: Implications
) -> tuple[str, ...]:
    # A module can't call vmlinux's flushes, which are not exported: it brings or inlines one.
    present = {name: other for (name, scope), other in chosen.items() if scope == choice.scope}
    said = choice.candidate.implied(facts.arch, present)
    if choice.symbol is None:
        return tuple(implication.what for implication in said)
    watched = {name: other.symbol for name, other in present.items() if other.symbol}
    return implications.believed(
        choice.point, choice.candidate, choice.symbol, _named(facts, choice), said, watched
    )


def _named(facts: Facts, choice: Choice) -> str:
    """Return what to attach to. A trampoline's function is found in vmlinux's BTF by name alone."""
    if choice.symbol is None:
        return choice.candidate.tracepoint
    return choice.symbol.name if choice.mechanism == "fentry" else place(facts, choice.symbol)


def _why(facts: Facts, choice: Choice, loaded: tuple[Family, ...], besides: str) -> str:
    why = choice.candidate.why
    if besides:
        why += f"; not on this kernel: {besides}"
    if choice.symbol and _named(facts, choice) not in (choice.symbol.name, choice.symbol.place):
        why = f"{choice.symbol.name}, by offset as a module has one too: {why}"
    if choice.note:
        why += f"; {choice.note}"
    if choice.bare:
        why += "; compiled with changed arguments, so it only says that it ran"
    if not choice.scope:
        avoided = [n for n in _nevers(loaded) if n.instead_of == choice.point.name]
        for never in avoided:
            if never.symbol in facts.symbols:
                why += f"; not {never.symbol}: {never.why}"
    return why


def _nevers(loaded: tuple[Family, ...]) -> Iterable[Never]:
    return (never for family in loaded for never in family.never)


def _no_slot(facts: Facts, refused: dict[tuple[str, str], str], roles: set[str]) -> HostError:
    reasons, hints = [], []
    if facts.tracefs is None and KPROBES in facts.symbols:
        reasons.append("tracefs is not mounted")
        hints.append("mount -t tracefs tracefs /sys/kernel/tracing")
    elif not facts.features & {"kprobe-events", "fprobe-events"}:
        reasons.append("this kernel has no kprobe events (CONFIG_KPROBE_EVENTS)")
    if not any(name.startswith("ghes_") for name in facts.symbols):
        reasons.append("no ACPI APEI GHES code (CONFIG_ACPI_APEI_GHES)")
    if not reasons:
        reasons += sorted({why for (name, _), why in refused.items() if why and name in roles})
        if facts.btf is None:
            reasons.append("no BTF names the fixmap's slots, and no argument of the copy does")
            hints.append("a kernel before 5.1 can be traced by hand: docs/old-kernels.md")
    hints.append("run `ghesrace doctor` for the details")
    return HostError("no GHES slot can be observed: " + "; ".join(reasons), "; ".join(hints))
