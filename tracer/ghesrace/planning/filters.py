# SPDX-License-Identifier: Apache-2.0
"""What the kernel filters before an event is recorded."""

from __future__ import annotations

from ghesrace.host.facts import Facts
from ghesrace.points import Candidate

# No user mapping is above this and no kernel one below: the kernel's half begins here with 5-level
# page tables (Documentation/arch/x86/x86_64/mm.rst) and higher with every other layout.
KERNEL_FLOOR = 0xFF00000000000000


def tlb_flush(candidate: Candidate, facts: Facts) -> tuple[str | None, str]:
    """common_flags: interrupts off, in a hard interrupt, in an NMI (decode.py)."""
    found = [s.address for name in candidate.callbacks for s in facts.symbols.get(name, ())]
    if not found:
        return None, "none of its callbacks is known by name"
    if not all(found):
        return None, "kallsyms hides addresses (kernel.kptr_restrict), so no callback is known"
    known = either([f"func == {address:#x}" for address in found])
    return f"(wait & 1) && ({known}) && (common_flags & 0x49)", ""


def merge(pages: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(pages):
        if merged and merged[-1][1] == begin:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((begin, end))
    return merged


def inside(pages: list[tuple[int, int]]) -> str:
    return either([f"(addr >= {begin:#x} && addr < {end:#x})" for begin, end in merge(pages)])


def either(conditions: list[str]) -> str:
    return " || ".join(conditions)
