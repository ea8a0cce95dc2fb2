# SPDX-License-Identifier: Apache-2.0
"""Texts that a terminal, a mail or an editor cut, wrapped or dressed up."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ghesrace.checker.report import Verdict
from ghesrace.errors import GhesraceError
from ghesrace.sources.files import open_file
from ghesrace.sources.foreign.text.debris import Width, cut_short, debris, tails, undressed
from ghesrace.sources.foreign.text.lines import lines_of
from tests.build.judging import judge_source
from tests.build.paths import CORPUS
from tests.build.texts import judged, race

RACES = ("nmi-told.txt", "seven-columns.txt", "latency-format.txt", "sym-addr.txt", "ts-diff.txt")
CLEAN = ("flush-with-address.txt", "perf-silent.txt", "bare-hex-recipe.txt", "long-decimals.txt")
MAPS = {"bare-hex-recipe.txt": CORPUS / "old.toml"}


def hard(text: str, width: int) -> str:
    """As a terminal wraps, or what was copied from one."""
    rows = []
    for row in text.splitlines():
        rows += [row[at : at + width] for at in range(0, len(row), width)] or [""]
    return "\n".join(rows) + "\n"


def soft(text: str, width: int) -> str:
    """As a mail wraps: at a blank."""
    rows = []
    for row in text.splitlines():
        while len(row) > width and " " in row[:width].strip():
            at = row.rindex(" ", 0, width)
            rows.append(row[:at])
            row = row[at + 1 :]
        rows.append(row)
    return "\n".join(rows) + "\n"


def cut(text: str, width: int) -> str:
    """As `less -S` or `cut -c` shows it."""
    return "".join(f"{row[:width]}\n" for row in text.splitlines())


@pytest.mark.tenth
@pytest.mark.parametrize("width", range(84, 128, 3))
@pytest.mark.parametrize("damage", [hard, soft, cut])
@pytest.mark.parametrize("name", [*RACES, *CLEAN])
def test_a_wrapped_text_is_no_cleaner_and_no_worse(
    tmp_path: Path, name: str, damage: Callable[[str, int], str], width: int
) -> None:
    """A number that lost its last digits is another page: a false `clean`, or a false race."""
    whole = (CORPUS / name).read_text()
    verdict = judged(CORPUS / name, MAPS.get(name))[0].verdict
    damaged = damage(whole, width)
    if damaged == damage(whole, 10_000):
        return
    path = tmp_path / "trace"
    path.write_text(damaged)
    try:
        report = judge_source(open_file(path, MAPS.get(name)))
    except GhesraceError:  # Nothing is left that maps a slot.
        return
    assert report.verdict in (verdict, Verdict.INCONCLUSIVE), report.reasons
    if damage is not cut and verdict is Verdict.CLEAN:
        assert report.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("name", [*RACES, *CLEAN])
@pytest.mark.parametrize(
    "dress",
    [
        lambda text: text.replace(": (", ": \x1b[01;31m\x1b[K(\x1b[m\x1b[K"),
        lambda text: text.replace("[00", "\x1b[32m[00"),
        html.escape,
    ],
    ids=["grep", "cpu", "html"],
)
def test_a_dressed_text_is_the_same(tmp_path: Path, name: str, dress: Callable[[str], str]) -> None:
    """Colours of a terminal and escapes of a web page hid an edit, or its end."""
    path = tmp_path / "trace"
    path.write_text(dress((CORPUS / name).read_text()))
    plain, report = judged(CORPUS / name, MAPS.get(name))[0], judged(path, MAPS.get(name))[0]
    assert (report.verdict, report.events) == (plain.verdict, plain.events)


@pytest.mark.parametrize(
    "said",
    [
        "** 33 printk messages dropped **",
        "systemd-journald[312]: Missed 45 kernel messages",
        "rsyslogd: imjournal: 1234 messages lost due to rate-limiting (20000 allowed)",
        "Binary file trace.txt matches",
        "##### CPU 1 buffer started ####",
        "overrun: 33",
        "dropped events: 7",
        "0x1bf8 [0x8]: failed to process type: 9 [Invalid argument]",
        "WARNING: The perf.data file's data size field is 0 which is unexpected.",
        "[...]",
        "[... truncated ...]",
        "<snip>",
        "(120 more lines)",
        "[ 100 lines omitted ]",
        "-- 55 lines truncated --",
        "--8<----8<--",
        "\N{HORIZONTAL ELLIPSIS}",
        "--",
        "CPU 0: 50414 events lost",
        "[LOST EVENTS]",
        "5 out of order events recorded.",
        "Found 3 unknown events!",
        "imklog lost 55 messages",
        "  m                                 12               5",
        "0: m: (ghes_ioremap_pfn_irq+0x0/0x40) pfn=256",
        "   <idle>-0       [00",
        "   <idle>-0       [001] d.h1.  [  12.345678] printk: a console is here",
        "          <idle>-0",
        "          swapper     0 [00",
        "=0xffffc900ffc90000",
        "0xffffc900ffc90000",
        "xffffc900ffc90000",
        "m\0:\0 \0(\0",
        " 1)               |  /* m: (ghes_ioremap_pfn_irq+0x0/0x40) pfn=512 */",
    ],
)
def test_a_line_that_tells_of_what_is_missing_is_a_loss(tmp_path: Path, said: str) -> None:
    """What is missing may have been the race, and the text says that it is."""
    rows = race().splitlines()
    rows.insert(len(rows) - 4, said)
    path = tmp_path / "trace"
    path.write_text("\n".join(rows) + "\n")
    report = judged(path)[0]
    assert report.losses
    assert report.verdict is not Verdict.CLEAN


@pytest.mark.parametrize(
    "said",
    [
        "[   12.345678] ------------[ cut here ]------------",
        "------------[ cut here ]------------",
        "---------------------------------",
        "---[ end trace 0000000000000000 ]---",
        "-- ",
        "CPU 1 is empty",
        "overrun: 0",
        "dropped events: 0",
        "  m                                 12               0",
    ],
)
def test_a_line_that_tells_of_nothing_costs_nothing(tmp_path: Path, said: str) -> None:
    """Such lines are in most logs; none of them would be judged."""
    rows = race().splitlines()
    rows.insert(len(rows) - 4, said)
    path = tmp_path / "trace"
    path.write_text("\n".join(rows) + "\n")
    report = judged(path)[0]
    assert not report.losses
    assert report.verdict is Verdict.OBSERVED


@pytest.mark.parametrize("said", ["   <idle>-0       [00", "m\0:\0 \0(\0"])
@pytest.mark.parametrize("count", [1, 20_000])
def test_what_is_unread_before_the_first_event_is_a_loss(
    tmp_path: Path, said: str, count: int
) -> None:
    """Where much of it stands there, it is read before any stamp is known, and -1 was taken for
    one."""
    path = tmp_path / "trace"
    path.write_text(f"{said}\n" * count + (CORPUS / CLEAN[0]).read_text())
    assert judged(CORPUS / CLEAN[0])[0].verdict is Verdict.CLEAN
    report = judged(path)[0]
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.losses


@pytest.mark.parametrize(
    "said",
    [
        "root@host:~# cat trace",
        "[  123.456789] EDAC MC0: 1 CE memory read error on DIMM0 (page:0x12 offset:0x0)",
        "{1}[Hardware Error]:   physical_address: 0x0000000012345000",
        " => ghes_copy_tofrom_phys+0x5f/0x1a0",
        "\tffffffff8123abcd ghes_copy_tofrom_phys+0x5f ([kernel.kallsyms])",
        "\tffffffff8123abcd",
        "cpus=2",
        "  > cpus=2",
        "     1\tcpus=2",
        "  foo-12 was here",
        "# p:m ghes_ioremap_pfn_irq+0x0 pfn=%di",
        "CPU 1 is empty",
        "",
    ],
)
def test_what_stands_between_lines_is_none(said: str) -> None:
    """If this fails, a console's other lines make every text inconclusive."""
    lines = lines_of(f"{said}\n".encode())
    assert not debris(lines, ["m", "probe:u"]).any()
    assert not tails(lines).any()


