# SPDX-License-Identifier: Apache-2.0
"""Unsafe episodes, counted and sorted; patterns/test_stale.py has what is made of them."""

from __future__ import annotations

from ghesrace.checker.core import words as w
from ghesrace.checker.core.holds import Episode, Hold
from ghesrace.checker.core.rule import Judged
from ghesrace.checker.races import Races

A, B = 0x1000, 2**64 - 0x1000


def unsafe(cls: int, frame: int = A, threat: int | None = B, never_safe: bool = False) -> Judged:
    """One judged episode of CPU 1, which CPU 0 threatens."""
    one = Judged(Episode(Hold(1, 2, 0), frame, 0))
    one.cls, one.never_safe = cls, never_safe
    one.threat = None if threat is None else Episode(Hold(0, 2, 0), threat, 0)
    return one


def test_each_is_counted_for_what_it_is() -> None:
    """A race that was observed would be called a prediction, or what is only uncertain a race."""
    sure, lucky = unsafe(w.NONE), unsafe(w.INCIDENTAL)
    unsure, never = unsafe(w.UNCERTAIN), unsafe(w.UNCERTAIN, never_safe=True)
    races = Races([sure, lucky, lucky, unsure, never, never, never])
    assert (races.observed, races.incidental, races.never_safe) == (1, 2, 3)
    assert [len(alike) for alike in races.alike.values()] == [1, 2, 3]


def test_those_are_alike_that_make_one_finding() -> None:
    """Two races would be told as one, of which the second has no witness, or one as two."""
    first, again = unsafe(w.NONE), unsafe(w.NONE)
    others = [unsafe(w.NONE, B), unsafe(w.NONE, A, A), unsafe(w.INCIDENTAL), unsafe(w.NONE)]
    others[-1].episode.writes = True
    races = Races([first, *others, again])
    assert list(races.alike.values()) == [[first, again], *([one] for one in others)]
    assert next(iter(races.alike)) == (w.NONE, False, 0, 0, 1, B, A)


def test_a_race_whose_threat_is_lost_is_counted_and_not_shown() -> None:
    """It has no witness; its verdict must stay."""
    races = Races([unsafe(w.NONE, threat=None)])
    assert (races.observed, races.alike) == (1, {})
