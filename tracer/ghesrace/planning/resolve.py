# SPDX-License-Identifier: Apache-2.0
"""This makes a plan from facts: for each probe point it chooses the symbol that serves it here.

The files in probes/ say what fits where; nothing here knows a kernel version or a symbol's name.
A point that cannot be resolved is no error: it becomes an `Unseen` of the plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ghesrace.errors import HostError
from ghesrace.host.facts import KPROBES, Facts
from ghesrace.host.kallsyms import Symbol
from ghesrace.plan import Backend, Fetched, Mechanism, Plan, Probe, Slot, Unseen
from ghesrace.points import Blind, Candidate, Family, Member, Never, Point, SlotRule, families

from . import mechanism as mechanisms
from .implications import Implications
from .mechanism import place
from .slots import Slots

CLOCK_ERROR_NS = 1000


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice is a point as resolved in one scope ("" for vmlinux, else the module)."""

    point: Point
    candidate: Candidate
    symbol: Symbol | None  # None for a tracepoint
    mechanism: Mechanism
    scope: str
    note: str = ""  # why no better mechanism

    @property
    def bare(self) -> bool:
        """This is true if the compiler changed the function's arguments: none is fetched then."""
        return self.symbol is not None and self.symbol.changed


Choices = dict[tuple[str, str], Choice]  # by (point, scope)


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
            choice, reason = _choose(facts, point, scope, backend)
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
    unseen += _unseen(facts, loaded, chosen, refused, slots)
    unseen += _skipped(probes, slots) + _inside_modules(probes, slots) + implications.unseen
    return Plan(
        arch=facts.arch,
        release=facts.release,
        slots=tuple(slots.all),
        probes=tuple(probes),
        unseen=tuple(unseen),
        not_checked=_not_checked(facts, loaded, chosen, refused, slots) | implications.not_checked,
        pti="pti" in facts.host,
        forced_broadcast=any(b.forced_broadcast for b in _blind(facts, loaded, chosen)),
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


def _choose(facts: Facts, point: Point, scope: str, backend: Backend) -> tuple[Choice | None, str]:
    """Return the first candidate that fits in *scope* and "" (or why it has no better mechanism);
    or None and why none fits ("" if the point cannot matter here)."""
    if not set(point.host) <= facts.host:
        return None, ""
    reasons: list[str] = []
    anywhere = point.scope != "any"
    for candidate in point.candidates:
        if candidate.arch and facts.arch not in candidate.arch:
            continue
        if any(
            (w[1:] in facts.host) if w[0] == "!" else w not in facts.host for w in candidate.when
        ):
            continue
        struct, _, member = candidate.member.partition(".")
        if member and facts.btf and member not in facts.btf.offsets(struct):
            continue  # Without the member this cannot matter.
        reason = _companions(facts, candidate, scope, anywhere)
        if reason:
            reasons.append(reason)
            continue
        if candidate.tracepoint:
            if candidate.tracepoint in facts.tracepoints:
                form: Mechanism = "raw-tracepoint" if backend == "bpf" else "tracepoint"
                return Choice(point, candidate, None, form, scope), ""
            reasons.append(f"no tracepoint {candidate.tracepoint}")
            continue
        symbol, mechanism, reason = _symbol(facts, point, candidate, scope, backend)
        if symbol and mechanism:
            return Choice(point, candidate, symbol, mechanism, scope, reason), ""
        reasons.append(reason)
    return None, "; ".join(dict.fromkeys(reasons))


def _companions(facts: Facts, candidate: Candidate, scope: str, anywhere: bool) -> str:
    """Return why a symbol that is beside the candidate, or is not, forbids it, or ""."""
    if candidate.member and facts.btf is None:
        return f"no BTF tells whether there is {candidate.member}"

    def there(name: str) -> bool:
        return any(anywhere or s.module == scope for s in facts.symbols.get(name, ()))

    for name in candidate.without:
        if there(name):
            return f"{candidate.symbol or candidate.tracepoint} does not fit beside {name}"
    for name in candidate.with_:
        if not there(name):
            return f"no {name}"
    return ""


def _symbol(
    facts: Facts, point: Point, candidate: Candidate, scope: str, backend: Backend
) -> tuple[Symbol | None, Mechanism | None, str]:
    name = candidate.symbol
    found = [s for s in facts.symbols.get(name, ()) if s.module == scope]
    plain = [s for s in found if not s.changed]
    copies = [s.name for s in found if s.changed and ".part." not in s.name]
    if not found:
        return None, None, f"no {name}: not in this kernel, or inlined"
    # What one copy does would be seen and what the other does would not.
    if copies and len(found) > 1:
        names = ", ".join(sorted(s.name for s in found))
        return None, None, f"the compiler made copies, of which one does not tell all: {names}"
    symbol = (plain or found)[0]
    if not plain and not point.bare:
        return None, None, f"only {symbol.name} exists, whose arguments the compiler changed"
    if len(plain) > 1:
        return None, None, f"{len(plain)} functions are called {name}"
    arity = facts.arity(symbol)
    if candidate.arity is not None and arity != candidate.arity:
        if arity is not None:
            return None, None, f"{name} takes {arity} arguments, not {candidate.arity}"
        if not candidate.unknown_arity:
            return None, None, f"BTF does not say what {name} takes"
    if facts.traceable is not None and (scope, symbol.name) not in facts.traceable:
        return None, None, f"ftrace cannot hook {symbol.name}"
    bare = symbol.changed
    mechanism, reason = mechanisms.choose(facts, candidate, symbol, backend, bare=bare)
    return symbol, mechanism, reason


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
        why=_why(facts, choice, loaded),
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


def _why(facts: Facts, choice: Choice, loaded: tuple[Family, ...]) -> str:
    why = choice.candidate.why
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


def _unseen(
    facts: Facts,
    loaded: tuple[Family, ...],
    chosen: Choices,
    refused: dict[tuple[str, str], str],
    slots: Slots,
) -> list[Unseen]:
    """Return what no chosen symbol shows of vmlinux's points, and the architecture's blind
    spots."""
    present = {name for name, _ in chosen}
    found = []
    for family in loaded:
        for point in family.points:
            reason = refused.get((point.name, ""), "")
            if point.role or point.optional or not reason or point.name in present:
                continue
            if any(name in present for name in point.unless):
                continue
            affected = slots.named(point.slot) if point.slot else slots.names()
            if affected:
                found.append(Unseen(point.what, reason, point.patterns, affected))
    for blind in _blind(facts, loaded, chosen):
        found.append(Unseen(blind.what, blind.why, blind.patterns, slots.names()))
    if len(facts.cpus) == 1:
        why = "one CPU is online, so none can happen; with more the same kernel may race"
        found.append(Unseen("hand-offs between CPUs", why, ("stale", "shootdown"), slots.names()))
    if facts.traceable is None and "available_filter_functions" in facts.problems:
        problem = facts.problems["available_filter_functions"]
        found.append(
            Unseen("whether ftrace can hook each function", f"the list is unreadable: {problem}")
        )
    return found


def _blind(facts: Facts, loaded: tuple[Family, ...], chosen: Choices) -> list[Blind]:
    """Return the blind spots of this architecture, host and choice of mechanisms."""
    used = {choice.mechanism for choice in chosen.values()}
    return [
        blind
        for family in loaded
        for blind in family.blind
        if (not blind.arch or facts.arch in blind.arch)
        and set(blind.host) <= facts.host
        and (not blind.mechanisms or used & set(blind.mechanisms))
    ]


def _skipped(probes: list[Probe], slots: Slots) -> list[Unseen]:
    """Return the hits that the kernel skips without a count that we can read."""
    if not any(probe.mechanism in ("fprobe", "fretprobe") for probe in probes):
        return []
    what = "hits of fprobes that the kernel may have skipped"
    why = (
        "tracefs has no counter of them; an NMI is not skipped, as their guard is per context, "
        "and every GHES NMI is matched to nmi:nmi_handler"
    )
    return [Unseen(what, why, ("stale",), slots.names())]


def _inside_modules(probes: list[Probe], slots: Slots) -> list[Unseen]:
    """Return what is unseen inside a module's functions, whose source we don't know as we know
    vmlinux's."""
    mine = tuple(slot.name for slot in slots.all if slot.module)
    if not mine:
        return []
    what = "the order inside a module's unmapping function: its flush is taken to follow the clear"
    why = "the write of the PTE is inline, so a flush before it, which is no fix, looks the same"
    found = [Unseen(what, why, ("stale",), mine)]
    inline = {"page-after-clear", "broadcast-after-clear"}
    served = [slots.all[p.slot] for p in probes if p.slot is not None and inline & {*p.implies}]
    if names := tuple(slot.name for slot in served if slot.module):
        what = "invalidations inlined into the module's functions, but for the unmap's own"
        why = "the module has no flush function; a fix by an inline INVLPG on map would go unseen"
        found.append(Unseen(what, why, ("stale",), names))
    return found


def _not_checked(
    facts: Facts,
    loaded: tuple[Family, ...],
    chosen: Choices,
    refused: dict[tuple[str, str], str],
    slots: Slots,
) -> dict[str, str]:
    """Return the patterns of which nothing could be seen, and why.

    `stale` and `overlap` need a slot's map and unmap; its invalidations are seen or implied.
    """
    found: dict[str, str] = {}
    if len(slots.incomplete) == len(slots.all):
        why = "; ".join(f"{name}: {why}" for name, why in slots.incomplete.items())
        found |= {"stale": why, "overlap": why}
    maps = [choice for choice in chosen.values() if choice.point.role == "map" and choice.bare]
    if names := sorted({choice.symbol.name for choice in maps if choice.symbol}):
        why = f"the compiler changed the arguments of {', '.join(names)}: no map tells its frame"
        found.setdefault("stale", why)
    present = {name for name, _ in chosen}
    for family in loaded:
        points = [point for point in family.points if not point.optional]
        if not family.pattern or any(point.name in present for point in points):
            continue
        reasons = [refused.get((point.name, ""), "") for point in points]
        reasons += [b.why for b in family.blind if not b.arch or facts.arch in b.arch]
        found[family.pattern] = "; ".join(dict.fromkeys(r for r in reasons if r))
    return found


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
