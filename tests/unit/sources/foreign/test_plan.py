# SPDX-License-Identifier: Apache-2.0
"""The plan that is made out of a foreign trace: slots, what is unseen, what can't be checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ghesrace.checker.report import Verdict
from ghesrace.errors import InputError
from ghesrace.events import Kind
from ghesrace.plan import UNPROVEN_NS, Plan
from ghesrace.sources.files import open_file
from ghesrace.sources.foreign.eventmap import EventMap
from ghesrace.sources.foreign.plan import make_plan, without_reference
from ghesrace.sources.foreign.scan import Survey
from ghesrace.sources.foreign.source import readers
from tests.build.paths import CORPUS
from tests.build.plans import unseen
from tests.build.texts import HEAD, judged, line, race, visit


def planned(tmp_path: Path, text: str, given: str | None = None) -> Plan:
    path, map_file = tmp_path / "trace", tmp_path / "map.toml"
    path.write_text(text)
    if given is not None:
        map_file.write_text(given)
    return open_file(path, None if given is None else map_file).plan


def without(text: str, word: str) -> str:
    return "".join(x for x in text.splitlines(keepends=True) if word not in x)


def setters(symbol: str) -> str:
    """Maps of fixmap 644 on CPUs 0 and 3, in an interrupt, and of 645 in NMIs alone."""
    lines = []
    for n, (cpu, index, flags) in enumerate(
        ((0, 644, "d.h1."), (3, 644, "d.h1."), (0, 645, "d.Z1."))
    ):
        for k, (phys, prot) in enumerate(((0x70000000, 0x163), (0, 0))):
            text = f"s: ({symbol}+0x0/0x30) idx={index} phys={phys:#x} flags={prot:#x}"
            lines.append(line(cpu, 1000 * (n + 1) + 10 * k, text, flags))
    return "".join(lines)


def test_slots_of_a_module_carry_its_name(tmp_path: Path) -> None:
    """Two modules' slots, or a module's and the kernel's, would be one."""
    other = visit(0, 9_000_000, 1).replace("[old]", "[new]")
    other = re.sub(r": (\w): ", r": \1_new: ", other)  # a probe on each module's function
    plan = planned(tmp_path, race() + other)
    assert [slot.name for slot in plan.slots] == ["old:irq", "new:irq"]
    assert {slot.lock for slot in plan.slots} == {"page"}
    assert {p.symbol for p in plan.probes if p.kind == "MAP"} == {
        "old:ghes_ioremap_pfn_irq",
        "new:ghes_ioremap_pfn_irq",
    }


def test_slots_of_the_fixmap_are_told_by_index_and_context(tmp_path: Path) -> None:
    """An NMI's slot would be the interrupts', whose lock is another."""
    plan = planned(tmp_path, setters("native_set_fixmap"))
    assert [(s.name, s.index) for s in plan.slots] == [("fixmap-644", 644), ("fixmap-645-nmi", 645)]
    assert plan.cpus == (0, 3)
    both = setters("native_set_fixmap") + setters("native_set_fixmap").replace("d.Z1.", "d.h1.")
    assert [slot.name for slot in planned(tmp_path, both).slots] == ["fixmap-644", "fixmap-645"]


@pytest.mark.parametrize(
    ("symbol", "arch"), [("native_set_fixmap", "x86_64"), ("__set_fixmap", "arm64")]
)
def test_the_architecture_is_that_of_the_symbols(tmp_path: Path, symbol: str, arch: str) -> None:
    """arm64's unmap, which broadcasts, would be taken for x86's, which does not: a false race."""
    plan = planned(tmp_path, setters(symbol))
    assert plan.arch == arch
    implied = {what for probe in plan.probes for what in probe.implies}
    assert ("broadcast-after-clear" in implied) == (arch == "arm64")
    assert planned(tmp_path, setters(symbol), 'arch = "x86_64"\n').arch == "x86_64"


def test_without_unmaps_nothing_is_checked(tmp_path: Path) -> None:
    """A verdict would be given on maps alone."""
    plan = planned(tmp_path, without(race(), " u: "))
    assert "no event in the trace unmaps it" in plan.not_checked["stale"]
    assert "unmapping of old:irq" in unseen(plan)


