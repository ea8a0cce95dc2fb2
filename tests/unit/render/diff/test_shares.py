# SPDX-License-Identifier: Apache-2.0
"""The numbers of two sides beside each other."""

from __future__ import annotations

from ghesrace.render.diff.compare import compare
from ghesrace.render.diff.shares import head, loss_rows, pattern_rows, slot_changes
from tests.build.reports import side, slot

A = side(
    slots=(slot(fresh=3, map_flush=1), slot("GHES_NMI"), slot("GHES_SEA", fresh=1)),
    events=1000,
    losses={"overrun": 2},
    lost=2,
)
B = side(
    slots=(slot(fresh=1, none=1), slot("GHES_NMI"), slot("x:other", uncertain=1)),
    events=2000,
    losses={"retired": 5},
    lost=None,
    unchecked=("overlap",),
)


def test_shares_are_of_each_sides_own_episodes() -> None:
    """If this fails, a longer recording seems to have more of everything."""
    first = slot_changes(compare(A, B))[0]
    assert [(s.word, s.a, s.b, s.points) for s in first.shares] == [
        ("fresh", 3, 1, -25.0),
        ("map-flush", 1, 0, -25.0),
        ("none", 0, 1, 50.0),
    ]
    assert first.protection == ("map-flush", "none")
    assert first.changed


def test_a_slot_of_one_side_is_told_as_such() -> None:
    """If this fails, a slot that was not used looks as one that nothing protects."""
    changes = slot_changes(compare(A, B))
    assert [c.pair.name for c in changes] == ["GHES_IRQ", "GHES_SEA", "x:other"]
    assert changes[1].protection == ("nothing that had to be protected", "no episodes")
    assert changes[2].protection == ("no episodes", "uncertain")


def test_losses_are_told_by_cause() -> None:
    """If this fails, it can't be seen that B's recording is worse than A's."""
    assert loss_rows(compare(A, B)) == [
        ("events", "1,000", "2,000"),
        ("lost", "2", "unknown"),
        ("overrun", "2", "."),
        ("retired", ".", "5"),
    ]


def test_patterns_say_why_they_were_not_checked() -> None:
    """If this fails, a pattern that nobody looked for shows zero findings."""
    rows = {name: (a, b) for name, a, b in pattern_rows(compare(A, B))}
    assert rows["overlap"] == ("0 observed, 0 predicted", "not checked: nothing can be probed")
    assert "torn edit" in rows


def test_the_head_has_what_the_verdict_rests_on() -> None:
    """If this fails, clean that rests on much looks as clean that rests on nothing."""
    one = side(qualified_by=["losses", "clock"], assumed_clock_ns=1000)
    assert head(one) == (
        "clean, resting on losses, clock, assuming that clocks agree within 1,000 ns"
    )
