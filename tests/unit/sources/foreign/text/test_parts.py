# SPDX-License-Identifier: Apache-2.0
"""Texts that have several of something: each part by itself, and never a race across them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ghesrace.checker.report import Report, Verdict
from ghesrace.errors import UsageError
from ghesrace.sources.files import open_file
from tests.build.captures import check
from tests.build.judging import judge_source
from tests.build.paths import CORPUS
from tests.build.texts import HEAD, race, visit


def visits(us: int, pfn: int) -> str:
    """Both CPUs see one frame only."""
    return "".join(visit(n % 2, us + 2_000 * n, pfn) for n in range(4))


SAFE = visits(1_000_100, 1)


def named(name: str, text: str, width: int = 9) -> str:
    """*text* as `trace-cmd report` prints it, of one buffer or file among several."""
    before = f"{name:>{width}}: " if name else " " * (width + 2)
    return "".join(before + line for line in text.splitlines(keepends=True))


def by_time(*texts: str) -> str:
    """The lines of *texts*, the oldest first, as `trace-cmd report` merges them."""
    lines = [line for text in texts for line in text.splitlines(keepends=True)]
    return "".join(sorted(lines, key=lambda line: line.partition("1.0")[2]))


def report(path: Path, run: int | None = None) -> Report:
    return judge_source(open_file(path, run=run))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace"


def test_two_buffers_merged_are_never_one(path: Path) -> None:
    """Each buffer has one frame only: the hand-offs between them never happened."""
    one, two = SAFE, visits(1_001_100, 2)
    path.write_text(by_time(one, two))
    assert report(path).verdict is Verdict.OBSERVED  # Nothing tells that these are two.
    path.write_text(by_time(named("host.dat", one), named("guest.dat", two)))
    merged = report(path)
    assert merged.verdict is Verdict.INCONCLUSIVE
    assert any("--run" in reason for reason in merged.reasons)
    assert any("(guest.dat: 16 events)" in unseen.what for unseen in merged.unseen)
    for run in (1, 2):
        alone = report(path, run)
        assert alone.verdict is Verdict.CLEAN
        assert alone.slots[0].episodes == 4


@pytest.mark.slow
def test_a_buffer_that_begins_late_is_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clocks are no order, and so the first look at the text ends early: behind that, a whole
    buffer with a race in it was left out, and the verdict clean."""
    host, guest = (visits(us, 1).splitlines(keepends=True) for us in (1_000_100, 900_000_100))
    pairs = [f"  host: {one} guest: {two}" for one, two in zip(host, guest, strict=True)]
    monkeypatch.setattr("ghesrace.sources.foreign.text.runs.MOST_RUNS", 3)
    monkeypatch.setattr("ghesrace.sources.foreign.text.reader._CHUNK", 400)
    path.write_text("".join(pairs))
    assert report(path).verdict is Verdict.INCONCLUSIVE
    path.write_text("".join(pairs) + named("late", race()))
    assert any("(late: 24 events)" in unseen.what for unseen in report(path, 1).unseen)
    assert report(path, 3).verdict is Verdict.OBSERVED


HOSTS = (
    "Nov 30 17:18:30 {} kernel: ",
    "Nov 30 17:18:30 {} kern.info kernel: [   12.345678] ",
    "2026-11-30T17:18:30.123456+01:00 {} kernel: ",
    "[   12.345678] {} kernel: ",
    "{}  | ",
    "{}.txt:12:",
    "[{}] ",
    "[root@{}] out: ",
    "[pod/{}/kernel] ",
    "{}> ",
    "{}\t",
    "{}.0.1> ",
    "[{host}] ",
    "{host}: ",
    "[INFO] [{}] ",
    "{host} ",
    "{host}:514 ",
    "<{}> ",
    "({}) ",
    "{}, ",
    "{} || ",
    "{} kernel: ",
    "{} [   12.345678] ",
    "[{}][   12.345678] ",
    "2026-11-30 17:18:30 [{}] ",
    "2026-11-30T17:18:30.123456+01:00 {} kernel - - - ",
    "<4>1 2026-11-30T17:18:30.123456+01:00 {host} kernel - - - ",
    "Mon 2026-11-30 17:18:30 CET {} kernel[0]: ",
    "Nov 30 17:18:30 {} klogd: ",
    "Nov 30 17:18:30 {} trace[123]: ",
    "Nov 30 17:18:30 {host} [   12.345678] ",
)


# Before a task's blanks a name with a dash and digits may be the begin of another line.
HOSTS += tuple(before.replace("{}", "{bare}") for before in ("{} ", "host={} ", "pod/{} "))
HOSTS += ("2026-11-30 17:18:30 {bare} ",)


