# SPDX-License-Identifier: Apache-2.0
"""Slots of two recordings that are one slot."""

from __future__ import annotations

from ghesrace.render.diff.slots import Pair, paired
from tests.build.reports import side, slot


def pairs(a: list[str], b: list[str], idle: tuple[str, ...] = ()) -> set[tuple[str | None, ...]]:
    """What is paired of slots of these names, all in use but the *idle* ones."""
    sides = [
        side(slots=tuple(slot(name, **({} if name in idle else {"fresh": 1})) for name in names))
        for names in (a, b)
    ]
    return {(pair.a, pair.b) for pair in paired(*sides)}


def test_equal_names_are_one_slot() -> None:
    """The usual case: two of today's kernels."""
    both = ["GHES_NMI", "GHES_IRQ"]
    assert pairs(both, both[::-1]) == {("GHES_NMI", "GHES_NMI"), ("GHES_IRQ", "GHES_IRQ")}


def test_an_old_kernels_slot_is_that_of_a_new_one() -> None:
    """Until 4.14 pages of a vm area served what fixmap entries do since: unpaired, no patch of that
    time could be compared."""
    old, new = ["ghes:irq", "ghes:nmi"], ["GHES_IRQ", "GHES_NMI"]
    assert pairs(old, new) == {("ghes:irq", "GHES_IRQ"), ("ghes:nmi", "GHES_NMI")}


def test_two_that_serve_the_same_are_not_guessed() -> None:
    """Which of two is the other side's can't be told: a guess would compare strangers."""
    assert pairs(["GHES_IRQ"], ["a:irq", "b:irq"]) == {
        ("GHES_IRQ", None),
        (None, "a:irq"),
        (None, "b:irq"),
    }
    assert not {("a:irq", "c:irq"), ("b:irq", "c:irq")} & pairs(
        ["a:irq", "b:irq"], ["c:irq", "d:irq"]
    )


def test_one_in_use_comes_before_one_that_is_not() -> None:
    """If this fails, an idle slot takes the place of the one in use."""
    found = pairs(["x:irq", "y:irq"], ["GHES_IRQ"], idle=("y:irq",))
    assert found == {("x:irq", "GHES_IRQ"), ("y:irq", None)}
    assert pairs(["x:irq"], ["GHES_IRQ"], idle=("x:irq", "GHES_IRQ")) == {("x:irq", "GHES_IRQ")}


def test_addresses_are_no_names() -> None:
    """With KASLR each boot has others: the order of pages stays, their addresses do not."""
    a, b = (
        ["0xffffc90000001000", "0xffffc90000002000"],
        ["0xffffaa0000005000", "0xffffaa0000006000"],
    )
    assert pairs(a, b) == set(zip(a, b, strict=True))
    assert pairs(a, b[:1]) == {(a[0], None), (a[1], None), (None, b[0])}
    assert pairs(["fixmap-644", "fixmap-645-nmi"], ["fixmap-701-nmi", "fixmap-700"]) == {
        ("fixmap-644", "fixmap-700"),
        ("fixmap-645-nmi", "fixmap-701-nmi"),
    }


def test_both_names_are_told() -> None:
    """If this fails, readers look for a slot in the wrong recording."""
    assert Pair("a:irq", "GHES_IRQ").name == "a:irq / GHES_IRQ"
    assert Pair(None, "b").name == "b"
    assert Pair("a", "a").name == "a"
