# SPDX-License-Identifier: Apache-2.0
"""This shows a plan as text of 80 columns: what is attached and why, what that implies, and what
stays unseen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from ghesrace.plan import INVALIDATES, Plan, Probe, Slot, Unseen
from ghesrace.sources.tracefs_text import shown_condition

from .layout import wrapped

Paragraph = tuple[str, str, str]  # the text, what its first line begins with, and what the others
_IMPLIED = {
    "page-after-set": "implies a local invalidation of the page after the set",
    "page-after-clear": "implies a local invalidation of the page after the clear",
    "flush-inside": "invalidates before it returns, which a probe of its own shows",
    "broadcast-after-clear": "implies an invalidation on all CPUs after the clear",
    "may-allocate": "may allocate pages of the page table",
    "may-free": "may free pages of the page table",
    "unmaps-status": "unmaps the status word that NMI handlers read",
}
_PERF = (
    "records come through a perf event array, as this kernel has no BPF arrays that user space can "
    "map (before 5.5): dearer, and what a buffer can't take is an accounted loss"
)


def render_plan_text(plan: Plan, width: int = 80) -> str:
    """Return the plan as text that ends in a newline, with no line wider than *width*.

    >>> print(render_plan_text(Plan("x86_64", "6.12", (), (), cpus=(0, 1))).splitlines()[0])
    Plan for Linux 6.12 (x86_64), 2 CPUs online
    """
    lines = (
        line for text, first, rest in _lines(plan) for line in wrapped(text, width, first, rest)
    )
    return "\n".join(lines) + "\n"


def _lines(plan: Plan) -> Iterator[Paragraph]:
    cpus = len(plan.cpus)
    yield (
        f"Plan for Linux {plan.release} ({plan.arch}), {cpus} CPU{'s' * (cpus != 1)} online",
        "",
        "",
    )
    pages = "not global (PTI): a CR3 write may drop them" if plan.pti else "global"
    yield f"clock {plan.clock}; kernel TLB entries are {pages}", "", "  "
    if plan.transport == "perf":
        yield _PERF, "", "  "
    yield "", "", ""
    yield "Slots", "", ""
    for slot in plan.slots:
        yield _slot(slot), "  ", "      "
    yield "", "", ""
    yield "Probes", "", ""
    for _, group in groupby(plan.probes, key=lambda probe: (probe.point, probe.symbol)):
        yield from _probe(plan, list(group))
    if plan.unseen:
        yield "", "", ""
        yield "Unseen", "", ""
        for unseen in plan.unseen:
            yield from _unseen(plan, unseen)
    for pattern, reason in plan.not_checked.items():
        yield "", "", ""
        yield f"Not checked: the pattern {pattern}. {reason}", "", "  "


def _slot(slot: Slot) -> str:
    where = [] if slot.index is None else [f"fixmap index {slot.index}"]
    if slot.address is not None:
        where.append(f"at {slot.address:#x}")
    else:
        where.append("address not known beforehand")
    if slot.module:
        where.append(f"of module {slot.module}")
    unit = "one page" if slot.lock == "page" else "one whole report"
    return f"{slot.name}: {', '.join(where)}; its lock covers {unit}"


def _probe(plan: Plan, group: list[Probe]) -> Iterator[Paragraph]:
    """Yield one paragraph for a function: its entry probe, with its return probe if it has one."""
    probe = group[0]
    kinds = [k for p in group for k in (p.kind, p.clear_kind) if k]
    text = f"{probe.symbol} ({probe.mechanism}{' and return' * (len(group) > 1)})"
    yield f"{text} -> {', '.join(kinds)}", "  ", "      "
    if probe.why:
        yield probe.why, "      ", "      "
    notes = [_implied(plan, probe, what) for what in probe.implies]
    notes += [
        f"invalidates the page that it is given; {one.state}: {one.where}"
        for one in plan.implications
        if (one.point, one.symbol, one.what) == (probe.point, probe.symbol, INVALIDATES)
    ]
    if probe.slot is not None:
        notes.append(f"always slot {plan.slots[probe.slot].name}")
    if probe.filter is not None:
        notes.append(f"in-kernel filter: {shown_condition(probe)}")
    for note in notes:
        yield note, "      - ", "        "


def _implied(plan: Plan, probe: Probe, what: str) -> str:
    """Say what the function does besides, and on what that is believed."""
    text = _IMPLIED.get(what, what)
    for one in plan.implications:
        if (one.point, one.symbol, one.what) == (probe.point, probe.symbol, what):
            return f"{text}; {one.state}: {one.where}"
    return text


def _unseen(plan: Plan, unseen: Unseen) -> Iterator[Paragraph]:
    text = f"{unseen.what}. {unseen.why[:1].upper()}{unseen.why[1:]}."
    affected = [f"pattern {name}" for name in unseen.patterns]
    if unseen.slots and len(unseen.slots) < len(plan.slots):
        affected.append("slots " + ", ".join(unseen.slots))
    if affected:
        text += f" Affects: {'; '.join(affected)}."
    yield text, "  ", "      "
