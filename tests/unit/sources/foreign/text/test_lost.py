# SPDX-License-Identifier: Apache-2.0
"""Lines that tell of losses, wherever they stand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.events import Cause
from ghesrace.sources.foreign.text.lines import lines_of
from ghesrace.sources.foreign.text.lost import place, told
from ghesrace.sources.ring.pages import UNCOUNTED
from tests.build.texts import judged, losses

_BODY = "".join(
    f"  swapper  0 [{cpu:03}]  {t}.000000: p:ghes_ioremap_pfn_irq: (ffffffff81000000) pfn=1\n"
    f"  swapper  0 [{cpu:03}]  {t}.000009: p:ghes_iounmap_irq: (ffffffff81000) vaddr=0x1000\n"
    for t, cpu in ((1, 0), (2, 1), (4, 0), (5, 1))
)


@pytest.mark.parametrize("chunk", [4 << 20, 100])
@pytest.mark.parametrize("at", [0, 3, 8])
def test_a_loss_of_every_cpu_is_never_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, chunk: int
) -> None:
    """Where no event stood beside the line, in its piece of the text, it was skipped."""
    monkeypatch.setattr("ghesrace.sources.foreign.text.reader._CHUNK", chunk)
    lines = _BODY.splitlines(keepends=True)
    lines[at:at] = ["# a comment that fills more than a whole piece of the text\n"] * 3
    lines.insert(at + 1, "  swapper  0 [000]  3.000000: PERF_RECORD_LOST lost 9\n")
    path = tmp_path / "perf.txt"
    path.write_text("".join(lines))
    found = losses(judged(path)[1], Cause.OVERRUN)
    assert {0, 1} <= set(found["cpu"].tolist()) or 0xFFFF in found["cpu"]


def test_a_cpu_that_is_known_only_from_before_lost_too() -> None:
    """The next event of that CPU, in a later piece, would seem to follow its last one."""
    lost: dict[int, int] = {}
    before, one = np.zeros(1, np.int64), np.array([0])
    place(before, one, np.array([True]), np.array([1]), np.array([-1]), np.array([5]), lost, [0, 7])
    assert lost == {0: UNCOUNTED, 7: UNCOUNTED}


def test_each_tool_has_its_words() -> None:
    """What one of them says was lost would be taken for nothing."""
    text = b"CPU:2 [EVENTS DROPPED]\nCPU:1 [7 EVENTS DROPPED]\n x PERF_RECORD_LOST_SAMPLES: 4\n"
    index, cpu, count = told(lines_of(text))
    assert (index.tolist(), cpu.tolist()) == ([0, 1, 2], [2, 1, -1])
    assert count.tolist() == [UNCOUNTED, 7, 4]


@given(st.data())
def test_each_loss_stands_before_the_next_event_of_its_cpu(data: st.DataObject) -> None:
    """Said loss by loss; a text of 10,000 losses of 256 CPUs took a minute so."""
    cpus = st.integers(0, 2)
    cpu = np.array(data.draw(st.lists(cpus, max_size=8)), np.int64)
    whole = np.array(data.draw(st.lists(st.booleans(), min_size=len(cpu), max_size=len(cpu))), bool)
    told_of = data.draw(
        st.lists(
            st.tuples(st.integers(0, len(cpu)), st.integers(-1, 2), st.sampled_from([UNCOUNTED, 3]))
        )
    )
    begun = data.draw(st.dictionaries(cpus, st.sampled_from([UNCOUNTED, 5])))
    expected, left = [0] * len(cpu), {}
    for behind, which, count in [*((0, n, lost) for n, lost in begun.items()), *told_of]:
        for number in range(3):
            if which in (-1, number):
                more = UNCOUNTED if which < 0 else count
                later = [i for i in range(behind, len(cpu)) if cpu[i] == number and whole[i]]
                old = expected[later[0]] if later else left.get(number, 0)
                new = UNCOUNTED if UNCOUNTED in (old, more) else old + more
                if later:
                    expected[later[0]] = new
                else:
                    left[number] = new
    before, lost = np.zeros(len(cpu), np.int64), dict(begun)
    at, which, counts = (np.array([row[n] for row in told_of], np.int64) for n in range(3))
    place(before, cpu, whole, at, which, counts, lost, range(3))
    assert (before.tolist(), lost) == (expected, left)
