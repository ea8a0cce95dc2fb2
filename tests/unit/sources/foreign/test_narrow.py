# SPDX-License-Identifier: Apache-2.0
"""Events that have only the low 32 bits of addresses."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ghesrace.checker.report import Verdict
from ghesrace.events import Cause
from ghesrace.sources.foreign.narrow import Narrow
from tests.build.texts import MAP, edited, foreign_visit, judged, line, losses, visit

PAGE, FIXMAP = 0xFFFFC900FFC90000, 0xFFFFFFFFFF57A000  # of slots


def fixmap_visits(flush: str, read: int = FIXMAP) -> str:
    """Maps of different frames, each flushed as x86 does; *flush* is the address that tells it."""
    texts = (
        "s: (native_set_fixmap+0x0/0x80) idx=645 phys={:#x} prot=0x8000000000000163",
        f"f: (flush_tlb_one_kernel+0x0/0x20) addr={flush}",
        f"r: (memcpy_fromio+0x0/0xb0) from={read:#x} count=20",
        "s: (native_set_fixmap+0x0/0x80) idx=645 phys=0x0 prot=0x0",
        f"f: (flush_tlb_one_kernel+0x0/0x20) addr={flush}",
    )
    return "".join(
        line(n % 2, 10_000 + 1000 * n + 2 * m, one.format(n << 12))
        for n in range(1, 7)
        for m, one in enumerate(texts)
    )


def test_half_an_address_is_no_other_page(text: Path) -> None:
    """`addr=%di:x32` records the low 32 bits: the flush of a slot was one of another page, and
    that nothing had dropped the slot's translation a race."""
    text.write_text(fixmap_visits(hex(FIXMAP)))
    assert judged(text)[0].verdict is Verdict.CLEAN
    for half in (hex(FIXMAP % 2**32), str(FIXMAP % 2**32)):
        text.write_text(fixmap_visits(half))
        report, events = judged(text)
        assert report.verdict is Verdict.INCONCLUSIVE
        assert "arguments" in report.qualified_by
        assert len(losses(events, Cause.UNREAD)) == 12
        assert any("the low 32 bits" in unseen.why for unseen in report.unseen)
    # Where all have half of it they can be compared, and another page may have the same half.
    text.write_text(fixmap_visits(hex(FIXMAP % 2**32), FIXMAP % 2**32))
    report, _ = judged(text)
    assert report.verdict is Verdict.CLEAN
    assert "arguments" in report.qualified_by
    assert any("upper 32 bits" in unseen.what for unseen in report.unseen)
    # So it is of the pages that functions map for their slots.
    visits = "".join(visit(0, 10_000 + 100 * n, n) for n in range(4))
    for written, known in ((visits, True), (visits.replace("0xffffc900", "0x"), False)):
        text.write_text(written)
        report, _ = judged(text)
        assert ("arguments" not in report.qualified_by) is known
        assert report.findings == []
    # What can be no slot's half is what it says: a user's, also where nothing tells the slot's.
    text.write_text(fixmap_visits("0x400000"))
    assert judged(text)[0].verdict is Verdict.OBSERVED
    text.write_text(re.sub("(?m)^.* r: .*\n", "", fixmap_visits("0x400000")))
    assert judged(text)[0].verdict is not Verdict.CLEAN
    # A half that only flushes behind maps tell is the slot's, and another's whole one is none.
    edit = edited(0, 30_000, PAGE, "")
    text.write_text(re.sub("(?m)^.* r: .*\n", "", fixmap_visits(hex(FIXMAP % 2**32))) + edit)
    assert judged(text)[0].verdict is Verdict.INCONCLUSIVE


def test_half_of_an_edits_range_hides_no_tear(text: Path) -> None:
    """The edit of the slot's page was one of a page that no slot has, and what it tore unseen."""
    visits = "".join(visit(1, 1_500_000 + 1000 * n, 7) for n in range(3))
    inside = visit(0, 1_600_010, 7, "d.Zs.")
    text.write_text(visits + edited(0, 1_600_000, PAGE, inside))
    assert judged(text)[0].findings
    half = edited(0, 1_600_000, PAGE % 2**32, inside)
    text.write_text(visits + half)
    report, events = judged(text)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert len(losses(events, Cause.UNREAD)) == 1


def test_a_map_with_half_its_address_is_told_by_its_return(text: Path, tmp_path: Path) -> None:
    """Half a slot's address made a slot of its own, which nothing read."""
    map_file = tmp_path / "map.toml"
    map_file.write_text(MAP.replace('{ pfn = "a" }', '{ pfn = "a", addr = "v" }'))
    visits = [foreign_visit(n % 2, 1_000_000 + 1000 * n, n, PAGE) for n in range(6)]
    text.write_text("".join(visits).replace("in: (0)", f"in: (0) v={PAGE:#x}"))
    expected, _ = judged(text, map_file)
    text.write_text("".join(visits).replace("in: (0)", f"in: (0) v={PAGE % 2**32:#x}"))
    report, _ = judged(text, map_file)
    assert [slot.name for slot in report.slots] == [f"{PAGE:#x}"]
    assert (report.verdict, report.slots) == (expected.verdict, expected.slots)


def test_of_too_many_pages_each_half_address_counts() -> None:
    """What is not remembered may be a slot's: a flush of it would be another page's again."""
    narrow = Narrow()
    narrow.note(1, "READ", "addr", PAGE + 4096 * np.arange(5000, dtype=np.uint64))
    narrow.note(2, "INV_PAGE", "addr", np.array([0x400000], np.uint64))
    narrow.note(3, "INV_PAGE", "addr", np.array([0x400000, 1 << 32], np.uint64))
    assert narrow.found() == [(2, "addr")]


def test_a_flush_of_nothing_says_nothing() -> None:
    """A kind of event that never happened, or of address 0 alone, has no half addresses."""
    narrow = Narrow()
    narrow.note(1, "MAP", "addr", np.array([PAGE], np.uint64))
    narrow.note(2, "EDIT", "addr", np.array([], np.uint64))
    narrow.note(3, "EDIT", "end", np.array([0], np.uint64))
    assert narrow.found() == []
