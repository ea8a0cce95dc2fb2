# SPDX-License-Identifier: Apache-2.0
"""Lines as regular expressions read them, and what is learnt of them (test_plain.py: the rest)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ghesrace.checker.report import Verdict
from ghesrace.errors import InputError
from ghesrace.events import Cause
from ghesrace.sources.foreign.eventmap import EventMap
from ghesrace.sources.foreign.text.careful import Careful
from ghesrace.sources.foreign.text.forms import Style
from ghesrace.sources.foreign.text.lines import lines_of
from ghesrace.sources.foreign.text.parts import Buffers
from ghesrace.sources.foreign.text.plain import Plain
from tests.build.paths import CORPUS
from tests.build.texts import judged, losses, race

MAP = b" a-1 [000] d.h1. 1.000000: m: (ghes_ioremap_pfn_irq+0x0/0x40 [old]) other=1 pfn=%d\n"


def test_what_is_wanted_comes_first_and_is_learnt() -> None:
    """The rest is not written into pages: an argument behind it would be read as another one."""
    careful = Careful("ftrace", Style(kernel=True), EventMap())
    plain = Plain("ftrace", bare=False)
    found, bad, twice, part = careful.read(lines_of(MAP % 7 + b"#\n"), Buffers())
    assert (found.at.tolist(), bad.tolist(), twice.tolist()) == ([0], [1], [])
    assert (found.values[0, 0], careful.width) == (7, 1)
    careful.teach(plain, found, part)
    quick = plain.take(MAP % 7).plain
    found.values = found.values[:, : careful.width]
    assert [column.tolist() for column in quick.columns] == [
        column.tolist() for column in found.columns
    ]


def test_nothing_is_learnt_of_an_event_that_cannot_be_told() -> None:
    """A line that counts as lost would be an event."""
    careful = Careful("ftrace", Style(), EventMap())
    plain = Plain("ftrace", bare=False)
    found, _, _, part = careful.read(lines_of(MAP % 7), Buffers())
    found.ident[:] = 0
    careful.teach(plain, found, part)
    assert len(plain.take(MAP % 7).plain) == 0


def _among(text: str, more: list[str]) -> str:
    """*text* with each of *more* in the place of a line of its task, one behind every third."""
    rows = text.splitlines()
    for n, at in enumerate(range(len(rows) - 2, 6, -3)):
        head, _, _ = rows[at].partition(": ")
        rows.insert(at + 1, f"{head}: {more[n % len(more)]}")
    return "\n".join(row for row in rows if "entries-in" not in row) + "\n"


PRINTED = [
    "ghes_ioremap_pfn_irq: pfn=9999",
    "ghes_iounmap_irq: vaddr=0xffffc900ffc90000",
    "ghes_iounmap_irq: unmapping now",
    "ghes_copy_tofrom_phys: paddr=0x1000 len=20",
    "arch_apei_flush_tlb_one: addr=0xffffc900ffc90000",
]


@pytest.mark.parametrize("same_names", [False, True])
@pytest.mark.parametrize("name", ["flush-with-address.txt", "seven-columns.txt"])
def test_what_trace_printk_prints_is_no_probes(tmp_path: Path, name: str, same_names: bool) -> None:
    """trace_printk() prints the name of its function as an event prints its own. Who debugs GHES
    has both in one trace, and each print was a map or an unmap that never was: a race."""
    text = (CORPUS / name).read_text()
    if same_names:
        text = text.replace(": m: ", ": ghes_ioremap_pfn_irq: ").replace(
            ": u: ", ": ghes_iounmap_irq: "
        )
    path = tmp_path / "trace"
    path.write_text(_among(text, PRINTED))
    whole, report = judged(CORPUS / name)[0], judged(path)[0]
    assert (report.verdict, report.events) == (whole.verdict, whole.events)
    assert any("trace_printk()" in unseen.why for unseen in report.unseen)


def test_prints_alone_are_no_maps(tmp_path: Path) -> None:
    """Whether they stand where the map is, or tell of it later, nobody knows."""
    path = tmp_path / "trace"
    path.write_text(
        re.sub(r": m: \(\S+\)", ": ghes_ioremap_pfn_irq:", race().replace(" [old]", ""))
    )
    with pytest.raises(InputError, match=r"trace_printk\(\)"):
        judged(path)
    path.write_text(path.read_text().replace("irq: pfn", "irq: [FAILED TO PARSE] pfn"))
    assert judged(path)[0].verdict is Verdict.OBSERVED


@pytest.mark.parametrize("place", ["55d5a3a01000", "ffffffff81000500"])
def test_a_probe_of_a_program_is_none_of_the_kernel(tmp_path: Path, place: str) -> None:
    """perf prints of both only the address. A program's function may have the same name."""
    safe = (CORPUS / "perf-silent.txt").read_text()
    path = tmp_path / "perf"
    path.write_text(_among(safe, [f"probe_d:ghes_iounmap_irq: ({place}) vaddr=0xffffc900ffc90000"]))
    assert (judged(path)[0].verdict is Verdict.CLEAN) == place.startswith("5")


