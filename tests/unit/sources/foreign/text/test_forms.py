# SPDX-License-Identifier: Apache-2.0
"""How a text prints, and why some can't be judged."""

from __future__ import annotations

import difflib
import json
import quopri
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ghesrace.checker.report import Verdict
from ghesrace.errors import InputError
from ghesrace.events import Cause, Context, Kind
from ghesrace.sources.files import open_file
from ghesrace.sources.foreign.text.forms import form_of, read_begin, style_of
from tests.build.paths import CORPUS
from tests.build.texts import judged, losses, visit


def test_head_names_the_column_of_the_context() -> None:
    """In seven columns the third letter is a lazy resched: every interrupt would be a task's."""
    assert style_of((CORPUS / "seven-columns.txt").read_bytes()).context == 3
    assert style_of((CORPUS / "trace.txt").read_bytes()).context == 2
    assert style_of((CORPUS / "two-boots.txt").read_bytes()).context is None


def test_numbers_without_prefix_are_noticed() -> None:
    """Digits alone would be read as decimal, letters not at all."""
    assert style_of((CORPUS / "bare-hex.txt").read_bytes()).bare
    assert not style_of((CORPUS / "long-decimals.txt").read_bytes()).bare
    assert not style_of(b"a: x=ffffc900ffc90000 y=0x1\n").bare


def test_latency_format_is_a_form_of_its_own() -> None:
    """Its stamps are microseconds without a dot."""
    assert form_of((CORPUS / "latency-format.txt").read_bytes()) == "latency-format"


_LATENCY_HEAD = """\
# tracer: nop
#
# nop latency trace v1.1.5 on 6.1.0
# --------------------------------------------------------------------
# latency: 0 us, #{}/{}, CPU#0 | (M:desktop VP:0, KP:0, SP:0 HP:0 #P:2)
#
#                    _------=> CPU#
#                   / _-----=> irqs-off/BH-disabled
#                  | / _----=> need-resched
#                  || / _---=> hardirq/softirq
#                  ||| / _--=> preempt-depth
#                  |||| / _-=> migrate-disable
#                  ||||| /     delay
#  cmd     pid     |||||| time  |   caller
"""


def test_latency_formats_head_names_a_cpu_that_is_no_flag(tmp_path: Path) -> None:
    """Each interrupt would be a task's: its flags were read one column too far to the right."""
    body = "".join((CORPUS / "latency-format.txt").read_text().splitlines(keepends=True)[3:])
    path = tmp_path / "trace"
    path.write_text(_LATENCY_HEAD.format(12, 12) + body)
    style = style_of(path.read_bytes())
    assert (style.context, style.columns) == (2, 5)
    report, events = judged(path)
    assert set(events["ctx"][events["kind"] < Kind.LOSS].tolist()) == {Context.IRQ}
    assert not report.truncated
    path.write_text(_LATENCY_HEAD.format(12, 20) + body)
    report, events = judged(path)
    assert set(losses(events, Cause.OVERRUN)["cpu"].tolist()) == {0, 1}
    path.write_text(_LATENCY_HEAD.format(13, 20) + body)
    assert judged(path)[0].truncated


def test_flags_of_another_width_than_the_heads_are_read_by_letters(tmp_path: Path) -> None:
    """The texts of two kernels in one file have one first head: NMIs would be tasks'."""
    seven = (CORPUS / "seven-columns.txt").read_text()
    path = tmp_path / "trace"
    path.write_text(seven + visit(3, 10_000_000, 9, flags="d.Z1."))
    events = judged(path)[1]
    mine = (events["cpu"] == 3) & (events["kind"] < Kind.LOSS)
    assert set(events["ctx"][mine].tolist()) == {Context.NMI}


@pytest.mark.slow
@pytest.mark.parametrize("size", [1 << 18, 5 << 20])
def test_a_head_may_be_of_any_length(tmp_path: Path, size: int) -> None:
    """A log of the whole boot before the trace made it none, or lost what the head says."""
    path = tmp_path / "trace"
    text = (CORPUS / "seven-columns.txt").read_text()
    path.write_text("[    0.000000] Linux version 5.14\n" * (size // 34) + text)
    begin = read_begin(path)
    assert begin.form == "ftrace"
    assert (begin.style.context, begin.style.kernel) == (3, True)
    assert judged(path)[0].verdict is Verdict.OBSERVED


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ((CORPUS / "function-tracer.txt").read_text(), "kprobe events are needed"),
        ("  swapper     0   1.000000: probe:ghes_ioremap_pfn_irq: (ffff) pfn=1\n", "no CPU"),
        ("# x\n" * 100_000 + "  a     0   1.000000: p:ghes_ioremap_pfn_irq: (f) a=1\n", "no CPU"),
        (" 0)   0.541 us    |  ghes_copy_tofrom_phys();\n", "function_graph"),
        ("nothing of the kind\n", "neither a capture nor a trace"),
    ],
)
def test_a_refusal_says_what_is_missing(tmp_path: Path, text: str, reason: str) -> None:
    """Somebody who is told to give what was given learns nothing."""
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(InputError, match=reason):
        open_file(path)


def test_a_byte_order_mark_hides_no_head(tmp_path: Path) -> None:
    """An editor on Windows writes one: what the kernel printed was taken for another tool's."""
    path = tmp_path / "trace"
    path.write_bytes(b"\xef\xbb\xbf# tracer: nop\n  a-1 [000] d.h1. 1.000000: x: y\n")
    assert read_begin(path).style.kernel


