# SPDX-License-Identifier: Apache-2.0
"""Plain lines: read in one pass over their bytes, they are what the regular expressions say."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.errors import GhesraceError
from ghesrace.sources.foreign.eventmap import EventMap, load_map
from ghesrace.sources.foreign.reader import Block
from ghesrace.sources.foreign.text import words
from ghesrace.sources.foreign.text.forms import read_begin
from ghesrace.sources.foreign.text.kept import Kept
from ghesrace.sources.foreign.text.plain import Plain, Words
from ghesrace.sources.foreign.text.reader import TextReader
from tests.build.paths import CORPUS
from tests.unit.sources.foreign.fuzz import PERF_MAP, mutate
from tests.unit.sources.foreign.test_damage import DAMAGES

READER = "ghesrace.sources.foreign.text.reader"
MIXED = "two buffers, merged"


@contextmanager
def carefully() -> Iterator[None]:
    """Nothing is learnt, and so no line is plain."""
    nothing = mock.patch.multiple(Plain, learn=mock.DEFAULT, learn_event=mock.DEFAULT)
    with nothing:
        yield


def facts(reader: TextReader, passes: int) -> list[Any]:
    """All that a reader says of its text, read once or twice."""
    blocks = [
        [
            (block.mark, block.lost, {cpu: bytes(data) for cpu, data in block.chunks.items()})
            for block in reader.blocks()
        ]
        for _ in range(passes)
    ]
    told = (reader.truncated, reader.whole, reader.unseen, reader.unknowns, reader.formats)
    return [blocks, told, reader.contexts, reader.clock_error_ns]


def everything(path: Path, given: EventMap, passes: int) -> object:
    """What is in the text at *path*, and in each part of it, or why it can't be read."""
    begin = read_begin(path)
    if begin.form is None:
        return None
    try:
        reader = TextReader(path, begin.form, begin.style, given)
        found = facts(reader, passes)
        parts = reader.parts()
        return [found, [part.part for part in parts], [facts(part, 1) for part in parts]]
    except GhesraceError as error:
        return str(error)


def plain_lines(path: Path, given: EventMap) -> int:
    """How many lines of the text at *path* are plain."""
    begin = read_begin(path)
    assert begin.form is not None
    reader, found = TextReader(path, begin.form, begin.style, given), 0
    take = Plain.take

    def counting(self: Plain, text: bytes) -> Any:
        nonlocal found
        pieces = take(self, text)
        found += len(pieces.plain)
        return pieces

    with mock.patch.object(Plain, "take", counting):
        list(reader._parsed())
    return found


class Forgetful(Kept):
    """This has room for nothing, so that each pass reads the text."""

    def add(self, block: Block) -> None:
        self.whole = False


def same(path: Path, given: EventMap, piece: int, passes: int = 1) -> None:
    """The two ways must say the same of the text at *path*, read in pieces of this size."""
    with mock.patch.multiple(READER, _CHUNK=piece, _FIRST_CHUNK=piece, Kept=Forgetful):
        quickly = everything(path, given, passes)
        with carefully():
            assert quickly == everything(path, given, passes)


def text_of(name: str) -> bytes:
    if name != MIXED:
        return (CORPUS / name).read_bytes()[:12_000]
    lines = (CORPUS / "trace.txt").read_bytes()[:8000].splitlines(keepends=True)
    body = [line for line in lines if b"]" in line]
    return b"".join((b"  host: ", b" guest: ")[n % 2] + line for n, line in enumerate(body))


@pytest.fixture
def perf_map(tmp_path: Path) -> EventMap:
    path = tmp_path / "perf.toml"
    path.write_text(PERF_MAP)
    return load_map(path)


NAMES = [MIXED, *(path.name for path in sorted(CORPUS.glob("*.txt")))]
FORMS = [name for name in NAMES if name != "function-tracer.txt"]


@pytest.mark.tenth
@pytest.mark.parametrize("name", FORMS)
def test_the_corpus_is_read_alike(tmp_path: Path, perf_map: EventMap, name: str) -> None:
    """The quick way would say otherwise of a whole kind of text."""
    path = tmp_path / "trace"
    path.write_bytes(text_of(name) * 2)
    given = perf_map if name == "perf-script.txt" else EventMap()
    for piece in (2000, 1 << 22):
        same(path, given, piece, passes=2)


@pytest.mark.parametrize("name", FORMS)
def test_most_lines_of_the_corpus_are_plain(tmp_path: Path, perf_map: EventMap, name: str) -> None:
    """The quick way would not be gone, and nobody notice."""
    path = tmp_path / "trace"
    lines = text_of(name).splitlines(keepends=True)
    path.write_bytes(b"".join(lines) * 5)
    given = perf_map if name == "perf-script.txt" else EventMap()
    with mock.patch.multiple(READER, _CHUNK=len(b"".join(lines)), _FIRST_CHUNK=1 << 16):
        assert plain_lines(path, given) > len(lines)