def test_a_function_that_perf_found_at_several_places_is_all_of_them(tmp_path: Path) -> None:
    """perf numbers the places where a function is inlined. What happened at the second one was
    left out, and a race there was clean. Two probes at one place are one."""
    race_text = (CORPUS / "perf-whole.txt").read_text()
    path = tmp_path / "perf"
    there = re.compile(r"(\[001\].*probe:)(ghes_\w+|arch_\w+): \(ffffffff81000000\)")
    path.write_text(there.sub(r"\1\2_1: (ffffffff81000500)", race_text))
    assert judged(path)[0].verdict is Verdict.OBSERVED
    lines = race_text.splitlines(keepends=True)
    again = [re.sub(r"(probe:\w+):", r"\1_1:", line) for line in lines]
    path.write_text("".join(a + b for a, b in zip(lines, again, strict=True)))
    report = judged(path)[0]
    assert (report.verdict, report.events) == (Verdict.OBSERVED, len(lines))


CUT = [
    ": f:",
    ": f: ",
    ": f: (",
    ": f: (arch_apei_fl",
    ": f: (arch_apei_flush_tlb_one+0x0/0x",
    ": f: o+0x0/0xb0) n=1",
]


@pytest.mark.parametrize("end", CUT)
@pytest.mark.parametrize("row", [0, 16])
@pytest.mark.parametrize("others", [False, True])
def test_a_line_that_ends_in_its_place_is_lost(
    tmp_path: Path, end: str, row: int, others: bool
) -> None:
    """Such a line was another event of the same name: the flush was never there, which made a
    race. So is one that is the first of its name, as names are learnt from that."""
    lines = (CORPUS / "flush-with-address.txt").read_text().splitlines()[4:]
    flushes = [n for n, line in enumerate(lines) if ": f: " in line]
    row = flushes[0] if row == 0 else flushes[-4]
    lines[row] = lines[row].partition(": f: ")[0] + end
    if others:  # What has no argument is cut there for nobody.
        lines[1:1] = [
            lines[row].partition(": f:")[0] + more for more in (": user_enter: ", ": x: y")
        ]
    path = tmp_path / "trace"
    path.write_text("\n".join(lines) + "\n")
    report, events = judged(path)
    assert report.verdict in (Verdict.CLEAN, Verdict.INCONCLUSIVE)
    assert losses(events, Cause.UNREAD)["size"].tolist() == [1]


MANGLED = [
    " f: (arch_apei_ush_tlb_one+0x0/0x10) addr=0xffffc900ffc90000",
    " f: (arch_one+0x0/0x10) addr=0xffffc900ffc90000",
    " f: (arch_apei_flush_tlbXone+0x0/0x10) addr=0xffffc900ffc90000",
    " f: (arch\\_apei\\_flush\\_tlb\\_one+0x0/0x10) addr=0xffffc900ffc90000",
    " f: (arch_apei_flush_tlb_one+0 addr=0xffffc900ffc90000",
    " f: (arch_apei_f\N{REPLACEMENT CHARACTER}ush_tlb_one+0x0/0x10) addr=0xffffc900ffc90000",
    "arch_apei_flush_tlb_one+0x0/0x10) addr=0xffffc900ffc90000",
]


