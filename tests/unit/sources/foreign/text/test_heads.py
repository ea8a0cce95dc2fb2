# SPDX-License-Identifier: Apache-2.0
"""Heads of lines: what is read of each form, what is left alone, and the same in both modes."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.sources.foreign.text import heads
from ghesrace.sources.foreign.text.forms import FORMS
from tests.build.modes import both
from tests.build.paths import CORPUS
from tests.unit.sources.foreign.fuzz import mutate

NAMES = [path.name for path in sorted(CORPUS.glob("*.txt"))]
FORM = {name: number for number, name in enumerate(FORMS)}


def read(text: bytes, form: int, module: object = heads) -> tuple[list[int], list[list[int]]]:
    """Where the lines of *text* begin, and the columns of those with a plain head."""
    lengths = [0, *(len(line) + 1 for line in text.split(b"\n")[:-1])]
    starts = np.cumsum(lengths, dtype=np.int64)
    columns = np.zeros((heads.COLUMNS, len(starts) - 1), np.int64)
    view = np.frombuffer(text, np.uint8).data
    recent = np.full(heads.SLOTS, -1, np.int64)
    numbers = starts.data, columns.reshape(-1).data, recent.data
    count = module.read_heads(view, form, *numbers)  # type: ignore[attr-defined]
    return starts.tolist(), columns[:, :count].T.tolist()


@pytest.mark.parametrize(
    ("form", "line", "said"),
    [
        ("ftrace", "  a-12 [003] d.h1.  1.000002: x\n", (3, 1_000_002_000, 12)),
        ("ftrace", "  a b-12 (  9) [003] 1.000000002: (+5) x\n", (3, 1_000_000_002, 12)),
        ("latency", "  a-12     3d.h1.  1.000002: x\n", (3, 1_000_002_000, 12)),
        ("latency-format", "  a-12     3d.h1.  2us!: x\n", (3, 2_000, 12)),
        ("perf", " :a  7/12 [003]  1.000002:  99 x\n", (3, 1_000_002_000, 12)),
    ],
)
def test_each_form_is_read(form: str, line: str, said: tuple[int, int, int]) -> None:
    """A column in another's place would be a CPU of another number."""
    starts, [row] = read(b"#\n" + line.encode(), FORM[form])
    assert starts == [0, 2, 2 + len(line)]
    assert tuple(row[:3]) == said
    assert row[4] == 1
    assert (b"#\n" + line.encode())[row[9] :] == b"x\n"


@pytest.mark.parametrize(
    "line",
    [
        "# a-12 [003] d.h1.  1.000002: x\n",
        "  a-1 b-12 [003] d.h1.  1.000002: x\n",
        "  sixteen letters!-12 [003] d.h1.  1.000002: x\n",
        "  a[1]-12 [003] d.h1.  1.000002: x\n",
        "  a-1234567890 [003] d.h1.  1.000002: x\n",
        "  a-12 [00003] d.h1.  1.000002: x\n",
        "  a-12 [003] d.h1.  1.0000021: x\n",
        "  a-12 [003] d.h1.  2305843009.000000: x\n",
        "  a-12 [003]\td.h1.  1.000002: x\n",
        "  \xe4-12 [003] d.h1.  1.000002: x\n",
        "  a-12 (9 ) [003] d.h1.  1.000002: x\n",
    ],
)
def test_what_could_be_read_otherwise_is_left_alone(line: str) -> None:
    """Each of these has more than one reading, or one that only careful.py knows."""
    text = line.encode("latin-1")
    assert read(text, FORM["ftrace"]) == ([0, len(text)], [])


@given(name=st.sampled_from(NAMES), seed=st.integers(0, 2**32), form=st.integers(0, 3))
def test_a_head_is_the_same_whatever_was_before_it(name: str, seed: int, form: int) -> None:
    """A head that is remembered would be another line's: of another CPU, or in another context."""
    rng = random.Random(seed)
    lines = mutate((CORPUS / name).read_bytes()[:1500], rng).splitlines(keepends=True)
    lines = [line for line in rng.choices(lines or [b"\n"], k=30) if line.endswith(b"\n")]
    starts, rows = read(b"".join(lines), form)
    begins = [
        np.array([0, 0, 0, 0, number, at, at, at, at, at, at]) for number, at in enumerate(starts)
    ]
    alone = [(number, row) for number, line in enumerate(lines) for row in read(line, form)[1]]
    for (number, row), found in zip(alone, rows, strict=True):
        there = np.array([*[1] * 5, *[row[6] > 0] * 2, *[row[8] > 0] * 2, 1, 1])
        assert found == (np.array(row) + there * begins[number]).tolist()


@settings(deadline=None)  # The first example imports the other mode.
@given(name=st.sampled_from(NAMES), seed=st.integers(0, 2**32), form=st.integers(0, 3))
def test_compiled_and_uncompiled_agree(name: str, seed: int, form: int) -> None:
    """What is tested without a compiler would not be what runs."""
    text = mutate((CORPUS / name).read_bytes()[:1500], random.Random(seed)) + b"\n"
    one, other = (read(text, form, module) for module in both(heads.__name__))
    assert one == other
