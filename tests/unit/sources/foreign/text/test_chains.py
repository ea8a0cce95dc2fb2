# SPDX-License-Identifier: Apache-2.0
"""From event to event of one CPU: the same in both modes (test_neighbours.py says that they are
right)."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.sources.foreign.text import chains
from tests.build.modes import both


@given(cpus=st.lists(st.sampled_from([0, 1, 2, 9999]), max_size=40))
def test_compiled_and_uncompiled_agree(cpus: list[int]) -> None:
    """What is tested without a compiler would not be what runs."""
    found = []
    for module in both(chains.__name__):
        cpu, last = np.array(cpus, np.int64), np.full(10_000, -1, np.int64)
        before = np.zeros(len(cpus), np.int64)
        module.find_previous(cpu.data, last.data, before.data)
        found.append((last.tolist(), before.tolist()))
    assert found[0] == found[1]
