# SPDX-License-Identifier: Apache-2.0
"""The first pass over a foreign trace."""

from __future__ import annotations

import re
from pathlib import Path

from ghesrace.checker.report import Verdict
from ghesrace.events import Cause
from tests.build.paths import CORPUS
from tests.build.texts import edited, judged, line, losses, race, visit


def test_second_probe_on_a_function_is_left_out(text: Path) -> None:
    """Every map would be there twice: the first of each pair is never unmapped nor flushed."""
    expected, _ = judged(text)
    once = text.read_text()
    lines = once.splitlines(keepends=True)
    text.write_text(
        "".join(x + (x.replace(": m:", ": also:") if ": m:" in x else "") for x in lines)
    )
    report, _ = judged(text)
    assert report.slots == expected.slots
    assert any("also" in unseen.what for unseen in report.unseen)


def test_flush_without_its_address_is_a_loss() -> None:
    """Nobody knows which page it dropped: "nothing had dropped it" is no longer known."""
    assert judged(CORPUS / "flush-with-address.txt")[0].verdict is Verdict.CLEAN
    report, events = judged(CORPUS / "flush-without-address.txt")
    assert report.verdict is Verdict.INCONCLUSIVE
    assert len(losses(events, Cause.UNREAD)) == 8
    assert any("record it with its arguments" in unseen.why for unseen in report.unseen)


def test_a_map_without_its_argument_is_never_clean(text: Path) -> None:
    """Maps whose frame nobody recorded would be no maps at all."""
    safe = re.sub("pfn=\\d+", "pfn=7", race())
    text.write_text(safe)
    assert judged(text)[0].verdict is Verdict.CLEAN
    other = safe.replace("_irq", "_nmi").replace("ffc90000", "ffc91000").replace(" m:", " n:")
    for unmaps in (other, other.replace(" u:", " v:")):
        blind = unmaps.replace(" pfn=7", "").replace(" 1.0", " 2.0")
        text.write_text(safe + blind)
        report, _ = judged(text)
        assert report.verdict is Verdict.INCONCLUSIVE
        assert "arguments" in report.qualified_by
        assert any("record it with its arguments" in u.why for u in report.unseen)
        # What was recorded of the other slot still says what it says.
        text.write_text(race() + blind)
        assert judged(text)[0].verdict is Verdict.OBSERVED


def test_a_flush_without_its_argument_hides_no_race(text: Path) -> None:
    """All maps are of one frame, whatever else was flushed: a loss that can hide nothing unsafe
    would make it inconclusive."""
    safe = re.sub("pfn=\\d+", "pfn=7", race())
    blind = re.sub(r"(flush_tlb_one\S+ \[old\]\)) addr=\S+", r"\1", safe)
    text.write_text(safe + blind.replace(" 1.0", " 2.0"))
    report, events = judged(text)
    assert (report.verdict, len(losses(events, Cause.UNREAD))) == (Verdict.CLEAN, 6)


def test_edit_without_its_range_keeps_torn_edits_from_being_clean(text: Path) -> None:
    """It may have been the slot's own page."""
    text.write_text(race() + re.sub(" start=.*", "", edited(0, 1_900_000, 0x1000, "")))
    assert any(r.startswith("losses: unread") for r in judged(text)[0].reasons)


def test_an_argument_that_another_probe_has_is_not_missed(text: Path) -> None:
    """Two probes on one function, one of them without arguments, say all that is needed."""
    expected, _ = judged(text)
    lines = text.read_text().splitlines(keepends=True)
    also = [re.sub(r" addr=\S+", "", x).replace(" f:", " g:") for x in lines]
    text.write_text(
        "".join(x + (y if " f:" in x else "") for x, y in zip(lines, also, strict=True))
    )
    report, events = judged(text)
    assert report.verdict == expected.verdict
    assert not len(losses(events, Cause.UNREAD))


def test_two_probes_on_one_function_that_differ_hide_nothing(tmp_path: Path) -> None:
    """Two probes with filters see different hits: to leave one out would hide what only it saw."""
    path = tmp_path / "trace"
    once = [visit(n % 2, 1_000_000 + n * 1000, 0x100) for n in range(6)]
    path.write_text("".join(once) + visit(0, 1_006_000, 0x200).replace(": m: ", ": m2: "))
    report, events = judged(path)
    assert losses(events, Cause.UNREAD)["size"].tolist() == [1]
    assert report.verdict is not Verdict.CLEAN
    assert any("m2: left out" in unseen.what for unseen in report.unseen)


def fixmap_visit(cpu: int, us: int, phys: int, flush: str) -> str:
    """One map of a fixmap slot that is not flushed, by a kernel that flushes it when it unmaps."""
    set_it = "s: (native_set_fixmap+0x0/0x80) idx=645 phys={:#x} prot={:#x}"
    texts = (
        set_it.format(phys, 0x8000000000000163),
        "r: (memcpy_fromio+0x0/0xb0) from=0xffffffffff57a000 count=20",
        set_it.format(0, 0),
        f"f: (flush_tlb_one_kernel+0x0/0x20) {flush}",
    )
    return "".join(line(cpu, us + 2 * n, text) for n, text in enumerate(texts))


def test_a_flush_that_does_not_say_of_what_is_no_flush_that_was_not_recorded(text: Path) -> None:
    """The plan took for granted that the setter flushes when it maps, as Linux's source has it and
    no flush was told to be of the slot; but the trace has the flushes, and there was none."""
    for flush, verdict in (
        ("addr=0xffffffffff57a000", Verdict.OBSERVED),
        ("", Verdict.INCONCLUSIVE),
        ('addr="x"', Verdict.INCONCLUSIVE),
    ):
        visits = [fixmap_visit(n % 2, 10_000 + 1000 * n, n << 12, flush) for n in range(1, 7)]
        text.write_text("".join(visits))
        assert judged(text)[0].verdict is verdict


def test_a_users_page_is_no_slot(text: Path) -> None:
    """The flush that is next behind a map is x86's own of the slot, unless that has none: then it
    is some task's, and was taken for one of the slot each time that it came."""
    set_it = "s: (native_set_fixmap+0x0/0x80) idx=645 phys={:#x} prot={:#x}"
    flush = "f: (native_flush_tlb_one_user+0x0/0x20) addr={:#x}"
    made = ""
    for n in range(1, 7):
        texts = (set_it.format(n << 12, 0x163), flush.format(0x7F0000400000), set_it.format(0, 0))
        made += "".join(line(n % 2, 1000 * n + m, one) for m, one in enumerate(texts))
    text.write_text(made + line(0, 9_000, flush.format(0xFFFFFFFFFF57B000)))
    assert judged(text)[0].verdict is not Verdict.CLEAN
