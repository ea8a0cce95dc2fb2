# SPDX-License-Identifier: Apache-2.0
"""Lines that are no longer what was printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ghesrace.checker.report import Verdict
from ghesrace.errors import InputError
from ghesrace.events import Cause
from ghesrace.sources.foreign.text import joined
from ghesrace.sources.foreign.text.lines import lines_of, pc
from tests.build.paths import CORPUS
from tests.build.texts import judged, losses, race, visit

PERF = (
    "  swapper  0 [{cpu:03}]  {t}.000000: probe:ghes_ioremap_pfn_irq: (ffffffff81000000) pfn=1",
    "  swapper  0 [{cpu:03}]  {t}.000009: probe:ghes_iounmap_irq: (ffffffff81000) vaddr=0x1000",
)


@pytest.mark.parametrize("at", range(3, 20))
def test_two_lines_in_one_are_lost_on_both_cpus(tmp_path: Path, at: int) -> None:
    """The second line hides among the arguments of the first, which may itself be cut."""
    path = tmp_path / "trace"
    lines = race().splitlines(keepends=True)
    lines[at] = lines[at].rstrip("\n")
    path.write_text("".join(lines))
    report, events = judged(path)
    found = losses(events, Cause.UNREAD)
    assert set(found["size"].tolist()) == {0}
    assert set(found["cpu"].tolist()) == {int(line[26:29]) for line in lines[at : at + 2]}
    assert report.verdict is not Verdict.CLEAN
    assert report.events == 22


@pytest.mark.parametrize("end", ["[001]", "d.h1.", "1.001000"])
def test_a_line_that_ends_before_its_event_is_lost(tmp_path: Path, end: str) -> None:
    """A console that drops characters leaves lines without their ends: one may have been a map."""
    path = tmp_path / "trace"
    lines = race().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if "[001]" in line and "1.001000" in line)
    lines[at] = lines[at][: lines[at].index(end) + len(end)] + "\n"
    path.write_text("".join(lines))
    report, events = judged(path)
    (loss,) = losses(events, Cause.UNREAD)
    assert (loss["cpu"], loss["size"]) == (1, 1)
    assert report.verdict is not Verdict.CLEAN


@pytest.mark.parametrize(
    "line",
    [
        *visit(3, 5, 1).splitlines(),
        " :-1    -1 [000]   1.000000: probe:ghes_iounmap_irq: (ffffffff81000) vaddr=0x1000",
        " a-1 [000] d.h1. 1.000000: sched_wakeup: bash:812 [120] success=1 CPU:003",
        " a-1 [000] d.h1. 1.000000: sched_switch: prev_comm=b-1 prev_pid=1 ==> next_comm=c-2 [3] ",
        " irq/24-pci-833   (    833) [000] d.h1. 1.000000: f: (g+0x0/0x10 [old]) a=-1 b=[7]",
        *(line.format(cpu=1, t=3) for line in PERF),
    ],
)
def test_whole_lines_are_not_taken_for_two(line: str) -> None:
    """Then every line of a sound trace would be lost."""
    assert not pc.match_substring_regex(lines_of(line.encode()), joined.TWICE)[0].as_py()


# What logs, pagers and consoles put in front, with digits behind a dash.
PREFIXES = (
    "2026-11-30 17:18:30 ",
    "[2026-11-30 17:18:30] ",
    "2026-11-30T17:18:30-0500 host kernel: ",
    "2026-11-30T17:18:30-0500 ",
    "2026-11-30 17:18:30.123 -0500 ",
    "Nov 30 17:18:30 node-01 kernel: [   12.345678][    C0] ",
    "ip-10-0-0-5 kernel: ",
    "guest-1  | ",
)
DUMPED = (CORPUS / "latency-format.txt").read_text()


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("text", [race(), DUMPED], ids=["trace", "dump"])
def test_a_date_or_a_host_before_a_line_is_no_line(tmp_path: Path, prefix: str, text: str) -> None:
    """Each line of a log was taken for two, and a race in it refused as no trace."""
    path = tmp_path / "trace"
    path.write_text("".join(prefix + line for line in text.splitlines(keepends=True)))
    assert judged(path)[0].verdict is Verdict.OBSERVED


@pytest.mark.parametrize("line", [race().splitlines()[0], DUMPED.splitlines()[3]])
@pytest.mark.parametrize("after", [race().splitlines()[4], DUMPED.splitlines()[8]])
def test_a_line_cut_anywhere_behind_its_process_is_seen(line: str, after: str) -> None:
    """What of two joined lines is not seen to be two is a lost line that nobody counts."""
    begin = line.index("-0") + 3
    joins = [line[:at] + after for at in range(begin, len(line))]
    assert len(joined.several(lines_of("\n".join(joins).encode()))) == len(joins)


def test_perfs_lines_are_told_apart_too() -> None:
    """perf has no dash before the process."""
    text = "".join(line.format(cpu=n, t=n + 1) for n, line in enumerate(PERF)).encode()
    lines = lines_of(text)
    assert pc.match_substring_regex(lines, joined.TWICE)[0].as_py()
    pieces, of = joined.pieces_of(lines, np.array([0]))
    assert b"".join(pieces.to_pylist()) == text
    assert set(of.tolist()) == {0}


@pytest.mark.parametrize("before", ["", "K   ", "2026-11-30 12:00:00.123456  ", "N/A  "])
def test_what_perf_prints_before_the_stamp_hides_no_line(before: str) -> None:
    """With -F +misc or +tod the second of two joined lines vanished."""
    line = f"  swapper     0 [001] {before}1.002000: probe:x: (ffffffff81000000) a=1"
    assert joined.several(lines_of(f"{line}{line}\n".encode())).tolist() == [0]
    assert not len(joined.several(lines_of(f"{line}\n".encode())))


def test_a_file_of_joined_lines_is_refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is taken apart by itself, which is slow."""
    monkeypatch.setattr(joined, "_MOST", 1)
    with pytest.raises(InputError, match="several in one"):
        joined.pieces_of(lines_of(b"a\nb\n"), np.array([0, 1]))
