# SPDX-License-Identifier: Apache-2.0
"""This module says what a summary needs of a plan. In a summary the kernel keeps the may-hold state
and no events.
"""

from __future__ import annotations

from dataclasses import replace

from ghesrace.errors import HostError
from ghesrace.events import Kind
from ghesrace.plan import Plan, Probe, Unseen

NEEDS_EVENTS = ("torn_edit", "shootdown", "overlap")  # patterns
WITHOUT_EVENTS = "summary mode keeps no events"
MOST_SLOTS_OF_A_SUMMARY = 8  # A program looks through the state of all of a CPU's slots at once.
_STATE = (
    *("MAP", "UNMAP", "INV_PAGE", "INV_RANGE", "INV_ALL", "BCAST_RANGE", "BCAST_ALL"),
    *("BCAST_END", "READ", "WRITE", "NOTIFY", "NOTIFY_END", "NMI_REF"),
)


def summarised(plan: Plan) -> Plan:
    """Return *plan* (backend "bpf") with only the probes that the state needs, and with `summary`
    set. Patterns that need single events are not checked then.

    Raises HostError if the kernel can't decide by itself what this plan's events tell.

    >>> summarised(Plan("x86_64", "6.12", (), (), backend="bpf")).not_checked["overlap"]
    'summary mode keeps no events'
    """
    full = "record without --summary"
    if plan.backend != "bpf":
        raise HostError("summary mode needs the BPF backend", full)
    if len(plan.slots) > MOST_SLOTS_OF_A_SUMMARY:
        raise HostError(
            f"summary mode knows {MOST_SLOTS_OF_A_SUMMARY} slots, here are {len(plan.slots)}", full
        )
    if plan.transport != "mapped":
        raise HostError("summary mode needs BPF arrays that user space can map", full)
    if plan.forced_broadcast:
        raise HostError("summary mode takes no account of a hypervisor's broadcasts", full)
    handlers = [probe for probe in plan.probes if _is_handler(probe)]
    for n, slot in enumerate(plan.slots):
        if not any(h.kind == Kind.NOTIFY.name and h.slot in (None, n) for h in handlers):
            what = f"summary mode needs the notification handlers of {slot.name}, none can be seen"
            raise HostError(what, full)
    kinds = {probe.kind for probe in plan.probes}
    if Kind.INV_PAGE.name in kinds and Kind.BCAST_RANGE.name not in kinds:
        # A broadcast that is made of local invalidations can be told only from the events of all
        # CPUs together.
        raise HostError("summary mode needs the kernel's broadcast flushes, none can be seen", full)
    accesses = {Kind.READ.name, Kind.WRITE.name} <= kinds
    return replace(
        plan,
        probes=tuple(probe for probe in plan.probes if _is_needed(plan, probe, accesses)),
        unseen=(*plan.unseen, Unseen("single events", WITHOUT_EVENTS, NEEDS_EVENTS)),
        not_checked={**plan.not_checked, **dict.fromkeys(NEEDS_EVENTS, WITHOUT_EVENTS)},
        summary=True,
    )


def _is_handler(probe: Probe) -> bool:
    """Return whether *probe* is on a notification handler, not on a function that one calls."""
    return probe.kind.startswith(Kind.NOTIFY.name) and not probe.point.startswith("notify-proc")


def _is_needed(plan: Plan, probe: Probe, accesses: bool) -> bool:
    if probe.kind.startswith(Kind.NOTIFY.name):
        return _is_handler(probe)
    if probe.kind == Kind.MAP_END.name:
        # It tells the slot's address, and from when on an access that is not seen may happen.
        unknown = probe.slot is None or plan.slots[probe.slot].address is None
        return unknown or not accesses
    return probe.kind in _STATE
