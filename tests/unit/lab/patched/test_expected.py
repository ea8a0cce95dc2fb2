# SPDX-License-Identifier: Apache-2.0
"""What was expected of the mutants, and when what was said is held to it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ghesrace.checker.engine import Engine
from ghesrace.errors import InputError
from ghesrace.host.code import Blocks
from ghesrace.planning.resolve import resolve
from ghesrace.sources.capture.file import CaptureSource
from lab.patched.expected import MUTANTS, as_expected, expected, false_clean
from lab.paths import REPO
from tests.build.kernelcode import ARM64, facts
from tests.unit.lab.patched.conftest import Make

ENTRY = """
[[mutant]]
name = "{name}"
arch = "amd64"
safe = {safe}
expected = "{expected}"
why = "an argument"
"""


def folder(tmp_path: Path, *entries: str, patches: tuple[str, ...] = ("a",)) -> Path:
    (tmp_path / "expected.toml").write_text("".join(entries))
    for name in patches:
        (tmp_path / f"{name}.patch").write_text("--- a/f\n+++ b/f\n")
    return tmp_path


def entry(name: str = "a", safe: str = "true", expected: str = "clean", more: str = "") -> str:
    return ENTRY.format(name=name, safe=safe, expected=expected) + more


def test_the_table_of_this_repository_is_whole() -> None:
    """If this fails, a mutant is run of which nothing was expected, or one is never run."""
    known = expected()
    assert {one.arch for one in known} == {"amd64", "arm64"}
    built = [one for one in known if not one.flavour and one.suite == "bookworm"]
    plain = {one.name for one in built if not one.patches and not one.configs}
    assert plain == {"x86-unpatched", "arm64-unpatched"}
    assert sum(not one.safe for one in known) > 10
    assert {patch for one in known for patch in one.patches} == set(MUTANTS.glob("*.patch"))


# GHES's whole way of mapping until 4.14, with its functions.
LONG = {"x86-vm-area.patch": 70}


def test_patches_are_short_and_of_the_kernel() -> None:
    """If this fails, a mutant is no small step away from the kernel that people run."""
    for path in MUTANTS.glob("*.patch"):
        text = path.read_text()
        licence = ": ".join(("SPDX-License-Identifier", "GPL-2.0-only"))
        assert text.startswith(f"{licence}\n"), path
        changed = [line for line in text.splitlines() if line[:1] in "+-" and line[:3] != "---"]
        lines = sum(not line.startswith("+++") for line in changed)
        assert 0 < lines <= LONG.get(path.name, 16), path


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ((entry(), entry()), "two entries of a"),
        ((entry(name="b"),), "b has no patch b.patch"),
        ((entry(expected="fine"),), "not as they should be"),
        ((entry(more='color = "red"\n'),), "the entry of a in expected.toml is wrong"),
        ((entry(expected="race-observed"),), "what is safe is not"),
        ((entry(safe="false", expected="clean", more='finding = "stale"\n'),), "unsafe is found"),
        ((entry(safe="false", expected="race-observed"),), "names its finding"),
        ((entry(more='configs = ["none"]\n'),), "a has no configuration none.config"),
        ((entry(more='flavour = "rt"\n'),), "takes no patches"),
        ((entry(more='finding = "stale"\n'),), "a safe one has none"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(
    tmp_path: Path, entries: tuple[str, ...], why: str
) -> None:
    """If this fails, an unsafe mutant may be expected to be clean."""
    with pytest.raises(InputError, match=why):
        expected(folder(tmp_path, *entries))


def test_a_patch_without_an_entry_is_refused(tmp_path: Path) -> None:
    """If this fails, a mutant is run first and argued about afterwards."""
    with pytest.raises(InputError, match=r"b\.patch has no entry"):
        expected(folder(tmp_path, entry(), patches=("a", "b")))


def test_an_unsafe_mutant_is_found_by_its_pattern(result: Make) -> None:
    """If this fails, a finding of something else counts, or a miss does."""
    unsafe = {"safe": False, "expected": "race-observed", "finding": "stale"}
    found = result("clean", "race-observed", ("stale",), **unsafe)
    assert found.judged
    assert as_expected(found.mutant, found.judged)
    other = result("clean", "race-observed", ("overlap",), **unsafe)
    assert other.judged
    assert not as_expected(other.mutant, other.judged)
    less = result("clean", "race-predicted", ("stale",), **unsafe)
    assert less.judged
    assert not as_expected(less.mutant, less.judged)


def test_a_false_clean_is_told_apart(result: Make) -> None:
    """If this fails, nobody hears of the worst bug."""
    unsafe = {"safe": False, "expected": "race-observed", "finding": "stale"}
    for storm, false in (("clean", True), ("inconclusive", False), ("race-predicted", False)):
        one = result("clean", storm, **unsafe)
        assert one.judged
        assert false_clean(one.mutant, one.judged) == false
    safe = result()
    assert safe.judged
    assert not false_clean(safe.mutant, safe.judged)


def test_a_safe_mutant_may_lose_events_in_a_storm_and_no_more(result: Make) -> None:
    """If this fails, a false race in a storm passes, or a lost event counts as one."""
    for storm, findings, good in (
        ("clean", (), True),
        ("inconclusive", (), True),
        ("race-predicted", ("stale",), False),
    ):
        one = result("clean", storm, findings)
        assert one.judged
        assert as_expected(one.mutant, one.judged) == good
    lossy = result("inconclusive", "clean")
    assert lossy.judged
    assert not as_expected(lossy.mutant, lossy.judged)


# What a plan reads of __set_fixmap() with each of arm64's patches: arch/arm64/mm/mmu.c of Linux
# 6.1, gcc 12, lab/patched/configs/arm64.config, linked at an address of its own.
SETTERS = json.loads((REPO / "tests/unit/fixtures/arm64-setters.json").read_text())


@pytest.mark.parametrize("name", SETTERS)
def test_the_code_of_each_arm64_setter_decides_the_verdict(name: str) -> None:
    """If this fails, an arm64 kernel whose setter no longer broadcasts is called clean: its record
    is that of a sound one, as TLBI has no event. So the record here is a sound kernel's."""
    made, setter = facts(ARM64[1]), SETTERS[name]
    (known,) = made.symbols["__set_fixmap"]
    symbols = {n: s for n, s in made.symbols.items() if not n.startswith("flush_tlb_")}
    for symbol, at in setter["symbols"].items():
        symbols[symbol] = (known._replace(name=symbol, address=int(at, 16)),)
    code = Blocks({int(at, 16): bytes.fromhex(data) for at, data in setter["code"].items()})
    planned = resolve(replace(made, symbols=symbols, code=code))
    implied = next(p.implies for p in planned.probes if p.point == "fixmap-set")
    source = CaptureSource(REPO / "examples/arm64.arrows")
    probes = [
        replace(probe, implies=implied) if probe.point == "fixmap-set" else probe
        for probe in source.plan.probes
    ]
    engine = Engine(
        replace(
            source.plan,
            probes=tuple(probes),
            implications=planned.implications,
            unknowns=planned.unknowns,
        )
    )
    for batch in source.batches():
        engine.feed(batch)
    engine.finish()
    report = engine.report()
    one = next(one for one in expected() if one.name == name)
    assert report.verdict.word == one.expected
    assert {found.pattern for found in report.findings} == ({one.finding} if one.finding else set())
    assert not report.qualified_by


def test_each_arm64_patch_of_the_setter_is_read() -> None:
    """If this fails, a patch was added whose code nobody asked."""
    wanted = {one.name for one in expected() if one.arch == "arm64" and "sea-lock" not in one.name}
    assert set(SETTERS) == wanted
