# SPDX-License-Identifier: Apache-2.0
"""This keeps the slots of a plan while it is resolved, and makes the in-kernel filters from
them."""

from __future__ import annotations

from ghesrace.events import PAGE_SHIFT, PAGE_SIZE, TABLE_SHIFT
from ghesrace.host.facts import Facts
from ghesrace.plan import Compare, Condition, Slot
from ghesrace.points import Candidate

from .filters import KERNEL_FLOOR, equals, inside, tlb_flush, touches

# x86 maps the vsyscall page at a constant of its ABI (arch/x86/include/uapi/asm/vsyscall.h).
_VSYSCALL = 0xFFFFFFFFFF600000


class Slots:
    """This holds the slots in the order of the plan, and finds a notification's slot among them.

    >>> slots = Slots(Facts("x86_64", "6.12"))
    >>> slots.add(Slot("GHES_IRQ", 644, None, "report"), "IRQ")
    >>> slots.number("", "irq")
    0
    >>> slots.condition(Candidate(filter="slot-index"), Facts("x86_64", "6.12"))[0]
    AnyOf(any=(Compare(field='index', operator='==', value=644),))
    """

    def __init__(self, facts: Facts) -> None:
        self.all: list[Slot] = []
        self.incomplete: dict[str, str] = {}  # slot name: why its unmap is not seen
        self._arch = facts.arch
        self._roles: dict[tuple[str, str], int] = {}

    def add(self, slot: Slot, role: str) -> None:
        """Add *slot*, which serves *role* (irq, nmi, sea, ...) in its vmlinux or module."""
        if role:
            self._roles[slot.module, role.lower()] = len(self.all)
        self.all.append(slot)

    def of(self, module: str) -> list[Slot]:
        """Return the slots of vmlinux ("") or of one module."""
        return [slot for slot in self.all if slot.module == module]

    def number(self, module: str, role: str) -> int | None:
        """Return the index of the slot that serves *role* in *module*, or None."""
        return self._roles.get((module, role))

    def named(self, role: str) -> tuple[str, ...]:
        """Return the names of the slots that serve *role* in vmlinux or any module."""
        return tuple(self.all[n].name for (_, r), n in self._roles.items() if r == role)

    def names(self) -> tuple[str, ...]:
        """Return the names of all slots."""
        return tuple(slot.name for slot in self.all)

    def fixmap_address(self, values: dict[str, int], index: int) -> int | None:
        """Return the virtual address of fixmap *index*, or None where nothing tells it.

        fix_to_virt() is FIXADDR_TOP - (index << PAGE_SHIFT). On x86 FIXADDR_TOP follows from the
        vsyscall page, whose index is in *values* (the enumerators of fixed_addresses) and whose
        address is known; arm64 discloses neither.

        >>> address = Slots(Facts("x86_64", "6.12")).fixmap_address({"VSYSCALL_PAGE": 511}, 644)
        >>> f"{address:#x}"
        '0xffffffffff57b000'
        """
        anchor = values.get("VSYSCALL_PAGE")
        if self._arch != "x86_64" or anchor is None:
            return None
        return _VSYSCALL + ((anchor - index) << PAGE_SHIFT)

    def condition(self, candidate: Candidate, facts: Facts) -> tuple[Condition | None, str]:
        """Return the filter of *candidate* (points.FILTERS) as a condition, or None if nothing is
        filtered, and "". If the filter is needed and can't be made, return None and the reason."""
        rule = candidate.filter
        known = [s.address for s in self.all]
        pages = [(a, a + PAGE_SIZE) for a in known if a is not None]
        complete = len(pages) == len(known)
        if rule == "slot-index":
            indices = [s.index for s in self.all if s.index is not None]
            return (equals("index", indices) if indices else None), ""
        if rule == "slot-address":
            return (inside(pages) if complete else None), ""
        if rule == "slot-range":
            return (touches(pages) if complete else None), ""
        if rule == "mapped-page":
            if not complete:
                areas = self._areas(facts)
                if areas is None:
                    return Compare("addr", ">=", KERNEL_FLOOR), ""
                pages += areas
            return inside(pages), ""
        if rule == "kernel-address":
            return Compare("addr", ">=", KERNEL_FLOOR), ""
        if rule == "ghes-nmi-handler":
            handlers = [s.address for s in facts.symbols.get("ghes_notify_nmi", ())]
            if not all(handlers):
                return (
                    None,
                    "kallsyms hides addresses (kernel.kptr_restrict), so no handler is known",
                )
            return equals("handler", handlers), ""
        if rule == "slot-table":
            return self._tables(pages if complete else None, candidate, facts), ""
        if rule == "tlb-flush":
            return tlb_flush(candidate, facts)
        return None, ""

    def _tables(
        self, pages: list[tuple[int, int]] | None, candidate: Candidate, facts: Facts
    ) -> Condition | None:
        """Return the condition that an edit touches a slot's page-table page, or None if any may.

        A filter can't add. Where the edit's length is an argument, and not its end, only its begin
        is asked.
        """
        if pages is None:
            areas = self._areas(facts)
            if areas is None:
                return None
            known = [s.address for s in self.all if s.address is not None]
            pages = [*areas, *((a, a + PAGE_SIZE) for a in known)]
        tables = sorted({page >> TABLE_SHIFT for a, b in pages for page in (a, b - 1)})
        spans = [(t << TABLE_SHIFT, t + 1 << TABLE_SHIFT) for t in tables]
        if "end" not in candidate.fields:
            return Compare("addr", "<", max(end for _, end in spans))
        return touches(spans)

    def _areas(self, facts: Facts) -> list[tuple[int, int]] | None:
        """Return the vm areas, as [begin, end), that slots without an address can be in, or None if
        they are unknown."""
        found = []
        for module in {s.module for s in self.all if s.address is None}:
            mine = [(a.begin, a.end) for a in facts.areas if a.module == module and a.begin]
            if not mine or any(s.index is not None for s in self.of(module) if s.address is None):
                return None
            found += mine
        return found
