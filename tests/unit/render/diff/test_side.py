# SPDX-License-Identifier: Apache-2.0
"""What a comparison asks of one report."""

from __future__ import annotations

from tests.build.reports import finding, side, slot


def test_a_slot_without_episodes_was_not_tried() -> None:
    """If this fails, a slot that nothing used counts as one without findings."""
    one = side(slots=(slot(map_flush=1), slot("GHES_NMI")))
    assert one.tried("GHES_IRQ")
    assert not one.tried("GHES_NMI")
    assert not one.tried("GHES_SEA")
    assert one.tried(None)


def test_a_slot_with_a_finding_was_tried() -> None:
    """A torn edit at a slot whose episodes could not be judged is no less there."""
    assert side(finding("torn_edit", slot="GHES_NMI"), slots=()).tried("GHES_NMI")


def test_what_is_open_touches_what_it_is_about() -> None:
    """If this fails, a doubt about one slot hides or excuses another's findings."""
    stale, torn = ("stale", "GHES_IRQ", ""), ("torn_edit", "GHES_NMI", "x")
    one = side(reasons=("uncertain: GHES_NMI: 3 loss",), slots=(slot(), slot("GHES_NMI")))
    assert one.opening(stale, ()) is None
    assert one.opening(torn, ()) == "uncertain: GHES_NMI: 3 loss"
    one = side(reasons=("uncertain: stale: x",))
    assert one.opening(stale, ())
    assert not one.opening(torn, ())
    assert side(reasons=("truncated",)).opening(torn, ()) == "truncated"


def test_what_it_rests_on_opens_all_unless_accepted() -> None:
    """If this fails, a text that tells no losses proves that a fault is not there."""
    one = side(qualified_by=["losses", "clock"])
    shape = ("stale", "GHES_IRQ", "")
    assert one.opening(shape, ()) == "it rests on losses, clock"
    assert one.opening(shape, ("clock",)) == "it rests on losses"
    assert one.opening(shape, ("clock", "losses")) is None


def test_protection_names_what_saved_episodes_or_failed_to() -> None:
    """If this fails, a slot looks protected by what protected nothing there."""
    made = side(slots=(slot(fresh=9, map_flush=1, none=2, uncertain=3),)).slots["GHES_IRQ"]
    assert made.protection == ("map-flush", "none")
    assert side(slots=(slot(fresh=9),)).slots["GHES_IRQ"].protection == ()


def test_the_worst_variant_stands_for_a_fault() -> None:
    """If this fails, a write is told as a read, or an observed race as predicted."""
    one = side(
        finding(severity="predicted", access="write", count=2),
        finding(access="read", count=3),
        finding(access="write", count=1),
    )
    [seen] = one.faults.values()
    assert (seen.severity, seen.access, seen.variants) == ("observed", "write", 3)
    assert seen.counts == {"predicted": 2, "observed": 4}