def test_without_invalidations_nothing_is_checked(tmp_path: Path) -> None:
    """Every hand-off would be a race: nobody told the trace to record the flushes."""
    maps = """
[[event]]
event = "m"
kind = "map"
slot = "irq"
fields = { pfn = "pfn" }
[[event]]
event = "u"
kind = "unmap"
slot = "irq"
"""
    bare = without(race(), " f: ")
    assert "no invalidation" in planned(tmp_path, bare, maps).not_checked["stale"]
    told = planned(tmp_path, bare, maps + 'implies = ["page-after-clear"]\n')
    assert "stale" not in told.not_checked


def test_an_assumed_clock_error_is_told(tmp_path: Path) -> None:
    """A finding that hangs on it would look proven."""
    assumed = planned(tmp_path, race())
    assert f"clocks' error between CPUs: {assumed.clock_error_ns:,} ns is assumed" in unseen(
        assumed
    )
    given = planned(tmp_path, race(), "clock_error_ns = 77\n")
    assert (assumed.clock_proven_ns, given.clock_proven_ns) == (UNPROVEN_NS, None)
    assert given.clock_error_ns == 77
    assert "is assumed" not in unseen(given)


def test_what_the_trace_has_no_event_of_is_named(tmp_path: Path) -> None:
    """A probe that nobody set would pass for one that never fired."""
    whole, less = planned(tmp_path, race()), planned(tmp_path, without(race(), " r: "))
    gone = {u.what for u in less.unseen} - {u.what for u in whole.unseen}
    assert any("read" in what for what in gone)


def test_a_trace_of_something_else_says_what_is_in_it(tmp_path: Path) -> None:
    """Whoever took the wrong file would not see that he did."""
    other = line(0, 10, "sched_switch: (schedule+0x0/0x10) prev=1")
    with pytest.raises(InputError, match=r"its events: .*sched_switch") as caught:
        planned(tmp_path, other)
    assert "--map" in caught.value.hint


def test_references_that_count_others_nmis_go() -> None:
    """Every perf NMI of the host would be a GHES NMI that was missed."""
    [(reader, survey)] = [
        (reader, survey)
        for reader in readers(CORPUS / "v7-zstd.dat", EventMap())
        if (survey := Survey.of(reader, EventMap())).uses
    ]
    plan = make_plan(survey, reader, EventMap())
    less = without_reference(survey, plan, "others too")
    assert len(less.probes) == len(survey.uses) == len(plan.probes) - 1
    assert Kind.NMI_REF.name not in {probe.kind for probe in less.probes}
    assert "the independent count of GHES NMIs: a missed one cannot be noticed: others too" in (
        unseen(less)
    )
    assert without_reference(survey, less, "again") is less


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nmi-told.txt", True),
        ("nmi-as-interrupt.txt", False),
        ("nmi-before-4.7.txt", False),
        ("trace.txt", True),
        ("perf-silent.txt", False),
    ],
)
def test_plan_says_whether_contexts_are_told(name: str, told: bool) -> None:
    """An NMI taken for an interrupt hides that it tore an edit."""
    assert open_file(CORPUS / name).plan.contexts == told


@pytest.mark.parametrize("flags", ["d.h1.", "d..h1..", "d.h1"])
def test_an_nmis_map_in_an_interrupt_shows_that_nmis_are_not_told(
    tmp_path: Path, flags: str
) -> None:
    """Whoever printed it, the function that only NMIs call is proof."""
    text = "# tracer: nop\n" + race().replace("d.h1.", flags)
    assert planned(tmp_path, text).contexts == (len(flags) > 4)
    mistaken = planned(tmp_path, text.replace("pfn_irq", "pfn_nmi").replace("map_irq", "map_nmi"))
    assert not mistaken.contexts
    assert any(u.what == "which events happened in NMIs" for u in mistaken.unseen)