@pytest.mark.tenth
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", FORMS)
def test_damaged_texts_are_read_alike(
    tmp_path: Path, perf_map: EventMap, name: str, damage: Callable[..., list[bytes]]
) -> None:
    """Damage is what the careful way is for: none of it may seem plain."""
    path = tmp_path / "trace"
    given = perf_map if name == "perf-script.txt" else EventMap()
    text, rng = text_of(name)[:4000], random.Random(f"{name} {damage.__name__}")
    lines = damage(text.splitlines(keepends=True), rng)
    path.write_bytes(text + b"\n" + b"".join(lines))
    same(path, given, rng.choice((1500, 4000)))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(FORMS), seed=st.integers(0, 2**32), piece=st.sampled_from([1500, 6000]))
def test_mutated_texts_are_read_alike(
    tmp_path_factory: pytest.TempPathFactory, name: str, seed: int, piece: int
) -> None:
    """A byte more or less must not make a line plain that is none."""
    path = tmp_path_factory.mktemp("plain") / "trace"
    text = text_of(name)[:4000]
    path.write_bytes(text + b"\n" + mutate(text, random.Random(seed)))
    same(path, EventMap(), piece)


TASKS = ["a", "<idle>", "kworker/0:1", "a b", "a-1", "a-1 b", "x [3]", "CPU:1", "#a", "a:", "a: b"]
TASKS += ["PERF_RECORD_LOST", "exactly15letter", "sixteen letters!", "-", "a-", "\xe4", "(5)", ""]
TASKS += ["host: a", "g1: b-2", " a", "a\tb", ":", "b-2 [000] d.h1. 1.000000: x:"]
TASKS += ["host  a", "<h> a", "(h) a", "h, a", "h || a", "host=x a", "h kernel: a", "le>", "a>b"]
TASKS += ["[h][1.0] a", "VM:12 V:1 a", "VM:  2 a", "h.c/d  a", "h/k:0  a", "more> a", "<pre> a"]
TASKS += ["2026-11-30 12:00:00 h  a", "Nov 30 12:00:00 h tag: a"]
PIDS = ["-1", "-0", "-123456789", "-1234567890", "-", "-1 (  7)", "-1 (-----)", "-1 (7 )", " 3"]
CPUS = ["[000]", "[1]", "[12345]", "[]", "[x]", "[000", "000", "1d.h1.", "  2d.h1."]
FLAGS = ["d.h1. ", ".... ", "dNZ12 ", "", "x.h1. ", "d.h1.  ", "d..1234567 ", "d.\t "]
STAMPS = ["1.000000: ", "1.000000001: ", "1.0000: ", "12345678901.000000: ", "9us : ", "9us: "]
STAMPS += ["2305843009.000000: ", "2305843008.999999: ", "7us+: ", "1: ", "1.000000:", "8us ! : "]
STAMPS += ["1.000000: (+12) ", "1.000000: (12 ) ", "1.000000: 99 ", "5us\t: ", '5us" : ']
EVENTS = ["m: ", "m:   ", "r: ", "s:m: ", "m:\t", "m:", "m-1: ", "a:b:c: ", "9m: ", "\xe4: "]
EVENTS += ["PERF_RECORD_LOST: ", "q: ", "m:: "]
PLACES = ["(ghes_ioremap_pfn_irq+0x0/0x40 [old])", "(memcpy_fromio+0x0/0xb0)", "(x [LOST EVENTS])"]
PLACES += [
    "",
    "(a+0x0 <- ghes_ioremap_pfn_irq)",
    "(y)",
    "(y",
    "(pfn=3)",
    "(z [1])",
    "(a-1 [000] 1)",
]
WORDS = [" pfn=256", " pfn=0x100", " pfn=-5", " pfn=(fault)", " pfn=", " pfn= 7", " pfn=12345678"]
WORDS += [" pfn=99999999999999999999", " pfn=0xfffffffffffffffff", " pfn=ff", " x=1", " PFN=1"]
WORDS += [" src=0xffff88", " n=20", "  n=20", " src:0x5", ",n=3", " comm=a-1 [000] 1.000000: x: y"]
WORDS += [" CPU:1 [LOST 3 EVENTS]", " a-1 ", " {pfn=4}", " x=ffff800000000000", "\t", " ", " s=a"]
WORDS += [" PERF_RECORD_LOST=5", " =1", " 0=1", " lost 3 chunks", ' s="pfn=7 x"', ' s="']

