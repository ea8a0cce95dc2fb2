# SPDX-License-Identifier: Apache-2.0
"""Fuzzing a part at a time."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest

from .fuzz import Part
from .fuzz_on import State, go_on

KINDS = ("a.dat", "b.txt")


def test_goes_on_until_each_kind_had_enough() -> None:
    """If this fails, a kind is left out, or tried with the same cases again and again."""
    asked: list[tuple[str, int, int]] = []

    def run(kind: str, cases: int, seed: int) -> Part:
        asked.append((kind, cases, seed))
        return Part(Counter({"read": cases - 1, "InputError": 1}), seed / 10, 1000 * seed)

    state: State = {}
    times = count()
    assert not go_on(state, KINDS, 20, 10, run, lambda: next(times) < 3)
    assert go_on(state, KINDS, 20, 10, run, lambda: True)
    assert sorted(asked) == [(kind, 10, seed) for kind in KINDS for seed in (1, 2)]
    assert state["b.txt"] == {
        "cases": 20, "parts": 2, "slowest": 0.2, "most": 2000,
        "outcomes": {"read": 18, "InputError": 2},
    }  # fmt: skip


def test_a_fault_ends_it_and_is_not_counted() -> None:
    """If this fails, the cases behind a fault are counted as good, and it is never seen again."""
    state: State = {}
    slow = Part(Counter({"read": 10}), 1.5, 1000)
    with pytest.raises(SystemExit, match=r"a\.dat: seed 1 is too slow"):
        go_on(state, KINDS, 20, 10, lambda *_: slow, lambda: True)
    assert state["a.dat"]["cases"] == 0
