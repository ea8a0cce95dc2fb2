# SPDX-License-Identifier: Apache-2.0
"""A plan's tables: each is asked of every probe point, and none says more than all of them do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ghesrace.checker.core import facts, words
from ghesrace.plan import Implied, Plan, Probe, Slot
from tests.build.trace import plan
from tests.build.uncompiled import all_uncompiled

FACTS = all_uncompiled(facts)
SECOND = words.FORCE_CLOSE_NS
BITS = {
    "page-after-set": words.PAGE_AFTER_SET,
    "page-after-clear": words.PAGE_AFTER_CLEAR,
    "broadcast-after-clear": words.BROADCAST_AFTER_CLEAR,
    "flush-inside": words.FLUSH_INSIDE,
    "may-allocate": words.MAY_ALLOCATE,
    "may-free": words.MAY_FREE,
    "unmaps-status": words.UNMAPS_STATUS,
}


def of(*probes: Probe, **fields: Any) -> Any:
    """The tables of a plan with these probes."""
    return FACTS.Facts(replace(Plan("x86_64", "t", (), probes), **fields))


def probe(kind: str, *implies: str, clear: str | None = None) -> Probe:
    return Probe(kind.lower(), kind, kind, "kprobe", implies=implies, clear_kind=clear)


def test_what_a_probe_implies_and_hides() -> None:
    """A loss would hide what its probe never tells of, or a symbol do what its code does not."""
    for word, bit in BITS.items():
        assert list(of(probe("READ", word), probe("MAP")).implies) == [bit, 0, 0]
    both = of(probe("READ"), probe("MAP", *BITS, clear="UNMAP"))
    assert list(both.implies) == [0, sum(BITS.values()), 0]
    assert both.hides == [1 << words.K_READ, words.MAPS, 1 << words.K_READ | words.MAPS]
    assert both.traced == both.hides[2]
    assert [both.row(n) for n in (0, 1, 2, 65535)] == [0, 1, 2, 2]
    assert (both.implied(1), both.implied(9)) == (sum(BITS.values()), 0)
    none = of()
    assert (none.hides, none.traced, list(none.implies), list(none.nested)) == ([0], 0, [0], [0])
    called = of(probe("MAP"), Probe("notify-proc-one", "NOTIFY", "n", "kprobe"))
    assert [called.is_nested(n) for n in range(3)] == [False, True, False]
    assert not of(probe("COPY")).bcast_end_traced
    assert of(probe("BCAST_END")).bcast_end_traced


@pytest.mark.parametrize("kind", ["MAP", "UNMAP"])
def test_what_a_hidden_map_or_unmap_did_is_what_all_of_them_do(kind: str) -> None:
    """One symbol that flushes would vouch for another one that does not: a false clean."""

    def hidden(*probes: Probe) -> int:
        found = of(*probes)
        told: int = found.hidden_map if kind == "MAP" else found.hidden_unmap
        other = found.hidden_unmap if kind == "MAP" else found.hidden_map
        assert other == 0
        return told

    one, other = "page-after-set", "page-after-clear"
    assert hidden(probe(kind, one)) == BITS[one]
    assert hidden(probe(kind, one, other), probe(kind, other)) == BITS[other]
    assert hidden(probe(kind, other), probe(kind, one, other)) == BITS[other]
    assert hidden(probe(kind, one), probe(kind)) == hidden(probe(kind), probe(kind, one)) == 0
    assert hidden(probe("READ", other), probe(kind, one)) == BITS[one]
    assert hidden(probe("READ", other)) == hidden() == 0


@pytest.mark.parametrize("proven", [None, 50, 900, 5_000, SECOND - 1, SECOND, 2 * SECOND])
@pytest.mark.parametrize("cpus", [0, 1, 2])
def test_how_long_to_wait_for_what_the_proven_clocks_leave_open(
    proven: int | None, cpus: int
) -> None:
    """A race would not say that it assumes the clocks, or a live check wait for seconds."""
    of_plan = replace(plan(error=900, cpus=cpus), clock_proven_ns=proven)
    found = FACTS.Facts(of_plan)
    assumed = proven is not None and proven > 900 and cpus != 1
    assert found.assumed is assumed
    assert found.error == 900
    assert found.wait == (proven if assumed and proven is not None and proven < SECOND else 900)


def test_slots_of_one_family_and_module_are_one_group() -> None:
    """Slots whose addresses nobody knows would be taken for neighbours, or for none."""
    made = [Slot(name, n, None, "report") for n, name in enumerate("abc")]
    slots = made[0], replace(made[1], family="other"), made[2]
    found = FACTS.Facts(Plan("x86_64", "t", slots, ()))
    assert found.groups == [0, 1, 0]
    slots = made[0], replace(made[1], module="other"), made[2]
    assert FACTS.Facts(Plan("x86_64", "t", slots, ())).groups == [0, 1, 0]


def test_probes_of_one_symbol_are_told_by_it() -> None:
    """The end of one function's edit would end another's; an event of no probe is of none."""
    probes = [Probe(name, "EDIT", name[0], "kprobe") for name in ("ax", "bx", "ay")]
    assert of(*probes).symbols == [0, 1, 0, -1]


@pytest.mark.parametrize("what", ["page-after-clear", "flush-inside"])
def test_what_an_unseen_unmap_did_for_sure_was_read_in_the_code_of_all(what: str) -> None:
    """What a plan only assumes would be taken for proven, or one symbol vouch for another."""
    probes = (
        probe("MAP", what),
        probe("UNMAP", what),
        Probe("u", "UNMAP", "u", "k", implies=(what,)),
    )
    bit, names = BITS[what], [(one.point, one.symbol) for one in probes]

    def found(*proven: int, bare: int = -1) -> Any:
        some = [replace(one, implies=()) if n == bare else one for n, one in enumerate(probes)]
        read = tuple(Implied(*names[n], what, "proven", "read") for n in proven)
        return of(*some, implications=read)

    flush = what == "flush-inside"
    assert (found(0, 1, 2).proven_unmap, found(0, 1, 2).flush_proven) == (bit, flush)
    assert (found(1, 2).proven_unmap, found(1, 2).flush_proven) == (bit, False)
    for proven in ((0, 1), (0, 2), (0,), ()):
        assert (found(*proven).proven_unmap, found(*proven).flush_proven) == (0, False)
    assert found(0, 1, 2, bare=1).proven_unmap == 0  # the plan does not say that it does
    assert not found(0, 1, 2, bare=0).flush_proven
    assert found().hidden_unmap == found().hidden_map == bit
    other = Implied(*names[1], "page-after-set", "proven", "read")
    assert of(*probes, implications=(other,)).proven_unmap == 0