PARTS = [TASKS, PIDS, CPUS, FLAGS, STAMPS, EVENTS, PLACES]
SEEDS = (
    "          <idle>-0       [000] d.h1.     1.000000: m: (ghes_ioremap_pfn_irq+0x0/0x40 [old])"
    " pfn=256\n  a b  3 [000] 1.000000: m: (ghes_ioremap_pfn_irq+0x0/0x40 [old]) pfn=256\n",
    "          <idle>-0       [000] d.h1.     1.000002: r: (memcpy_fromio+0x0/0xb0)"
    " src=0xffffc90000000000 n=20\n",
    "  host: a-1  [001] ....  2.000000: q: hello\n  a-1  1d.h1. 2.000000: m: (y) pfn=1\n"
    "  a-1  1d.h1. 2us : m: (y) pfn=1\n",
)


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A line that is right but for some of its parts, which are anything but."""
    base = [TASKS[0], PIDS[0] + "  ", CPUS[0] + " ", FLAGS[0], STAMPS[0], EVENTS[0], PLACES[0]]
    if draw(st.booleans()):  # as perf prints it
        base[1], base[3] = " 3  ", ""
    for spoilt in draw(st.lists(st.integers(0, len(PARTS) - 1), max_size=2)):
        base[spoilt] = draw(st.sampled_from(PARTS[spoilt])) + (" " if spoilt in (1, 2) else "")
    end = draw(st.lists(st.sampled_from(WORDS), max_size=4)) or [WORDS[0]]
    return draw(st.sampled_from(["  ", ""])) + "".join(base) + "".join(end)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    made=st.lists(lines(), min_size=1, max_size=8),
    piece=st.sampled_from([1200, 4000]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_lines_with_odd_parts_are_read_alike(
    tmp_path_factory: pytest.TempPathFactory, made: list[str], piece: int, end: str
) -> None:
    """Each part has forms that look plain and are not."""
    path = tmp_path_factory.mktemp("plain") / "trace"
    text = "".join(SEEDS) * 2 + "\n".join([*made, *made, ""]) + "".join(SEEDS)
    path.write_bytes(text.replace("\n", end).encode("latin-1"))
    same(path, EventMap(), piece)


def test_a_full_vocabulary_leaves_the_rest_to_the_careful_way() -> None:
    """A text of a million names would take a million words of memory."""
    known = Words()
    count = 0
    while not known.full:
        known.add(words.EVENT, b"e%d:" % count, 1)
        count += 1
    assert len(known) == count
    assert len(known.entries) // 7 > 0.9 * count
    plain = Plain("ftrace", bare=False)
    for number in range(2 * count):
        plain.learn_event(b"e%d:" % number, 1, [])
    assert plain.full


@pytest.mark.parametrize(
    "word",
    [b"m: (a [1])", b"m: (a-1 )", b"PERF_RECORD_LOST:", b"m: (pfn=1)", b"m: ([EVENTS DROPPED])"],
)
def test_some_events_are_never_plain(word: bytes) -> None:
    """They may be another line's begin, tell of losses, or have an argument in their place."""
    plain = Plain("ftrace", bare=False)
    plain.learn_event(word, 1, [])
    plain.learn(words.FLAGS, [(b"d.h1.", 9)])
    text = b"  a-1 [000] d.h1.  1.000000: " + word + b"\n"
    assert len(plain.take(text).plain) == 0
    plain.learn_event(b"m:", 1, [])
    assert len(plain.take(b"  a-1 [000] d.h1.  1.000000: m: x\n").plain) == 1


def test_what_a_plain_line_says() -> None:
    """Columns that changed places would be the same in both ways if both had changed."""
    plain = Plain("ftrace", bare=False)
    plain.learn(words.FLAGS, [(b"d.h1.", 9)])
    plain.learn(words.BUFFER, [(b"", 0), (b"host", 4)])
    plain.learn_event(b"m: (f)", 7, [(b"phys", 0), (b"prot", 2)])
    text = b"# tracer: nop\n host:  a-12 [003] d.h1.  2.000003: m: (f) x=1 phys=0x10 prot=-1\n"
    pieces = plain.take(text)
    assert (pieces.count, pieces.at.tolist(), pieces.micro) == (2, [0], True)
    [one] = zip(*(column.tolist() for column in pieces.plain.columns), strict=True)
    assert one == (1, 3, 2_000_003_000, 12, 9, 4, 7, [16, 0, 2**64 - 1], True)
    assert np.asarray(pieces.others.to_pylist()).tolist() == [b"# tracer: nop\n"]