@pytest.mark.tenth
@pytest.mark.parametrize("prefix", HOSTS)
def test_the_log_of_two_hosts_is_never_one(path: Path, prefix: str) -> None:
    """A server has the logs of all hosts in one file: none raced with another."""
    one, two = SAFE, visits(1_001_100, 2)
    texts = [
        "".join(
            prefix.format(name, host=host, bare=name[:-2]) + x
            for x in text.splitlines(keepends=True)
        )
        for name, host, text in (("ham-1", "10.0.0.1", one), ("shem-2", "10.0.0.2", two))
    ]
    path.write_text(by_time(*texts))
    merged = report(path)
    assert merged.verdict is Verdict.INCONCLUSIVE
    assert re.search(r"shem\b|10\.0\.0\.2", str([unseen.what for unseen in merged.unseen]))
    assert report(path, 2).verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    "prefix",
    [
        *("[INFO] ", "> ", ">> ", "[12:00:0{}] ", "[2026-11-30T12:00:0{}Z] ", "[00{}.5] ", "{}\t"),
        *("2026-11-30 12:00:0{} ", "Nov 30 12:00:0{} ", "2026-11-30T12:00:0{}Z stderr F "),
        *("2026-11-30 12:00:0{} INFO ", "Mon Nov 30 12:00:0{} 2026 ", "<4>[  12.34567{}][   C{}] "),
        *("kern  :warn  : [  12.34567{}] ", "4,{},123456789,-;", "[Mon Nov 30 12:00:0{} 2026] "),
    ],
)
def test_what_is_in_front_of_a_line_is_no_host(path: Path, prefix: str) -> None:
    """How bad a line is, the marks of a mail and a log's own stamps are no names: each line would
    be another host's, and the race in them unseen."""
    lines = race().splitlines(keepends=True)
    path.write_text("".join(prefix.format(n % 9, n % 2) + x for n, x in enumerate(lines)))
    assert report(path).verdict is Verdict.OBSERVED


@pytest.mark.parametrize("width", [0, 6])
def test_the_number_of_a_line_is_no_buffer(path: Path, width: int) -> None:
    """`grep -n` numbers lines: each was a buffer of its own, and the race in them unseen."""
    lines = race().splitlines(keepends=True)
    path.write_text("".join(f"{n:{width}}:{line}" for n, line in enumerate(lines, 7)))
    assert report(path).verdict is Verdict.OBSERVED


def test_a_task_is_no_buffer(path: Path) -> None:
    """tmux names its tasks as trace-cmd prints a buffer: what they did was left out."""
    text = race().replace("    <idle>-0       [000]", "tmux: server-77      [000]")
    path.write_text(text)
    assert report(path).verdict is Verdict.OBSERVED
    path.write_text(text + "x\n" * 9 + named("trace.dat", race().replace("1.0", "1.5")))
    assert "(trace.dat" in str(report(path).unseen)


@pytest.mark.parametrize("first", ["", "top"])
def test_a_race_in_one_buffer_is_found_there(path: Path, first: str) -> None:
    """The top buffer has no name; --run must not lose its race."""
    path.write_text(by_time(named(first, race()), named("ghes", SAFE)))
    assert report(path).verdict is Verdict.INCONCLUSIVE
    verdicts = {report(path, run).verdict for run in (1, 2)}
    assert verdicts == {Verdict.OBSERVED, Verdict.CLEAN}


def test_a_buffer_without_events_of_ours_costs_nothing(path: Path) -> None:
    """A top buffer full of sched events must not make every verdict inconclusive."""
    noise = "  bash-1 [000] d.h1. 1.000001: sched_switch: prev=1\n" * 3
    path.write_text(named("", noise) + named("ghes", SAFE))
    assert report(path).verdict is Verdict.CLEAN


def test_one_named_buffer_is_the_whole(path: Path) -> None:
    """trace-cmd names an instance even where nothing else was recorded."""
    path.write_text(named("ghes", race()))
    assert report(path).verdict is Verdict.OBSERVED
    with pytest.raises(UsageError, match="one run only"):
        open_file(path, run=2)


