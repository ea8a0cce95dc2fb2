# SPDX-License-Identifier: Apache-2.0
"""Traces that were damaged on their way: never clean where the whole is not, never a race where
the whole has none, and what is gone is counted wherever the trace tells it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.checker.report import Report, Verdict
from ghesrace.errors import GhesraceError
from ghesrace.events import Cause
from ghesrace.sources.files import open_file
from tests.build.judging import judge_source
from tests.build.paths import CORPUS
from tests.build.texts import HEAD, judged, losses, visit

Lines = list[bytes]
Damage = Callable[[Lines, random.Random], Lines]


def _span(lines: Lines, rng: random.Random) -> tuple[int, int]:
    begin = rng.randrange(len(lines))
    return begin, begin + rng.randint(1, 6)


def drop(lines: Lines, rng: random.Random) -> Lines:
    """Some lines are gone."""
    begin, end = _span(lines, rng)
    return lines[:begin] + lines[end:]


def cut(lines: Lines, rng: random.Random) -> Lines:
    """The text ends in the midst of a line."""
    at = rng.randrange(len(lines))
    return [*lines[:at], lines[at][: rng.randrange(len(lines[at]))]]


def double(lines: Lines, rng: random.Random) -> Lines:
    """Some lines are there twice."""
    begin, end = _span(lines, rng)
    return lines[:end] + lines[begin:]


def swap(lines: Lines, rng: random.Random) -> Lines:
    """Two lines stand in each other's place."""
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    made = list(lines)
    made[one], made[two] = made[two], made[one]
    return made


def join(lines: Lines, rng: random.Random) -> Lines:
    """The ends of some lines are gone."""
    begin, end = _span(lines, rng)
    return [x.rstrip(b"\n") if begin <= n < end else x for n, x in enumerate(lines)]


def move(lines: Lines, rng: random.Random) -> Lines:
    """Some lines stand elsewhere."""
    begin, end = _span(lines, rng)
    rest = lines[:begin] + lines[end:]
    at = rng.randint(0, len(rest))
    return rest[:at] + lines[begin:end] + rest[at:]


def block(lines: Lines, rng: random.Random) -> Lines:
    """The text's end is there again."""
    return lines + lines[rng.randrange(len(lines)) :]


DAMAGES: tuple[Damage, ...] = (drop, cut, double, swap, join, move, block)
RACES = (Verdict.OBSERVED, Verdict.PREDICTED)


def report(path: Path) -> Report | None:
    """What the checker says, or None where it refuses the file."""
    try:
        return judge_source(open_file(path))
    except GhesraceError:
        return None


def holds(whole: Report, damaged: Report | None) -> bool:
    """Whether a damaged trace is judged so that nobody is led to believe too much. Where nothing
    tells of losses, and the verdict says that it rests on that, lines may be gone for good."""
    if damaged is None or "losses" in damaged.qualified_by:
        return True
    if damaged.verdict is Verdict.CLEAN:
        return whole.verdict is Verdict.CLEAN
    return damaged.verdict not in RACES or whole.verdict in RACES


TEXTS = [path for path in sorted(CORPUS.glob("*.txt")) if report(path) is not None]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_damaged_texts_are_never_clean_or_races(tmp_path: Path, path: Path, damage: Damage) -> None:
    """A mailer, an editor or a full disk would make a verdict."""
    whole, case = report(path), tmp_path / "trace"
    assert whole is not None
    lines = path.read_bytes().splitlines(keepends=True)
    for seed in range(3):
        case.write_bytes(b"".join(damage(lines, random.Random(f"{path.name} {seed}"))))
        damaged = report(case)
        assert holds(whole, damaged), (seed, damaged)


# Each visit is of a CPU with a frame, and may flush before it reads; one context may be an NMI's.
VISITS = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(1, 3), st.booleans(), st.sampled_from(["d.h1.", "d.Z1."])
    ),
    min_size=2,
    max_size=8,
)