def test_two_hosts_in_a_quoted_mail_are_two_runs(tmp_path: Path) -> None:
    """Stamps of two hosts say nothing of each other."""
    quoted = "".join(f"> {row}\n" for row in race().splitlines())
    path = tmp_path / "trace"
    path.write_text(f"> # tracer: nop\n{quoted}> # tracer: nop\n{quoted}")
    report = judged(path)[0]
    assert report.verdict is Verdict.INCONCLUSIVE
    assert any("run 1 and run 2" in unseen.what for unseen in report.unseen)


def test_addresses_of_either_half_are_whole() -> None:
    """If this fails, a flush of a user's page is unread, or a cut one is another page's."""
    good = [0, 0x7F1234567000, 0x55D0_0000_0000, 0xFFFFC9000000A000, 2**64 - 1, 0xFFFF0000_00000000]
    bad = [0xFFFFC9000000A00, 0xFFFFC9000000, 0xFFFFC, 0x1_0000_0000_0000, 2**63 - 1]
    bad += [0xFFF, 0xFFFF, 18, 1844, 18446, 18446683604861]
    assert not cut_short(np.array(good, np.uint64)).any()
    assert cut_short(np.array(bad, np.uint64)).all()


def test_only_dress_is_taken_off() -> None:
    """If this fails, a line loses what is its own."""
    plain = b"a&b < c > d [0m ;\n"
    assert undressed(plain) is plain
    assert undressed(b"a &amp; b\n") == b"a &amp; b\n"
    assert undressed(b"\x1b[0;31ma &lt;- &amp;b\x1b[K\n") == b"a <- &b\n"
    assert undressed(b"\x1b[?2004l\x1b]0;root@h: ~\x07\x1b(Ba\x1b>\x1b]0;b\x1b\\\n") == b"a\n"