def test_lines_that_end_in_cr_alone_are_named(tmp_path: Path) -> None:
    """The whole text is one line then, and "no event maps a slot" helps nobody."""
    path = tmp_path / "trace"
    path.write_bytes(b"  a-1 [000] d.h1. 1.000000: x: y\r" * 3)
    begin = read_begin(path)
    assert begin.form is None
    assert "CR alone" in (begin.why_not or "")


@pytest.mark.parametrize(
    ("form", "line"),
    [
        # `trace-cmd report --raw-ts`, `perf script -F -comm` and `-F +misc`
        ("ftrace", "  a-12   [003]101140487821: x: (f) a=1"),
        ("perf", "   12/17    [003]    1.000000:  probe:f: (ffffffff81000000) a=1"),
        ("perf", "  a    17 [003] K        1.000000:  probe:f: (ffffffff81000000) a=1"),
        # `-F +tod`
        ("perf", "  a 17 [003] 2026-11-30 12:00:00.123456   1.000000: probe:f: (ffff) a=1"),
        ("perf", "  a 17 [003] N/A   1.000000: probe:f: (ffff) a=1"),
    ],
)
def test_what_options_change_is_read(form: str, line: str) -> None:
    """Lines in the midst of a text would vanish, or whole texts be refused."""
    assert form_of(f"{line}\n".encode()) == form


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("# tracer: nop\n#\nfetch: (memcpy_fromio+0x0/0xb0) src=0x1 n=20\n", "context-info on"),
        ("# tracer: nop\n#\n101 0 58208609059 type: 1363\n", "raw, hex and bin off"),
        ("# tracer: nop\n#\n# entries-in-buffer/entries-written: 0/0   #P:2\n", "no event"),
        ("  a-12 [000]-0x9    1.000000: x: a=1\n", "without -R"),
        (
            "# tracer: nop\n  a 12 0 1 00000001 00000012 [000f4240] 1.000ms (+0.1ms): x: a=1\n",
            "option verbose off",
        ),
        ("  a-12 [000] d.h1.108773571999: x: a=1\n", "without --raw-ts"),
        ("  a-12 [000] d.h2108773571999: x: a=1\n", "without --raw-ts"),
        ("  a    17 [003]  probe:f: (ffffffff81000000) a=1\n", "-F \\+time"),
        ("  a [003]  1.000000: probe:f: (ffffffff81000000) a=1\n", "-F \\+pid"),
        ("[003] d.h1. 1.000000: m: (f+0x0/0x40) pfn=1\n", "all columns"),
        ("a-1\N{NO-BREAK SPACE} [003] d.h1. 1.000000: m: (f+0x0/0x40) pfn=1\n", "web page"),
    ],
)
def test_refusals_say_what_to_do(tmp_path: Path, text: str, why: str) -> None:
    """ "Neither a capture nor a trace" helps nobody who has one."""
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(InputError, match=why):
        open_file(path)


@pytest.mark.parametrize(
    ("before", "change", "why"),
    [
        ("", lambda line: ",".join(line.split()), "other characters than blanks"),
        ("", lambda line: ";".join(f'"{word}"' for word in line.split()), "other characters"),
        ("", lambda line: json.dumps({"MESSAGE": line}), "JSON"),
        ("[\n", lambda line: json.dumps({"MESSAGE": line}) + ",", "JSON"),
        ("", lambda line: quopri.encodestring(line.encode()).decode(), "quoted-printable"),
    ],
)
def test_text_that_is_packed_into_another_is_told(
    tmp_path: Path, before: str, change: Callable[[str], str], why: str
) -> None:
    """Some of its lines looked like events without arguments, and none like a map."""
    lines = "".join(visit(n % 2, 1_000_000 + 1000 * n, 7) for n in range(4)).splitlines()
    path = tmp_path / "trace"
    path.write_text(before + "\n".join(map(change, lines)) + "\n")
    with pytest.raises(InputError, match=why):
        open_file(path)


def differing(how: str) -> Iterator[str]:
    """Two runs' lines in one text, as a diff of them prints them."""
    one, two = (
        "".join(visit(n % 2, at + 1000 * n, 7) for n in range(4)).splitlines(keepends=True)
        for at in (1_000_000, 1_000_137)
    )
    if how == "ndiff":
        return difflib.ndiff(one, two)
    if how == "normal":
        return iter(["1,16c1,16\n", *(f"< {x}" for x in one), "---\n", *(f"> {x}" for x in two)])
    return getattr(difflib, f"{how}_diff")(one, two, "a/trace", "b/trace")


@pytest.mark.parametrize("how", ["unified", "context", "normal", "ndiff"])
def test_a_diff_of_two_texts_is_none(tmp_path: Path, how: str) -> None:
    """Two runs would be one: what the one unmapped the other would have mapped."""
    path = tmp_path / "trace"
    path.write_text("".join(differing(how)))
    with pytest.raises(InputError, match="a diff of two texts"):
        open_file(path)


def test_one_line_of_another_form_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """What somebody wrote with trace_marker may be anything."""
    odd = '  x-1 [000] d.h1.  1.000000: tracing_mark_write: a-1,[000],1.000000 {"a": 1} b=3D4\n'
    path = tmp_path / "trace"
    path.write_text(odd + "".join(visit(n % 2, 1_000_100 + 1000 * n, 7) for n in range(4)))
    assert judged(path)[0].verdict is Verdict.CLEAN