@pytest.mark.parametrize("end", MANGLED)
@pytest.mark.parametrize("row", [0, 16])
def test_a_line_whose_place_is_mangled_is_lost(tmp_path: Path, end: str, row: int) -> None:
    """A serial console drops letters, and an editor escapes some. The flush was one of another
    function, or what trace_printk() printed, and its page's next visit a race."""
    lines = (CORPUS / "flush-with-address.txt").read_text().splitlines()[4:]
    flushes = [n for n, line in enumerate(lines) if ": f: " in line]
    row = flushes[0] if row == 0 else flushes[-4]
    head = lines[row].partition(" f: ")[0]
    lines[row] = head + end if end.startswith(" ") else head.partition("[")[0].rstrip() + end
    path = tmp_path / "trace"
    path.write_text("\n".join(lines) + "\n")
    report, events = judged(path)
    assert report.verdict in (Verdict.CLEAN, Verdict.INCONCLUSIVE)
    assert len(losses(events, Cause.UNREAD)) > 0


@pytest.mark.parametrize("place", ["vfs_read+0x0/0x90", "arch_apei_flush_tlb_one_x+0x0/0x10"])
def test_an_event_of_another_function_with_the_same_name_is_none_of_ours(
    tmp_path: Path, place: str
) -> None:
    """Two groups may have an event of one name each: a race beside the other's would be lost."""
    text = race()
    other = [
        row.replace(": u: (ghes_iounmap_irq+0x0/0x40 [old])", f": f: ({place})")
        for row in text.splitlines()
    ]
    rows = [
        row for pair in zip(text.splitlines(), other, strict=True) for row in dict.fromkeys(pair)
    ]
    path = tmp_path / "trace"
    path.write_text("\n".join(rows) + "\n")
    report = judged(path)[0]
    assert (report.verdict, report.lost) == (Verdict.OBSERVED, 0)


@pytest.mark.parametrize("said", ["tracing_mark_write: (begin", "user_enter: ", "user_enter:"])
def test_other_events_that_end_openly_are_none(tmp_path: Path, said: str) -> None:
    """Most events that say nothing have nothing to say."""
    lines = race().splitlines()
    head = lines[1].partition(": r: ")[0]
    lines[2:2] = [f"{head}: {said}", f"{head}: tracing_mark_write: end", f"{head}: user_enter: "]
    path = tmp_path / "trace"
    path.write_text("\n".join(lines) + "\n")
    report = judged(path)[0]
    assert (report.verdict, report.lost) == (Verdict.OBSERVED, 0)


@pytest.mark.parametrize("name", ["flush-with-address.txt", "perf-whole.txt"])
@pytest.mark.parametrize(
    "more",
    [
        'comm="x vaddr=0x1 addr=0x1 src=0x1 pfn=7 y" ',
        'comm="vaddr=(fault) addr=(fault) src=0x1 pfn=z" ',
        "".join(f"b{n}={n} " for n in range(11)),
    ],
    ids=["string", "fault", "many"],
)
def test_what_stands_before_the_arguments_hides_none(tmp_path: Path, name: str, more: str) -> None:
    """An argument was read out of a task's name, or not known if ten others were before it."""
    text = (CORPUS / name).read_text()
    path = tmp_path / "trace"
    path.write_text(re.sub(r"\) (?=\w+=)", f") {more}", text))
    whole, report = judged(CORPUS / name)[0], judged(path)[0]
    assert (report.verdict, report.events) == (whole.verdict, whole.events)
    lines = text.splitlines(keepends=True)
    lines[-2:] = [re.sub(r"\) (?=\w+=)", f") {more}", line) for line in lines[-2:]]
    path.write_text("".join(lines))
    report = judged(path)[0]
    assert (report.verdict, report.events) == (whole.verdict, whole.events)