@pytest.mark.parametrize(
    ("address", "arch"),
    [
        (0xFFFF000008A91000, "arm64"),
        (0xFFFF7DFFFE000000, "arm64"),
        (0xFFFFC900FFC90000, "x86_64"),
        (0xFFFFA5ED40000000, "x86_64"),  # with KASLR
        (0xFFA0000040000000, "x86_64"),  # with five levels
        (0xFFFFFFFFFF57A000, "x86_64"),
        (0xFFFF800008000000, ""),  # vmalloc of arm64 since 5.4, or a linear map of x86_64
        (0xFFFFFF8008000000, ""),
    ],
)
def test_addresses_tell_the_architecture(tmp_path: Path, address: int, arch: str) -> None:
    """arm64's unmap tells all CPUs, x86_64's none: a guess is a false race, or a false clean."""
    text = without(without(race(), "memcpy"), "flush").replace(
        "0xffffc900ffc90000", f"{address:#x}"
    )
    plan = planned(tmp_path, text)
    assert ("architecture is not known" in plan.not_checked.get("stale", "")) == (not arch)
    assert plan.arch == (arch or "x86_64")
    assert planned(tmp_path, text, 'arch = "arm64"\n').arch == "arm64"
    assert "stale" not in planned(tmp_path, text, 'arch = "arm64"\n').not_checked


def test_a_machine_that_is_neither_is_taken_for_none(tmp_path: Path) -> None:
    """Its functions have the names of others', and its unmap does what nobody knows."""
    path = tmp_path / "trace.dat"
    path.write_bytes((CORPUS / "v6.dat").read_bytes().replace(b"amd64 x86_64", b"amd64 mips64"))
    report, _ = judged(path)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert any("recorded on mips64" in reason for reason in report.reasons)
    told = tmp_path / "map.toml"
    told.write_text('arch = "x86_64"\n')
    assert judged(path, told)[0].verdict is Verdict.OBSERVED


def test_a_slot_whose_address_nothing_tells_is_not_checked(tmp_path: Path) -> None:
    """A flush of its page would be taken for another page's, and a clean trace for a race."""
    text = (CORPUS / "flush-with-address.txt").read_text()
    path = tmp_path / "trace"
    path.write_text(re.sub(r" vaddr=\S+", "", text))
    report, _ = judged(path)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert any("address of vmarea:irq" in unseen.what for unseen in report.unseen)


ALONE = "".join(visit(0, 1_000_000 + n * 1000, 0x100 + n) for n in range(6))
SAID = (
    HEAD.format(24, 24),
    "> # tracer: nop\n> #\n> # entries-in-buffer/entries-written: 24/24   #P:2\n",
    "cpus=2\n",
    "# nrcpus online : 2\n# nrcpus avail : 2\n",
    "",
)


@pytest.mark.parametrize("head", SAID)
def test_what_one_cpu_alone_took_another_could_have_taken(tmp_path: Path, head: str) -> None:
    """The interrupt of all reports goes to CPU 0 on many machines. The plan knew only CPUs of which
    there are events: a kernel that races was clean, as a machine of one CPU is."""
    path = tmp_path / "trace"
    path.write_text(head + ALONE)
    assert planned(tmp_path, head + ALONE).cpus == (0, 1)
    report = judged(path)[0]
    assert report.verdict is Verdict.INCONCLUSIVE
    assert any("one CPU took all notifications" in reason for reason in report.reasons)
    told = any("how many CPUs" in unseen.what for unseen in report.unseen)
    assert told == (not head)


@pytest.mark.parametrize("head", SAID[:-1])
def test_one_cpu_alone_races_with_nobody(tmp_path: Path, head: str) -> None:
    """A machine of one CPU, of which the text tells, is no danger."""
    path = tmp_path / "trace"
    path.write_text(re.sub(r"(#P:|cpus=|: )2\b", r"\g<1>1", head) + ALONE)
    assert judged(path)[0].verdict is Verdict.CLEAN


def test_a_trace_dat_has_the_pages_of_all_cpus() -> None:
    """One without events may take the next notification."""
    for name in ("v6.dat", "v7-zstd.dat"):
        (reader, *_) = readers(CORPUS / name, EventMap())
        assert reader.cpus == len(reader.stats) > 1