def test_a_width_is_one_only_if_lines_stand_at_it() -> None:
    """If this fails, one long line that lacks its argument makes a text inconclusive."""
    width = Width()
    width.take(lines_of(b"aaaa\nbbb\nbbb\n"), np.array([0]))
    assert not width.cuts
    width.take(lines_of(b"cccc\ndddd\n"), np.array([], np.intp))
    assert width.cuts
    width.take(lines_of(b"eeeee\n"), np.array([], np.intp))
    assert not width.cuts


def test_other_lines_that_end_openly_are_no_width() -> None:
    """If this fails, three lines of a console that end in a colon make a text inconclusive."""
    width = Width()
    width.take(
        lines_of(3 * b"[  123.456789] EDAC MC0: a list of what follows now (\n"),
        np.array([], np.intp),
    )
    assert not width.cuts
    line = b"  <idle>-0  [001] d.h1. 1.000000: u: (ghes_iounmap_irq+0x0/0x40) vaddr=\n"
    width.take(lines_of(3 * line), np.array([], np.intp))
    assert width.cuts


@pytest.mark.parametrize(
    ("end", "whole"),
    [
        ("root@host:~# ", True),
        ("\x1b]0;root@host: ~\x07\x1b[01;32mroot@host\x1b[00m:~$ ", True),
        ("[root@host ~]# ", True),
        ("$ ", True),
        ("crash> ", True),
        ("[3]kdb> ", True),
        ("          <idle>-0  ", False),
        (">", False),
        ("root@host:~# cat", False),
    ],
)
def test_a_prompt_at_the_end_is_no_cut_line(tmp_path: Path, end: str, whole: bool) -> None:
    """What was copied from a terminal ends with one, and counted as cut."""
    path = tmp_path / "trace"
    path.write_text(race() + end)
    report = judged(path)[0]
    assert bool(report.truncated) != whole
    assert (report.verdict is Verdict.OBSERVED) == whole
