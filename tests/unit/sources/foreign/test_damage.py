# SPDX-License-Identifier: Apache-2.0
"""Traces that were damaged on their way: never clean where the whole is not, never a race where
the whole has none, and what is gone is counted wherever the trace tells it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
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
    at = rng.choice([n for n, line in enumerate(lines) if len(line) > 1])
    return [*lines[:at], lines[at][: rng.randrange(1, len(lines[at]))]]


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


def holds(whole: Report, damaged: Report | None, damage: Damage) -> bool:
    """Whether a damaged trace is judged so that nobody is led to believe too much. Lines may be
    gone for good where nothing tells of losses, and the verdict says that it rests on that."""
    if damaged is None or (damage is drop and "losses" in damaged.qualified_by):
        return True
    if damaged.verdict is Verdict.CLEAN:
        return whole.verdict is Verdict.CLEAN
    return damaged.verdict not in RACES or whole.verdict in RACES


TEXTS = [path for path in sorted(CORPUS.glob("*.txt")) if report(path) is not None]


@pytest.mark.tenth
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
        assert holds(whole, damaged, damage), (seed, damaged)


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
    return [line.encode() for line in [*HEAD.format(len(text), len(text)).splitlines(True), *text]]


def as_per_cpu(lines: Lines) -> Lines:
    """What `cat per_cpu/*/trace` prints of a `trace`: the head of each CPU counts all of them."""
    head, events = lines[:2], lines[2:]
    made: Lines = []
    for cpu in (b"[000]", b"[001]", b"[002]"):
        made += [*head, *(line for line in events if cpu in line)]
    return made


def as_seven_columns(lines: Lines) -> Lines:
    """What PREEMPT_RT prints, with as many columns in the head."""
    names = ("irqs-off", "need-resched", "need-resched-lazy", "hardirq/softirq")
    names += ("preempt-depth", "preempt-lazy-depth", "migrate-disable")
    head = [b"#  %s_-=> %s\n" % (b"|" * n, name.encode()) for n, name in enumerate(names)]
    events = [re.sub(rb" d\.([hZ])1\.", rb" d..\g<1>1..", line) for line in lines[2:]]
    return [*lines[:2], *head, *events]


def as_latency_format(lines: Lines) -> Lines:
    """What the kernel prints with the option latency-format."""
    pattern, other = rb"\[00(\d)\] (\S+) +(\d+)\.(\d{6}):", rb"\g<1>\g<2> \g<3>\g<4>us :"
    count = len(lines) - 2
    head = [lines[0], b"# latency: 0 us, #%d/%d, CPU#0 | (M:preempt)\n" % (count, count)]
    return [*head, *(re.sub(pattern, other, line) for line in lines[2:])]


def as_report(lines: Lines) -> Lines:
    """What `trace-cmd report` prints: no contexts, and nobody counts the entries."""
    return [b"cpus=3\n", *(re.sub(rb"\] \S+ +", b"]  ", line) for line in lines[2:])]


def as_perf(lines: Lines) -> Lines:
    """What `perf script` prints of probes that are named as their functions."""
    pattern = rb".*(\[00\d\]) \S+ +(\d+\.\d{6}): \w+: \((\w+)[^)]*\)"
    other = rb"  swapper     0 \g<1>  \g<2>: probe:\g<3>: (ffffffff81000000)"
    return [re.sub(pattern, other, line) for line in lines[2:]]


FORMS: tuple[Callable[[Lines], Lines], ...] = (
    list,
    as_per_cpu,
    as_seven_columns,
    as_latency_format,
    as_report,
    as_perf,
)
TOLD = (b"CPU:0 [LOST 3 EVENTS]\n", b"CPU:1 [LOST EVENTS]\n", b"CPU:2 [9 EVENTS DROPPED]\n")
SAID = (b"Processed 20 events and lost 3 chunks!\n", b"[ perf record: LOST 7 events! ]\n")


@pytest.mark.slow
@settings(deadline=None)  # Two files are judged.
@given(
    visits=VISITS,
    seed=st.integers(0, 2**32),
    damage=st.sampled_from(DAMAGES),
    form=st.sampled_from(FORMS),
    loss=st.sampled_from([None, *TOLD, *SAID]),
)
def test_generated_texts_that_are_damaged_are_never_clean_or_races(
    tmp_path_factory: pytest.TempPathFactory,
    visits: list[tuple[int, int, bool, str]],
    seed: int,
    damage: Damage,
    form: Callable[[Lines], Lines],
    loss: bytes | None,
) -> None:
    """The corpus has few shapes; this finds those that it lacks."""
    path = tmp_path_factory.mktemp("damage") / "trace"
    rng = random.Random(seed)
    lines = form(written(visits))
    if loss is not None and damage not in (drop, cut):  # Who takes the loss away hides it.
        lines.insert(rng.randint(0, len(lines)), loss)
    path.write_bytes(b"".join(lines))
    whole = report(path)
    assert whole is not None
    path.write_bytes(b"".join(damage(lines, rng)))
    assert holds(whole, report(path), damage)


@pytest.mark.slow
@settings(deadline=None)
@given(visits=VISITS, form=st.sampled_from(FORMS))
def test_every_form_of_a_text_says_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    visits: list[tuple[int, int, bool, str]],
    form: Callable[[Lines], Lines],
) -> None:
    """If a form were read otherwise, the tests above would hold it to nothing."""
    path = tmp_path_factory.mktemp("damage") / "trace"
    path.write_bytes(b"".join(written(visits)))
    plain = report(path)
    path.write_bytes(b"".join(form(written(visits))))
    made = report(path)
    assert plain is not None
    assert made is not None
    assert not made.truncated
    assert made.events == plain.events
    told = form in (list, as_per_cpu, as_seven_columns, as_latency_format)
    assert ("losses" in made.qualified_by) == (not told)
    if told or not any("Z" in flags for *_, flags in visits):
        assert made.verdict is plain.verdict


@settings(deadline=None)
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
        assert holds(whole, report(path), cut), (seed, one, two)
