# SPDX-License-Identifier: Apache-2.0
"""What is next to each event on its own CPU, beside a loop that looks for it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.sources.foreign.text.neighbours import last_rows, previous, values_before

CPUS = st.lists(st.sampled_from([0, 1, 2, 9999]), max_size=40)


@given(cpus=CPUS, known=st.dictionaries(st.sampled_from([0, 1, 9999]), st.integers(0, 99)))
def test_they_are_what_a_loop_finds(cpus: list[int], known: dict[int, int]) -> None:
    """A neighbour of another CPU would be a step back where there is none."""
    cpu, values = np.array(cpus, np.int64), np.arange(100, 100 + len(cpus))
    last: dict[int, int] = {}
    expected = []
    for row, number in enumerate(cpus):
        expected.append(last.get(number, -1))
        last[number] = row
    assert previous(cpu).tolist() == expected
    assert last_rows(cpu) == last
    found = values_before(cpu, values, previous(cpu), known, -7).tolist()
    assert found == [
        100 + at if at >= 0 else known.get(n, -7) for n, at in zip(cpus, expected, strict=True)
    ]