def test_commands_with_colons_are_no_buffers(path: Path) -> None:
    """kworkers have colons in their names; their lines would be another buffer's."""
    text = race().replace("<idle>-0 ", "kworker/0:1-12 ", 5).replace("<idle>", "irq/9:x", 3)
    path.write_text(text)
    assert report(path).verdict is Verdict.OBSERVED


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [4 << 20, 150])
def test_each_run_is_judged_as_if_it_stood_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Whoever is told to cut the file, and does, gets the same."""
    monkeypatch.setattr("ghesrace.sources.foreign.text.reader._CHUNK", chunk)
    texts = [(CORPUS / name).read_text() for name in ("boot1.txt", "boot2.txt")]
    texts.append(HEAD.format(24, 24) + race())
    path.write_text("".join(texts))
    together = report(path)
    assert together.verdict is not Verdict.CLEAN
    alone = path.with_name("alone")
    for number, text in enumerate(texts, 1):
        alone.write_text(text)
        expected, got = report(alone), report(path, number)
        assert (got.verdict, got.events, got.losses) == (
            expected.verdict,
            expected.events,
            expected.losses,
        )
        assert not got.truncated
        assert any("other runs" in unseen.what for unseen in got.unseen)


def test_a_run_that_is_not_there_is_bad_usage(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Judging another one would answer a question that nobody asked."""
    path.write_bytes((CORPUS / "two-boots.txt").read_bytes())
    assert check(path, "--run", "1", "--accept-unknown", "clock,skipped-probes") == 0
    assert check(path, "--run", "3") == 2
    assert "1: lines 1 to 20; 2: lines 21 to the end" in capsys.readouterr().err
    assert check(CORPUS / "v6.dat", "--run", "2") == 2
    with pytest.raises(SystemExit):
        check(path, "--run", "0")


def test_a_capture_has_no_runs(clean: Path) -> None:
    """Its one run would be another one's."""
    with pytest.raises(UsageError, match="one run"):
        open_file(clean, run=1)


def perf(text: str, before: str = "") -> str:
    """*text* as `perf script` prints it, with *before* in front."""
    pattern = r".*(\[00\d\]) \S+ +(\d+\.\d{6}): \w+: \((\w+)[^)]*\)"
    return re.sub(pattern, rf"{before} swapper  0 \1 \2: probe:\3: (ffffffff81000000)", text)


@pytest.mark.parametrize("guest", ["VM:12345 VCPU:001", "VM:  123 VCPU:001"])
def test_perfs_guest_is_not_its_host(path: Path, guest: str) -> None:
    """perf prints a guest's events with its process; those of five digits were the host's own."""
    one, two = perf(SAFE), perf(visits(1_001_100, 2), guest)
    path.write_text(by_time(one, two))
    merged = report(path)
    assert merged.verdict is Verdict.INCONCLUSIVE
    assert any("--run" in reason for reason in merged.reasons)
    path.write_text(one)
    assert report(path, 1).verdict is Verdict.CLEAN


def test_a_web_pages_tag_is_no_buffer(path: Path) -> None:
    """The first line stood behind <pre>."""
    path.write_text("<pre>" + race() + "</pre>\n")
    assert report(path).verdict is Verdict.OBSERVED


def test_kdbs_prompt_is_no_buffer(path: Path) -> None:
    """kdb asks for a key after each page: the line behind that was of another machine."""
    lines = race().splitlines(keepends=True)
    lines[7] = "more> " + lines[7]
    path.write_text("".join(lines))
    found = report(path)
    assert (found.verdict, found.events) == (Verdict.OBSERVED, len(lines))


@pytest.mark.parametrize("task", ["le>-0", "a>b-12"])
def test_a_greater_sign_in_a_task_is_no_host(path: Path, task: str) -> None:
    """A blank is behind a host's; the compiled reader saw none here and the other did."""
    path.write_text(race().replace("          <idle>-0 ", f"{task} ", 3))
    assert report(path).verdict is Verdict.OBSERVED


@pytest.mark.parametrize("said", ["[SUBBUFFER START]", "[7 EVENTS DROPPED]", "[EVENTS DROPPED]"])
@pytest.mark.parametrize("piece", [600, 1 << 20])
def test_an_event_behind_what_is_said_of_its_cpu_has_a_name(
    path: Path, said: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`trace-cmd report` prints the buffer's name before what it says of a CPU alone: the events
    behind that were another buffer's, and stale reads were not checked."""
    monkeypatch.setattr("ghesrace.sources.foreign.text.reader._CHUNK", piece)
    lines = named("ghes", race()).splitlines(keepends=True)
    for row in (20, 16, 0):
        lines[row] = (
            f"     ghes: CPU:1 {said}\nCPU:1 [SUBBUFFER START]\n" + race().splitlines(True)[row]
        )
    path.write_text("".join(lines))
    found = report(path)
    assert (found.verdict, found.events) == (Verdict.OBSERVED, len(lines))
    assert not any("--run" in reason for reason in found.reasons)
    assert bool(found.lost is None or found.lost) == ("DROPPED" in said)
