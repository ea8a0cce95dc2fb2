# SPDX-License-Identifier: Apache-2.0
"""order.py compiled and uncompiled, and beside a slow merge that follows its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.events import EVENT
from ghesrace.sources.bpf.rings import CONTEXTS, RECORD
from tests.build.modes import EDGES, both

NAME = "ghesrace.sources.bpf.order"
FIELDS = ("ts", "addr", "phys", "size")
positions = st.sampled_from((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32 + 3, 2**62 - 1))
halves = st.integers(0, 6) | st.sampled_from((2**31 - 1, 2**31, 2**32 - 1))


@st.composite
def rings(draw, wild: bool):
    """Four rings of a CPU and the positions that they begin at. *wild*: what no kernel writes."""
    near = np.array([draw(positions) for _ in range(CONTEXTS)])
    made = []
    for level in range(CONTEXTS):
        ring = np.zeros(draw(st.integers(0, 5) | st.integers(15, 30)), RECORD)
        ring["event"]["ctx"] = level
        seqs = near[level] + np.arange(len(ring))
        ring["event"]["seq"] = (
            draw(st.sampled_from(EDGES)) if wild and draw(st.booleans()) else seqs
        )
        saw = np.array([[draw(halves) for _ in range(CONTEXTS)] for _ in ring], np.int64)
        saw = saw.reshape(-1, CONTEXTS)
        if not wild:
            saw = near + np.sort(saw * saw % 37, axis=0)
        ring["at"] = saw & 0xFFFFFFFF
        for name in FIELDS:
            ring["event"][name] = [draw(st.sampled_from(EDGES)) for _ in ring]
        made.append(ring)
    return made, near


def merged(module, made, near, seq: int):
    """What each function of the module answers."""
    joined = np.concatenate(made)
    bounds = np.cumsum([0, *map(len, made)])
    words = joined.view(np.uint64).data
    order, places, spare = (np.zeros(len(joined), np.int64) for _ in range(3))
    room = places.data, spare.data, np.zeros(CONTEXTS, np.int64).data
    module.merge(words, bounds.data, near.data, order.data, *room)
    events = np.zeros(len(joined), EVENT)
    module.take(words, order.data, seq, events.view(np.uint64).data)
    waits = [
        module.ready(ring.view(np.uint64).data, level, near.data, limits.data)
        for level, ring in enumerate(made)
        for limits in (near, near + 2)
    ]
    return order.tolist(), events.tolist(), waits


def by_definition(made, near) -> list[int]:
    """The same order: each record behind those of the rings above that it saw, one at a time."""
    bounds = np.cumsum([0, *map(len, made)])
    order: list[int] = []
    for level in range(CONTEXTS - 1, -1, -1):
        places, least = [], 0
        for record in made[level]:
            low, high = 0, len(order)
            for above in range(level + 1, CONTEXTS):
                delta = (int(record["at"][above]) - int(near[above])) % 2**32
                saw = int(near[above]) + (delta - 2**32 if delta >= 2**31 else delta)
                seqs = made[above]["event"]["seq"].astype(object)
                where = [order.index(int(bounds[above]) + i) for i in range(len(seqs))]
                before = sum(seq < saw for seq in seqs)
                behind = where[before - 1] + 1 if before else 0
                following = where[before] if before < len(where) else len(order)
                low = min(max(behind, low), high)
                high = min(max(following, low), high)
            least = max(least, low)
            places.append(least)
        for number, place in reversed(list(enumerate(places))):
            order.insert(place, int(bounds[level]) + number)
    return order


@pytest.mark.slow
@given(rings(wild=True), st.sampled_from(EDGES))
@settings(deadline=None, max_examples=300)
def test_both_modes_agree_on_anything(made, seq) -> None:
    """If this fails, a position near 2^32 or a value near 2^64 is read in two ways."""
    compiled, source = both(NAME)
    assert merged(compiled, *made, seq) == merged(source, *made, seq)


@pytest.mark.slow
@given(rings(wild=False))
@settings(deadline=None, max_examples=300)
def test_the_order_is_the_definitions(made) -> None:
    """If this fails, what an NMI did stands on the wrong side of what it interrupted."""
    compiled, _ = both(NAME)
    order, events, _ = merged(compiled, *made, 2**64 - 2)
    assert order == by_definition(*made)
    expected = np.concatenate(made[0])["event"][order]
    expected["seq"] = (np.arange(len(order)).astype(np.uint64)) + np.uint64(2**64 - 2)
    assert events == expected.tolist()
