# SPDX-License-Identifier: Apache-2.0
"""When two uses of one slot meet: every order of a few stamps, against what the words mean."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from ghesrace.checker.core import holds, uses, words
from tests.build.uncompiled import uncompiled

HOLDS, USES = uncompiled(holds), uncompiled(uses)
NO, MAYBE, SURE, NEVER = words.NO, words.MAYBE, words.SURE, words.NEVER
STAMPS = range(0, 7, 2)


def use(cpu: int = 0, ctx: int = 2, **fields: Any) -> Any:
    one = HOLDS.Episode(HOLDS.Hold(cpu, ctx, 0), 0, 0)
    for name, value in fields.items():
        setattr(one, name, value)
    return one


@pytest.mark.parametrize(
    ("fields", "lasts", "over"),
    [
        ({"last_first": 5, "clear_last": 9}, 5, 9),
        ({"last_first": 5}, 5, NEVER),
        ({"unmapped": True, "unmap_first": 6, "last_first": 5}, 6, 6),
        ({"unmapped": True, "unmap_first": 6, "flush_first": 7}, 6, 7),
        ({"unmapped": True, "unmap_first": 6, "flush_first": 5}, 6, 6),
        ({"unmapped": True, "unmap_first": 6, "told_first": 8, "flush_first": 7}, 6, 8),
        ({"unmapped": True, "unmap_first": 6, "told_first": 5}, 6, 6),
        ({"unmapped": True, "unmap_first": 6, "unmap_over": 9, "told_first": 8}, 6, 9),
        ({"unmapped": True, "unmap_first": 6, "unmap_over": 5}, 6, 6),
        ({"unmapped": True, "replaced": True, "unmap_first": 6, "map_first": 2}, 2, 6),
        ({"unmapped": True, "replaced": True, "unmap_first": 6, "map_first": 2, "read_seen": True,
          "read_first": 4}, 4, 6),
    ],
)  # fmt: skip
def test_how_long_a_use_lasts(fields: dict[str, Any], lasts: int, over: int) -> None:
    """Two uses that only may overlap would be called an overlap, or the reverse."""
    assert (USES.lasts(use(**fields)), USES.over(use(**fields))) == (lasts, over)


@pytest.mark.parametrize("error", [0, 1, 2])
def test_uses_of_two_cpus_meet_for_every_offset_or_for_some(error: int) -> None:
    """`<` for `<=` at a tie, or the error on the wrong side, would call what the clocks leave open
    sure, or what they exclude open."""
    spans = [(m, u, o) for m, u, o in product(STAMPS, repeat=3) if m <= u <= o]
    for (m, u, o), (m2, u2, o2) in product(spans, spans):
        one = use(0, map_first=m, unmapped=True, unmap_first=u, unmap_over=o)
        other = use(1, map_first=m2, unmapped=True, unmap_first=u2, unmap_over=o2)
        offsets = range(-error, error + 1)
        sure = all(m2 + d < u and m < u2 + d for d in offsets)
        maybe = any(m2 + d <= o and m <= o2 + d for d in offsets)
        assert USES.meet(one, other, error) == (SURE if sure else MAYBE if maybe else NO)


def test_uses_of_one_context_meet_only_if_one_is_inside_the_other() -> None:
    """A context runs one thing after the other."""
    one, other = use(map_pos=1, last_pos=9), use(map_pos=3, unmapped=True, clear_pos_first=4)
    assert USES.meet(one, other, 0) == NO
    other.outer = one
    assert USES.meet(one, other, 0) == USES.meet(other, one, 0) == SURE
    one.last_pos = 2  # Nothing of it was seen behind the other's map, which is in its copy yet.
    assert USES.meet(one, other, 0) == USES.meet(other, one, 0) == SURE


NMI, IRQ, SOFTIRQ = words.NMI, words.IRQ, words.SOFTIRQ
ENDED = {"map_pos": 2, "unmapped": True, "clear_pos_first": 5, "clear_pos_last": 8,
         "unmap_first": 50, "flush_first": 70}  # fmt: skip
OPEN = {"map_pos": 2, "last_pos": 5}


@pytest.mark.parametrize(
    ("low", "ctx", "at", "stamp", "met"),
    [
        (OPEN, NMI, 4, 40, SURE),  # an event of the use it interrupted lies behind it
        (OPEN, NMI, 5, 50, MAYBE),
        (OPEN, NMI, 6, 60, MAYBE),
        (ENDED, NMI, 4, 40, SURE),
        (ENDED, IRQ, 4, 40, SURE),
        (ENDED, IRQ, 5, 50, NO),  # it found the lock free
        (ENDED, IRQ, 6, 60, NO),
        (ENDED, NMI, 5, 50, SURE),  # inside the unmap: its flush lies behind
        (ENDED, NMI, 6, 69, SURE),
        (ENDED, NMI, 6, 70, MAYBE),
        (ENDED, NMI, 7, 80, MAYBE),
        (ENDED, NMI, 8, 80, NO),
        (ENDED, NMI, 9, 90, NO),
    ],
)
def test_what_interrupted_a_use(
    low: dict[str, Any], ctx: int, at: int, stamp: int, met: int
) -> None:
    """An NMI that finds the slot mapped is an overlap; an interrupt that finds the lock free is
    none. Whichever is asked first."""
    below, above = use(0, SOFTIRQ, **low), use(0, ctx, map_pos=at, map_first=stamp)
    assert USES.meet(below, above, 0) == USES.meet(above, below, 0) == met
    below, above = use(0, ctx, **low), use(0, SOFTIRQ, map_pos=at, map_first=stamp)
    assert USES.meet(below, above, 0) == USES.meet(above, below, 0) == NO  # it was left


def test_the_last_stamp_of_an_episode_is_that_of_its_last_event() -> None:
    """A hold that a loss split would end before its unmap, and another could come in between."""
    episode = HOLDS.Episode(HOLDS.Hold(0, 2, 0), 0, 0)
    episode.map_first = 10
    assert USES.last_stamp(episode) == 10
    episode.read_first = 20
    assert USES.last_stamp(episode) == 20
    episode.unmap_first, episode.flush_first = 30, 40
    assert USES.last_stamp(episode) == 40
    episode.told_first = 50
    assert USES.last_stamp(episode) == 50
