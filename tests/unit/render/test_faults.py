# SPDX-License-Identifier: Apache-2.0
"""Findings of one fault are one, in every output."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from ghesrace.checker.findings import Finding
from ghesrace.errors import UsageError
from ghesrace.render.faults import faults, named, wording


def stale(x: int, y: int, p: int, q: int, slot: str = "irq", severity: str = "observed") -> Finding:
    why = f"no invalidation on CPU {y}: it may have used frame {p:#x} instead of {q:#x}"
    frames = (p, q)
    return Finding("stale", severity, "read", slot, (x, y), frames, why, [], count=1)  # type: ignore[arg-type]


def test_permutations_of_cpus_and_frames_are_one_fault() -> None:
    """If this fails, one missing flush fills pages: a reader mends it 28 times."""
    many = [stale(x, y, p, q) for x, y in permutations(range(4), 2) for p, q in [(1, 2), (2, 1)]]
    [fault] = faults([*many, stale(0, 1, 5, 6, severity="predicted")])
    assert fault.counts == {"observed": 24, "predicted": 1}
    assert fault.worst is many[0]


def test_another_slot_is_another_fault() -> None:
    """If this fails, a fault of the NMI slot hides behind one of the IRQ slot."""
    found = faults([stale(0, 1, 1, 2), stale(0, 1, 1, 2, slot="nmi")])
    assert [fault.worst.slot for fault in found] == ["irq", "nmi"]


def test_other_patterns_are_told_apart_by_what_happened() -> None:
    """If this fails, an edit of the slot's own entry hides one of another entry, or each address
    makes a fault of its own."""
    words = "CPU {} (nmi) maps {}; it interrupted CPU {} (task), which edits {} in vmap: danger"
    one = Finding(
        "torn_edit", "observed", None, "nmi", (0, 0), None, words.format(0, "0x70", 0, "0x5"), []
    )
    same = replace(one, cpus=(3, 3), explanation=words.format(3, "0x71", 3, "0x9"))
    other = replace(one, explanation=words.format(0, "0x70", 0, "0x5").replace("vmap", "ioremap"))
    assert [len(fault.variants) for fault in faults([one, same, other])] == [2, 1]
    elsewhere = replace(same, slot="irq")
    assert [len(fault.variants) for fault in faults([one, same, elsewhere])] == [2, 1]


def test_a_name_finds_its_finding() -> None:
    """If this fails, `show --around 2.1` shows another finding than the report numbers so."""
    first, second, third = stale(0, 1, 1, 2), stale(1, 0, 2, 1), stale(0, 1, 1, 2, "nmi")
    found = faults([first, second, third])
    names = ("1", "1.1", "1.2", "2")
    assert [named(found, name) for name in names] == [first, first, second, third]
    for wrong in ("0", "3", "1.3", "1.0", "2.-1", "", "x", "1.x", "1.²"):
        with pytest.raises(UsageError, match="there is no finding"):
            named(found, wrong)


def test_wording_is_the_same_on_every_boot() -> None:
    """If this fails, `diff` takes each second recording of one kernel for a worse one."""
    one = "CPU 0 (nmi) maps 0x70000000 at irq; it met CPU 1, which edits 0xffff8000 in vmap: danger"
    other = "CPU 7 (nmi) maps 0x1000 at irq; it met CPU 12, which edits 0xffffc9 in vmap: danger"
    assert wording(one) == wording(other) == wording(f"{one}, unless it was over")
    assert wording(one) != wording(one.replace("vmap", "ioremap"))
    assert wording(one) != wording(one.replace("nmi", "irq"))
