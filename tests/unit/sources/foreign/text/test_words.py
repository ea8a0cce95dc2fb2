# SPDX-License-Identifier: Apache-2.0
"""Words of lines: numbers as lines.numbers() reads them, and the same in both modes."""

from __future__ import annotations

import random
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.sources.foreign.text import heads, words
from ghesrace.sources.foreign.text.lines import lines_of, numbers
from ghesrace.sources.foreign.text.plain import Plain
from tests.build.modes import EDGES, both
from tests.unit.sources.foreign.fuzz import mutate

HEAD = b"  a-1 [000] d.h1.  1.000000: m: (f)"


def plain(bare: bool = False) -> Plain:
    made = Plain("ftrace", bare)
    made.learn(words.FLAGS, [(b"d.h1.", 9)])
    made.learn_event(b"m: (f)", 1, [(b"pfn", 1)])
    made.learn_event(b"n:", 2, [])
    return made


def value(number: str, bare: bool) -> int | None:
    """The argument `pfn`, if the line is plain."""
    found = plain(bare).take(HEAD + b" x=1 pfn=" + number.encode() + b"\n").plain
    return int(found.values[0, 1]) if len(found) else None


NUMBERS = st.one_of(
    st.sampled_from(EDGES).map(str),
    st.sampled_from(EDGES).map(hex),
    st.integers(-(2**64), 2**68).map(str),
    st.integers(0, 2**68).map(hex),
    st.text("0123456789abcdefABCDEFx- ", min_size=1, max_size=22),
)


@given(number=NUMBERS, bare=st.booleans())
def test_plain_numbers_are_what_the_regular_expressions_read(number: str, bare: bool) -> None:
    """A frame would be another one, in most lines of most texts."""
    quick = value(number, bare)
    rest = f" (f) x=1 pfn={number}\n".encode()
    [read], [there] = numbers(lines_of(rest), "pfn", bare)
    assert quick is None or (bool(there), int(read)) == (True, quick)


@pytest.mark.parametrize("number", ["0", "18446744073709551615", "-999999999999999999", "0xFf"])
def test_numbers_of_every_kind_are_plain(number: str) -> None:
    """The test above would pass if none was."""
    assert value(number, bare=False) == int(number, 0) % 2**64


@pytest.mark.parametrize(
    "number", ["18446744073709551616", "-1000000000000000000", "0x" + "f" * 17]
)
def test_numbers_beyond_64_bits_are_not(number: str) -> None:
    """They would wrap around to another frame."""
    assert value(number, bare=False) is None


@pytest.mark.parametrize(
    "line",
    [
        b"  a-1 [000] d.h2.  1.000000: m: (f) pfn=1\n",
        b"  a-1 [000] d.h1.  1.000000: m: (g) pfn=1\n",
        b"  b: a-1 [000] d.h1.  1.000000: m: (f) pfn=1\n",
        HEAD + b" x=1\n",
        HEAD + b" pfn=1 (x)\n",
        HEAD + b" pfn=1,\n",
        HEAD + b" a_name_of_sixteen=1 pfn=1\n",
        b"  a-1 [000] d.h1.  1.000000: n: b-2 [001] x\n",
        b"  a-1 [000] d.h1.  1.000000: n: b-2 001d.h1. 2.000000: x\n",
        b"  a-1 [000] d.h1.  1.000000: n: PERF_RECORD_LOST 3\n",
        b"  a-1 [000] d.h1.  1.000000: n: y 3 [001] 2.000000: x\n",
        b"  d.h1.: a-1 [000] d.h1.  1.000000: n: x\n",
    ],
)
def test_what_could_be_read_otherwise_is_left_alone(line: bytes) -> None:
    """Words that are new, or that may be of another line or tell of losses."""
    assert len(plain().take(line).plain) == 0


@settings(deadline=None)
@given(order=st.lists(st.sampled_from(["n: x", "n: (g) x", "m: (f) pfn=1", "n:", "o: x"])))
def test_what_came_last_time_changes_nothing(order: list[str]) -> None:
    """An event is looked for where it came the last time, and one's name may begin another's."""
    idents = {"m: (f) pfn=1": 1, "n: x": 2, "n:": 2, "n: (g) x": 3}
    for module in both(words.__name__):
        with mock.patch("ghesrace.sources.foreign.text.plain.words.read_words", module.read_words):
            reader = plain()
            reader.learn_event(b"n: (g)", 3, [])
            text = "".join(f"  a-1 [000] d.h1.  1.000000: {event}\n" for event in order)
            for _ in range(2):
                found = reader.take(text.encode()).plain.ident.tolist()
                assert found == [idents[event] for event in order if event in idents]


@given(seed=st.integers(0, 2**32), bare=st.booleans())
def test_compiled_and_uncompiled_agree(seed: int, bare: bool) -> None:
    """What is tested without a compiler would not be what runs."""
    text = b"".join(HEAD + b" pfn=%d x=0x%x\n" % (n, n) for n in EDGES)
    text += b"  a-1 [000] d.h1.  1.000000: n: hello you\n" * 4
    rng, found = random.Random(seed), []
    text = mutate(mutate(text, rng), rng) + b"\n"
    for module in both(words.__name__):
        with mock.patch("ghesrace.sources.foreign.text.plain.words.read_words", module.read_words):
            found.append([column.tolist() for column in plain(bare).take(text).plain.columns])
    assert found[0] == found[1]


def test_words_reads_the_columns_that_heads_writes() -> None:
    """The compiler takes no other module's numbers: if this fails, wrong columns are read."""
    assert words.HEAD_COLUMNS == heads.COLUMNS
