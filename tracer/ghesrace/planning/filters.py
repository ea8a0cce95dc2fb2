# SPDX-License-Identifier: Apache-2.0
"""These functions make the conditions by which the kernel filters, before it records an event."""

from __future__ import annotations

from collections.abc import Sequence

from ghesrace.host.facts import Facts
from ghesrace.plan import AllOf, AnyOf, Compare, Condition, InContext
from ghesrace.points import Candidate

# No user mapping is above this and no kernel one below: the kernel's half begins here with 5-level
# page tables (Documentation/arch/x86/x86_64/mm.rst) and higher with every other layout.
KERNEL_FLOOR = 0xFF00000000000000


def tlb_flush(candidate: Candidate, facts: Facts) -> tuple[Condition | None, str]:
    """Return the condition for an IPI that flushes TLBs and waits, sent where none may be, and "".
    If its callbacks are not known, return None and the reason."""
    found = [s.address for name in candidate.callbacks for s in facts.symbols.get(name, ())]
    if not found:
        return None, "none of its callbacks is known by name"
    if not all(found):
        return None, "kallsyms hides addresses (kernel.kptr_restrict), so no callback is known"
    waits = Compare("wait", "&", 1)
    forbidden = InContext(("interrupts-off", "irq", "nmi"))
    return AllOf((waits, equals("func", found), forbidden)), ""


def merge(pages: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges [begin, end) of *pages*, sorted; those that follow each other are joined.

    >>> merge([(0x2000, 0x3000), (0x1000, 0x2000)]) == [(0x1000, 0x3000)]
    True
    """
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(pages):
        if merged and merged[-1][1] == begin:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((begin, end))
    return merged


def equals(field: str, values: Sequence[int]) -> Condition:
    """Return the condition that *field* is one of *values*.

    >>> equals("index", [644])
    AnyOf(any=(Compare(field='index', operator='==', value=644),))
    """
    return AnyOf(tuple(Compare(field, "==", value) for value in values))


def inside(pages: list[tuple[int, int]]) -> Condition:
    """Return the condition that the address `addr` lies in one of the ranges [begin, end).

    >>> inside([(4_096, 8_192)]).any[0].all[1]
    Compare(field='addr', operator='<', value=8192)
    """
    ranges = merge(pages)
    return AnyOf(
        tuple(AllOf((Compare("addr", ">=", a), Compare("addr", "<", b))) for a, b in ranges)
    )


def touches(pages: list[tuple[int, int]]) -> Condition:
    """Return the condition that the range [`addr`, `end`) shares a byte with one of the ranges
    [begin, end)."""
    ranges = merge(pages)
    return AnyOf(tuple(AllOf((Compare("addr", "<", b), Compare("end", ">", a))) for a, b in ranges))
