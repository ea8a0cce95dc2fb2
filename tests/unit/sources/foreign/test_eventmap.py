# SPDX-License-Identifier: Apache-2.0
"""Which events are ours: by their symbols, or by a map file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.checker.report import Verdict
from ghesrace.errors import InputError
from ghesrace.events import Context, Kind
from ghesrace.sources.files import open_file
from ghesrace.sources.foreign.eventmap import EventMap, EventType, Rule, recognise
from ghesrace.sources.ring.pages import EventFormat, Field
from tests.build.texts import HEAD, edited, judged, line, race, visit
from tests.unit.sources.foreign import fuzz


def test_ftrace_text_is_judged_by_the_symbols_it_prints(text: Path) -> None:
    """Probes of other names, with arguments of other names, would not be understood."""
    report, events = judged(text)
    assert report.verdict is Verdict.OBSERVED
    assert report.events == 24
    assert [slot.name for slot in report.slots] == ["old:irq"]
    assert set(events["ctx"][events["kind"] < Kind.LOSS].tolist()) == {Context.IRQ}
    maps = events[events["kind"] == Kind.MAP]
    assert sorted(maps["phys"].tolist()) == [n << 12 for n in range(0x100, 0x106)]
    assert report.findings[0].cpus in ((0, 1), (1, 0))


@pytest.mark.parametrize(("size", "fields"), [(8, {"phys": "pa"}), (4, {"pfn": "pfn"})])
def test_half_a_frames_address_is_no_frame(size: int, fields: dict[str, str]) -> None:
    """Two frames with the same low 32 bits would be one, and what was stale of them the same."""
    of = {"pa": Field(8, size, False), "pfn": Field(16, 4, False)}
    event = EventType("", "s", EventFormat("s", 1, of), "native_set_fixmap")
    found = recognise(event, EventMap())
    assert isinstance(found, Rule)
    assert found.fields == fields


def test_probe_inside_a_function_is_not_its_entry(text: Path) -> None:
    """Behind the map's PTE write the frame argument is anything."""
    text.write_text(race().replace("ghes_ioremap_pfn_irq+0x0/", "ghes_ioremap_pfn_irq+0x20/"))
    with pytest.raises(InputError, match="no event in it maps"):
        open_file(text)


@pytest.mark.parametrize(
    ("text_of_map", "message"),
    [
        ("x = 1", "unknown key 'x'"),
        ("[[event]]\nevent='a/b'\nkind='mop'", "kind 'mop' is not one of map"),
        ("[[event]]\nevent='a/b'\nkind='episode'", "kind 'episode' is not one of map"),
        ("[[event]]\nevent='a/b'\nkind='map'", "a map needs the fields phys or pfn"),
        ("[[event]]\nkind='map'", "event must be a string"),
        ("[[event]]\nevent='a/b'\nkind='read'\nfields={adr='x'}", "'adr' is not one of"),
        ("[[slot]]\nname='a'\naddress=5", "not the begin of a page"),
        ("[[slot]]\nname='a'\n[[slot]]\nname='a'", "the same name"),
        ("arch = 'vax'", "not one of x86_64"),
        ("event = 3", "must be a list of tables"),
        ("= nonsense", "TOML"),
    ],
)
def test_wrong_map_file_says_what_and_where(
    text: Path, tmp_path: Path, text_of_map: str, message: str
) -> None:
    """A misspelt map that is ignored gives a verdict about nothing."""
    given = tmp_path / "map.toml"
    given.write_text(text_of_map)
    with pytest.raises(InputError, match=message) as caught:
        open_file(text, given)
    assert "map.toml" in str(caught.value)


def test_map_field_that_the_event_has_not_is_an_error(text: Path, tmp_path: Path) -> None:
    """It would be read as 0."""
    given = tmp_path / "map.toml"
    given.write_text("[[event]]\nevent='m'\nkind='map'\nslot='s'\nfields={pfn='frame'}")
    with pytest.raises(InputError, match="'frame', which it does not have"):
        open_file(text, given)


def test_mutated_map_files_give_typed_errors_only() -> None:
    """So do map files."""
    assert fuzz.run_maps(500, seed=0)[0].keys() == {"read", "InputError"}


@pytest.mark.parametrize("end", [True, False])
def test_edits_are_recognised_by_their_symbol(tmp_path: Path, end: bool) -> None:
    """A torn edit in somebody else's trace would go unseen; without its end it is less sure."""
    slot = 0xFFFFC900FFC90000
    trace = race() + edited(0, 1_010_000, slot, visit(0, 1_010_010, 0x100), end)
    path = tmp_path / "trace"
    path.write_text(HEAD.format(29 + end, 30) + trace)
    report, events = judged(path)
    assert (events["kind"] == Kind.EDIT).sum() == 1
    result = report.patterns["torn_edit"]
    assert result.checked
    # Its map and its unmap.
    assert (result.observed, result.predicted) == ((2, 0) if end else (0, 2))
    told = any("end of page-table edits" in unseen.what for unseen in report.unseen)
    assert told is not end
    assert not report.patterns["shootdown"].checked


def test_unfiltered_ipis_are_no_shootdowns_unless_a_map_says_so(tmp_path: Path) -> None:
    """Each IPI of the system would be a hazard; or a map file could not name one that is."""
    ipi = "i: (smp_call_function_many_cond+0x0/0x300) func=0xffffffff81078050 wait=1"
    path, given = tmp_path / "trace", tmp_path / "map.toml"
    path.write_text(HEAD.format(25, 25) + race() + line(0, 1_010_000, ipi))
    report, events = judged(path)
    assert not (events["kind"] == Kind.SHOOTDOWN).any()
    assert not report.patterns["shootdown"].checked
    assert any("callbacks" in u.why and u.patterns == ("shootdown",) for u in report.unseen)
    given.write_text('[[event]]\nevent = "i"\nkind = "shootdown"\n')
    report, _ = judged(path, given)
    result = report.patterns["shootdown"]
    assert (result.checked, result.observed, result.predicted) == (True, 0, 1)
