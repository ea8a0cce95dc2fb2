# SPDX-License-Identifier: Apache-2.0
"""Texts of ftrace and perf: contexts, losses, and lines that are cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ghesrace.events import Cause, Context, Kind
from ghesrace.sources.files import open_file
from tests.build.texts import HEAD, judged, losses, race, visit


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
    assert losses(events, Cause.OVERRUN)["size"].tolist() == [1]
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
    text.write_text(race() + marker + race(2000).replace("[000] d.h1.  1.", "[000] d.h1.  2."))
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
