# SPDX-License-Identifier: Apache-2.0
"""Texts of ftrace and perf: contexts, losses, and lines that are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ghesrace.checker.report import Verdict
from ghesrace.events import Cause, Context, Kind
from ghesrace.sources.files import open_file
from tests.build.paths import CORPUS
from tests.build.texts import HEAD, judged, line, losses, race, visit


@pytest.mark.parametrize(
    ("flags", "context"),
    [
        ("d.Z1.", Context.NMI),
        ("d.z1.", Context.NMI),
        ("d.H1.", Context.IRQ),
        ("..s1.", Context.SOFTIRQ),
        (".....", Context.TASK),
    ],
)
def test_latency_columns_give_the_context(tmp_path: Path, flags: str, context: Context) -> None:
    """An NMI taken for a task's event would join two contexts into one."""
    path = tmp_path / "trace"
    path.write_text(visit(0, 10, 1, flags))
    events = np.concatenate(list(open_file(path).batches()))
    assert set(events["ctx"][events["kind"] < Kind.LOSS].tolist()) == {context}


@pytest.mark.parametrize(
    ("marker", "cpu", "count"),
    [
        ("CPU:1 [LOST 23 EVENTS]\n", 1, 23),
        ("CPU:0 [LOST EVENTS]\n", 0, 0),
        ("CPU:1 [7 EVENTS DROPPED]\n", 1, 7),
        ("CPU:1 [EVENTS DROPPED]\n", 1, 0),
        ("CPU:1 [LOST\n", 1, 0),
        ("CPU:1 [LOST 2\n", 1, 0),
        ("CPU:1 [LOST 99999999999 EVENTS]\n", 1, 2**31 - 1),
    ],
)
def test_lost_events_in_text_are_losses_in_place(
    tmp_path: Path, marker: str, cpu: int, count: int
) -> None:
    """What the text says was lost may have been the invalidation."""
    path = tmp_path / "trace"
    path.write_text(visit(0, 100, 1) + visit(1, 200, 2) + marker + visit(cpu, 300, 3))
    _, events = judged(path)
    (loss,) = losses(events, Cause.OVERRUN)
    assert (loss["cpu"], loss["size"]) == (cpu, count)
    assert loss["ts"] == 300_000
    assert loss["addr"] == (206_000 if cpu else 106_000)


def test_loss_at_the_end_and_overwritten_begin_are_losses(tmp_path: Path) -> None:
    """A loss with no event after it, or before the first one, would be forgotten."""
    path = tmp_path / "trace"
    path.write_text(HEAD.format(8, 50) + visit(0, 100, 1) + visit(1, 200, 2))
    _, events = judged(path)
    assert losses(events, Cause.OVERRUN)["cpu"].tolist() == [0, 1]
    path.write_text(visit(0, 100, 1) + "CPU:0 [LOST 5 EVENTS]\n")
    _, events = judged(path)
    assert losses(events, Cause.OVERRUN)["size"].tolist() == [5]


def test_perf_lost_record_touches_every_cpu(tmp_path: Path) -> None:
    """perf does not always say which CPU lost something."""
    path = tmp_path / "perf.txt"
    body = "".join(
        f"  swapper  0 [{cpu:03}]  {t}.000000: p:ghes_ioremap_pfn_irq: (ffffffff81000000) pfn=1\n"
        f"  swapper  0 [{cpu:03}]  {t}.000009: p:ghes_iounmap_irq: (ffffffff81000) vaddr=0x1000\n"
        for t, cpu in ((1, 0), (2, 1), (4, 0), (5, 1))
    )
    lines = body.splitlines(keepends=True)
    lines.insert(4, "  swapper  0 [000]  3.000000: PERF_RECORD_LOST lost 9\n")
    path.write_text("".join(lines))
    _, events = judged(path)
    assert sorted(losses(events, Cause.OVERRUN)["cpu"].tolist()) == [0, 1]


