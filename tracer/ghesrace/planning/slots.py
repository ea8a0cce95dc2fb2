# SPDX-License-Identifier: Apache-2.0
"""The slots of a plan while it is being resolved, and the in-kernel filters they lead to."""

from __future__ import annotations

from ghesrace.events import PAGE_SHIFT, PAGE_SIZE, TABLE_SHIFT
from ghesrace.host.facts import Facts
from ghesrace.plan import Compare, Condition, Slot
from ghesrace.points import Candidate

from .filters import KERNEL_FLOOR, equals, inside, tlb_flush, touches

# x86 maps the vsyscall page at a constant of its ABI (arch/x86/include/uapi/asm/vsyscall.h).
_VSYSCALL = 0xFFFFFFFFFF600000


class Slots:
    """Slots in the order of the plan, and where a notification's slot is found among them."""

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
        """Slots of one vmlinux ("") or module."""
        return [slot for slot in self.all if slot.module == module]

    def number(self, module: str, role: str) -> int | None:
        """Index of the slot that serves *role* in *module*."""
        return self._roles.get((module, role))

    def named(self, role: str) -> tuple[str, ...]:
        """Names of the slots that serve *role* anywhere."""
        return tuple(self.all[n].name for (_, r), n in self._roles.items() if r == role)

    def names(self) -> tuple[str, ...]:
        """Names of all slots."""
        return tuple(slot.name for slot in self.all)

    def fixmap_address(self, values: dict[str, int], index: int) -> int | None:
        """Virtual address of fixmap *index*, or None where nothing tells.

        fix_to_virt(): FIXADDR_TOP - (index << PAGE_SHIFT). On x86 FIXADDR_TOP follows from the
        vsyscall page, whose address and index are both known; arm64 discloses neither.
        """
        anchor = values.get("VSYSCALL_PAGE")
        if self._arch != "x86_64" or anchor is None:
            return None
        return _VSYSCALL + ((anchor - index) << PAGE_SHIFT)

    def condition(self, candidate: Candidate, facts: Facts) -> tuple[Condition | None, str]:
        """The filter for *candidate* (points.FILTERS), or why one can't be made."""
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
        """What touches a slot's page-table page; None: any may.

        A filter can't add, so where the length is an argument the begin alone is asked.
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
        """Pages of the vm areas that slots without an address can be in, or None if unknown."""
        found = []
        for module in {s.module for s in self.all if s.address is None}:
            mine = [(a.begin, a.end) for a in facts.areas if a.module == module and a.begin]
            if not mine or any(s.index is not None for s in self.of(module) if s.address is None):
                return None
            found += mine
        return found
