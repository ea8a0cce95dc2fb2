# SPDX-License-Identifier: Apache-2.0
"""What a plan cannot show: points without a symbol, blind spots of architecture and chosen
mechanisms, and the patterns that can't be checked for it."""

from __future__ import annotations

from ghesrace.host.facts import Facts
from ghesrace.plan import Probe, Unseen
from ghesrace.points import Blind, Family

from .choice import Choices
from .slots import Slots


def unseen_points(
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
    for blind in blind_spots(facts, loaded, chosen):
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


def blind_spots(facts: Facts, loaded: tuple[Family, ...], chosen: Choices) -> list[Blind]:
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


def skipped_hits(probes: list[Probe], slots: Slots) -> list[Unseen]:
    """Return the hits that the kernel skips without a count that we can read."""
    if not any(probe.mechanism in ("fprobe", "fretprobe") for probe in probes):
        return []
    what = "hits of fprobes that the kernel may have skipped"
    why = (
        "tracefs has no counter of them; an NMI is not skipped, as their guard is per context, "
        "and every GHES NMI is matched to nmi:nmi_handler"
    )
    return [Unseen(what, why, ("stale",), slots.names())]


def inside_modules(probes: list[Probe], slots: Slots) -> list[Unseen]:
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


def not_checked(
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