def test_unreadable_argument_is_a_loss_of_that_event(text: Path) -> None:
    """ "(fault)" read as 0 would be another frame, or none."""
    text.write_text(race().replace("pfn=258", "pfn=(fault)"))
    _, events = judged(text)
    assert losses(events, Cause.UNREAD)["size"].tolist() == [1]
    assert int((events["kind"] == Kind.MAP).sum()) == 5


def test_cut_text_is_truncated(text: Path) -> None:
    """The cut line's argument may be cut too: 0x1000 of 0x10000."""
    text.write_text(race()[:-4])
    report, events = judged(text)
    assert report.truncated
    assert report.events == 23
    assert len(losses(events, Cause.TRUNCATED)) == 1


def test_chunks_do_not_change_the_events(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long text would be judged otherwise than a short one."""
    marker = "CPU:1 [LOST 2 EVENTS]\n"
    text.write_text(race() + marker + race(2000).replace(" 1.0", " 2.0"))
    _, expected = judged(text)
    monkeypatch.setattr("ghesrace.sources.foreign.text.reader._CHUNK", 150)
    _, got = judged(text)
    for cpu in (0, 1):
        a, b = (e[(e["cpu"] == cpu) & (e["kind"] != Kind.MARK)] for e in (expected, got))
        a, b = (e[e["aux"] != Cause.CLOCK] for e in (a, b))
        assert np.array_equal(a, b)


def test_text_without_contexts_says_so(tmp_path: Path) -> None:
    """trace-cmd report prints no context by default: a reader must know what that costs."""
    path = tmp_path / "report.txt"
    path.write_text(visit(0, 10, 1, flags="").replace("]  ", "] "))
    unseen = [u.what for u in open_file(path).plan.unseen]
    assert any(what.startswith("contexts") for what in unseen)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("perf-whole.txt", Verdict.OBSERVED),
        ("perf-gone-task.txt", Verdict.OBSERVED),
        ("perf-lost.txt", Verdict.INCONCLUSIVE),
        ("arm64.txt", Verdict.CLEAN),
        ("nmi-told.txt", Verdict.PREDICTED),
        ("nmi-as-interrupt.txt", Verdict.INCONCLUSIVE),
        ("nmi-before-4.7.txt", Verdict.INCONCLUSIVE),
        ("seven-columns.txt", Verdict.OBSERVED),
        ("wall-clock.txt", Verdict.OBSERVED),
        ("latency-format.txt", Verdict.OBSERVED),
        ("sym-addr.txt", Verdict.OBSERVED),
        ("ts-diff.txt", Verdict.OBSERVED),
        ("long-decimals.txt", Verdict.CLEAN),
        ("bare-hex.txt", Verdict.CLEAN),
    ],
)
def test_traces_as_people_have_them(name: str, verdict: Verdict) -> None:
    """Each was judged wrongly, or refused, before its form was known."""
    assert judged(CORPUS / name)[0].verdict is verdict


def test_recipe_for_old_kernels_is_read(tmp_path: Path) -> None:
    """What docs/old-kernels.md says to record prints numbers without 0x."""
    text = (CORPUS / "bare-hex-recipe.txt").read_text()  # Its head promises two events more.
    assert judged(CORPUS / "bare-hex-recipe.txt", CORPUS / "old.toml")[0].truncated
    path = tmp_path / "trace"
    path.write_text(text.replace("8/8", "6/6"))
    report, events = judged(path, CORPUS / "old.toml")
    assert report.reasons == ["uncertain: 0xffffc90000008000: 2 start"]
    maps = events[events["kind"] == Kind.MAP]
    assert set(maps["phys"].tolist()) == {0x79531000}


@pytest.mark.parametrize("cpu", [0, 1])
@pytest.mark.parametrize("gone", range(4))
@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("<idle>-0 ", "<idle>-x "),
        lambda text: text.replace(" 1.", " 99999999999."),
        lambda text: text.replace(": ", ": ?"),
    ],
    ids=["pid", "stamp", "event"],
)
def test_no_line_vanishes(tmp_path: Path, cpu: int, gone: int, spoil: Any) -> None:
    """A line with a CPU and a stamp may have been the map, or the flush, of a race."""
    path = tmp_path / "trace"
    lines = race().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if f"[00{cpu}]" in line) + 4 * 2 + gone
    lines[at] = spoil(lines[at])
    path.write_text("".join(lines))
    report, events = judged(path)
    (loss,) = losses(events, Cause.UNREAD)
    stamps = events["ts"][(events["cpu"] == cpu) & (events["kind"] < Kind.LOSS)].tolist()
    assert (loss["cpu"], loss["size"]) == (cpu, 1)
    assert loss["addr"] in stamps
    assert any(unseen.what.startswith("1 lines with a CPU") for unseen in report.unseen)
    assert report.verdict is not Verdict.CLEAN


def test_a_cpu_of_which_nothing_can_be_read_is_lost_all_through(tmp_path: Path) -> None:
    """Its broadcasts may have been all that made another CPU safe."""
    path = tmp_path / "trace"
    path.write_text(race().replace("<idle>-0       [001]", "<idle>-x       [001]"))
    report, events = judged(path)
    (loss,) = losses(events, Cause.UNREAD)
    assert (loss["cpu"], loss["size"]) == (1, 12)
    assert loss["addr"] <= 1_001_000_000
    assert loss["ts"] >= 1_005_006_000
    assert report.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("Processed 20 events and lost 3 chunks!", 0),
        ("Processed 20 events and lost 1 chunks!", 0),
        ("Processed 20 events and lost 3 events!", 3),
        ("Processed 200 samples and lost 12.50%!", 0),
        ("Processed 200 samples and lost 5%!", 0),
        ("Processed 20 events and LOST 4!", 4),
        ("[ perf record: LOST 7 events! ]", 7),
        ("WARNING: LOST 3 chunks, Check IO/CPU overload", 0),
        ("4 samples with id not present in the header", 4),
        ("5 unprocessable samples recorded.", 5),
        ("6 out of 20 events were discarded for this reason.", 6),
    ],
)
def test_perf_says_that_it_lost_something(tmp_path: Path, words: str, count: int) -> None:
    """perf says so with no time, and before or behind the events. A chunk is any number of events:
    taken for one, it would hide no episode."""
    path = tmp_path / "perf.txt"
    silent = (CORPUS / "perf-silent.txt").read_text()
    path.write_text(words + silent)  # The line's end is gone.
    assert judged(path)[0].verdict is Verdict.INCONCLUSIVE
    for text in (words + "\n" + silent, silent + words + "\n"):
        path.write_text(text)
        report, events = judged(path)
        assert report.verdict is Verdict.INCONCLUSIVE
        (loss,) = losses(events, Cause.OVERRUN)
        assert loss["size"] == count
        assert loss["addr"] <= 1_000_000_000
        assert loss["ts"] > events["ts"][events["kind"] < Kind.LOSS].max()


def test_what_perf_throttled_is_lost(tmp_path: Path) -> None:
    """Until it says UNTHROTTLE no event was recorded."""
    path = tmp_path / "perf.txt"
    lines = (CORPUS / "perf-silent.txt").read_text().splitlines(keepends=True)
    lines.insert(10, "         idle     0 [000]   1.001999: PERF_RECORD_THROTTLE\n")
    path.write_text("".join(lines))
    report, events = judged(path)
    assert len(losses(events, Cause.OVERRUN))
    assert report.verdict is Verdict.INCONCLUSIVE


def test_perf_without_words_of_loss_says_so() -> None:
    """perf script shows no losses unless asked: clean would claim too much in silence."""
    report, _ = judged(CORPUS / "perf-silent.txt")
    assert any("--show-lost-events" in unseen.why for unseen in report.unseen)


def test_stacks_and_functions_are_no_losses(tmp_path: Path) -> None:
    """They are lines of other tracers, which no probe made."""
    path = tmp_path / "trace"
    stack = "".join(visit(0, 7, 1).splitlines(keepends=True)[:1])
    stack = stack[: stack.index("m: (")]
    path.write_text(race() + stack.replace("0.000007", "1.900000") + "<stack trace>\n => f\n")
    assert not len(losses(judged(path)[1], Cause.UNREAD))


def test_module_of_a_returning_function_is_not_its_callers(tmp_path: Path) -> None:
    """A return that seems to be another function's leaves its begin open: a false torn edit."""
    path = tmp_path / "trace"
    back = "x: (caller+0x10/0x40 [other] <- ghes_ioremap_pfn_irq [old]) arg1=0x1"
    lines = race().splitlines(keepends=True)
    path.write_text("".join([*lines[:1], line(0, 1_000_001, back), *lines[1:]]))
    source = open_file(path)
    assert [slot.name for slot in source.plan.slots] == ["old:irq"]
    assert {p.symbol for p in source.plan.probes if p.kind.startswith("MAP")} == {
        "old:ghes_ioremap_pfn_irq"
    }
    back = "x: (caller+0x10/0x40 [other] <- ghes_ioremap_pfn_irq) arg1=0x1"
    text = "".join([*lines[:1], line(0, 1_000_001, back), *lines[1:]]).replace(" [old]", "")
    path.write_text(text)
    plan = open_file(path).plan
    assert {p.symbol for p in plan.probes if p.kind == "MAP_END"} == {"ghes_ioremap_pfn_irq"}


@pytest.mark.parametrize("place", ["+0x4c/0x60", ".cold+0x0/0x20"])
def test_hits_inside_a_flush_are_losses(tmp_path: Path, place: str) -> None:
    """They prove flushes that nobody sees otherwise: without them it was a race."""
    path = tmp_path / "trace"
    text = (CORPUS / "flush-with-address.txt").read_text()
    assert judged(CORPUS / "flush-with-address.txt")[0].verdict is Verdict.CLEAN
    path.write_text(
        text.replace("arch_apei_flush_tlb_one+0x0/0x10", f"arch_apei_flush_tlb_one{place}")
    )
    report, events = judged(path)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert len(losses(events, Cause.UNREAD))
    # Beside a probe at the entry they say nothing new.
    lines = []
    for printed in text.splitlines(keepends=True):
        inside = printed.replace(" f: (", " g: (").replace("_one+0x0/0x10", f"_one{place}")
        lines += [printed, inside] if inside != printed else [printed]
    path.write_text("".join(lines).replace("20/20", "28/28"))
    assert judged(path)[0].verdict is Verdict.CLEAN


@pytest.mark.parametrize("first", ["ghes_iounmap_irq", "do_sys_open"])
def test_functions_that_share_a_name_are_not_taken_for_each_other(
    tmp_path: Path, first: str
) -> None:
    """ftrace prints no group: two events `e` have one name in the text, but the text says on which
    function each is."""
    path = tmp_path / "trace"
    path.write_text(race())
    expected = judged(path)[0]
    begin = line(0, 999_000, f"e: ({first}+0x0/0x40)")
    path.write_text(begin + race().replace(" f:", " e:"))
    report, events = judged(path)
    assert not len(losses(events, Cause.UNREAD))
    assert int((events["kind"] == Kind.INV_PAGE).sum()) == 6
    # The module has a function of the same name, and a slot of its own.
    assert (report.verdict, report.slots[-1]) == (Verdict.OBSERVED, expected.slots[-1])


@pytest.mark.parametrize("names", ["mf", "mr", "ur", "mu", "mruf"])
def test_names_that_functions_share_change_no_verdict(tmp_path: Path, names: str) -> None:
    """Flushes that share their name with maps were lost, and a clean trace was a race."""
    path = tmp_path / "trace"
    for text in (race(), (CORPUS / "flush-with-address.txt").read_text()):
        path.write_text(text)
        expected = judged(path)[0]
        for name in names:
            text = text.replace(f" {name}: (", " x: (")
        path.write_text(text)
        report, events = judged(path)
        assert not len(losses(events, Cause.UNREAD))
        assert (report.verdict, report.slots) == (expected.verdict, expected.slots)


def test_text_cut_in_the_blanks_of_a_line_is_truncated(text: Path) -> None:
    """Lines begin with blanks, so a tenth of all cuts are there."""
    text.write_text(race() + "     ")
    assert judged(text)[0].truncated