def written(visits: list[tuple[int, int, bool, str]]) -> Lines:
    """A `trace` of these visits, whose head says how many entries it has."""
    text = []
    for number, (cpu, pfn, flush, flags) in enumerate(visits):
        lines = visit(cpu, 1_000_000 + 1_000 * number, pfn, flags).splitlines(keepends=True)
        if flush:
            stamp = re.search(r"\d+\.\d{6}", lines[0])
            assert stamp is not None
            mine = re.sub(r"\d+\.\d{6}", f"{float(stamp[0]) + 1e-6:.6f}", lines[3], count=1)
            lines.insert(1, mine)
        text += lines
    return [line.encode() for line in [HEAD.format(len(text), len(text)), *text]]


@given(visits=VISITS, seed=st.integers(0, 2**32), damage=st.sampled_from(DAMAGES))
def test_generated_texts_that_are_damaged_are_never_clean_or_races(
    tmp_path_factory: pytest.TempPathFactory,
    visits: list[tuple[int, int, bool, str]],
    seed: int,
    damage: Damage,
) -> None:
    """The corpus has few shapes; this finds those that it lacks."""
    path = tmp_path_factory.mktemp("damage") / "trace"
    lines = b"".join(written(visits)).splitlines(keepends=True)
    path.write_bytes(b"".join(lines))
    whole = report(path)
    assert whole is not None
    path.write_bytes(b"".join(damage(lines, random.Random(seed))))
    assert holds(whole, report(path))


@given(visits=VISITS, data=st.data())
def test_seen_is_kept_and_lost(
    tmp_path_factory: pytest.TempPathFactory,
    visits: list[tuple[int, int, bool, str]],
    data: st.DataObject,
) -> None:
    """A line that is neither kept nor counted has vanished."""
    path = tmp_path_factory.mktemp("damage") / "trace"
    lines = b"".join(written(visits)).splitlines(keepends=True)
    events = range(2, len(lines))
    spoilt = data.draw(st.sets(st.sampled_from(events), max_size=6))
    for row in spoilt:
        pid, stamp, name = (rb"-0 ", b"-x "), (rb" 1\.", b" 99999999999."), (rb": (?=\w: )", b": ?")
        pattern, other = data.draw(st.sampled_from([pid, stamp, name]))
        lines[row] = re.sub(pattern, other, lines[row], count=1)
    told = data.draw(st.integers(0, 5))
    cpu = data.draw(st.integers(0, 2))
    at = data.draw(st.sampled_from([*events, len(lines)]))
    lines[at:at] = [b"CPU:%d [LOST %d EVENTS]\n" % (cpu, told)] if told else []
    path.write_bytes(b"".join(lines))
    try:
        found, stream = judged(path)
    except GhesraceError:  # Nothing maps a slot any more.
        return
    assert found.events + int(losses(stream, Cause.UNREAD)["size"].sum()) == len(events)
    overruns = losses(stream, Cause.OVERRUN)["size"]
    assert int(overruns.sum()) == told
    assert found.events + (found.lost or 0) == len(events) + told


@pytest.mark.parametrize("name", ["v6.dat", "v7-zstd.dat"])
def test_a_trace_dat_that_is_cut_or_shuffled_is_never_clean(tmp_path: Path, name: str) -> None:
    """Pages that are gone, or another's, would make a verdict."""
    data, path = (CORPUS / name).read_bytes(), tmp_path / "case.dat"
    path.write_bytes(data)
    whole = report(path)
    assert whole is not None
    size = 4096
    for seed in range(40):
        rng = random.Random(f"{name} {seed}")
        made = bytearray(data)
        one, two = (rng.randrange(len(data) // size) * size for _ in range(2))
        match rng.randrange(3):
            case 0:
                del made[rng.randrange(len(made)) :]
            case 1:
                made[one : one + size], made[two : two + size] = (
                    made[two : two + size],
                    made[one : one + size],
                )
            case 2:
                made[one : one + size] = made[two : two + size]
        path.write_bytes(bytes(made[: len(data)]))
        assert holds(whole, report(path)), (seed, one, two)
