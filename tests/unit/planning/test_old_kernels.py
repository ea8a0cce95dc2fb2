# SPDX-License-Identifier: Apache-2.0
"""Kernels before 5.1, by the names in their published sources; and docs/old-kernels.md."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ghesrace.checker.model import Class
from ghesrace.checker.report import Report, Verdict
from ghesrace.errors import HostError
from ghesrace.host.facts import read_facts
from ghesrace.plan import Fetch, Plan, Probe
from ghesrace.planning.resolve import resolve
from ghesrace.sources.files import open_file
from ghesrace.sources.tracefs_text import body, definition
from tests.build import trees
from tests.build.judging import judge_source
from tests.build.paths import FIXTURES, REPO
from tests.build.texts import line

PAGE = REPO / "docs" / "old-kernels.md"
# Of a kernel with kprobe events and without $argN (4.20).
README = trees.README.replace("$arg<N>", "")


@cache
def kernels() -> dict[str, Any]:
    return tomllib.loads((FIXTURES / "old-kernels.toml").read_text())


def plan_of(root: Path, name: str) -> Plan:
    kernel = kernels()[name]
    functions = ("_text", "register_kprobe", *kernel["functions"])
    return resolve(read_facts(trees.tree(root, functions, arch=kernel["arch"], readme=README)))


def implied(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {probe.symbol: probe.implies for probe in plan.probes if probe.implies}


@pytest.mark.parametrize("name", [n for n, k in kernels().items() if "inlined" not in k])
def test_the_old_functions_are_the_map(tmp_path: Path, name: str):
    """If this fails, the kernels that have the race are planned for as if they had a fixmap."""
    plan = plan_of(tmp_path, name)
    assert [(s.name, s.lock, s.index) for s in plan.slots] == [
        ("vmarea:irq", "page", None),
        ("vmarea:nmi", "report", None),
    ]
    probes = {(p.symbol, p.kind): p for p in plan.probes}
    for role in ("irq", "nmi"):
        assert probes[f"ghes_ioremap_pfn_{role}", "MAP"].mechanism == "kprobe"
        assert probes[f"ghes_ioremap_pfn_{role}", "MAP_END"].fields == {"addr": Fetch("return")}
        assert (f"ghes_iounmap_{role}", "UNMAP") in probes
    assert not {"native_set_fixmap", "__set_fixmap"} & {p.symbol for p in plan.probes}
    assert "index" not in probes["ghes_copy_tofrom_phys", "COPY"].fields
    assert "stale" not in plan.not_checked


def test_maps_without_a_frame_are_not_checked(tmp_path: Path):
    """If this fails, a compiler that changed a map's arguments makes all frames one: clean."""
    kernel = kernels()["linux-4_8"]
    renamed = [n.replace("ioremap_pfn_irq", "ioremap_pfn_irq.isra.0") for n in kernel["functions"]]
    functions = ("_text", "register_kprobe", *renamed)
    plan = resolve(read_facts(trees.tree(tmp_path, functions, readme=README)))
    assert "ghes_ioremap_pfn_irq.isra.0" in plan.not_checked["stale"]
    assert "overlap" not in plan.not_checked


def test_who_invalidates_at_the_unmap(tmp_path: Path):
    """If this fails, x86's local flush passes for a broadcast, or arm64's broadcast for none."""
    first = implied(plan_of(tmp_path / "1", "linux-3_1"))
    assert first["ghes_iounmap_irq"] == ("page-after-clear",)
    second = plan_of(tmp_path / "2", "linux-4_8")
    assert "ghes_iounmap_irq" not in implied(second)
    flush = next(p for p in second.probes if p.point == "apei-flush")
    assert (flush.symbol, flush.kind) == ("arch_apei_flush_tlb_one", "INV_PAGE")
    assert body(second, flush) == "arch_apei_flush_tlb_one addr=%di:x64"
    arm64 = implied(plan_of(tmp_path / "3", "linux-4_13-arm64"))
    assert arm64["ghes_iounmap_irq"] == ("broadcast-after-clear",)
    assert arm64["ghes_iounmap_nmi"] == ("broadcast-after-clear",)


@pytest.mark.parametrize("name", [n for n, k in kernels().items() if "inlined" in k])
def test_inlined_functions_are_refused_by_name(tmp_path: Path, name: str):
    """If this fails, a kernel with the race is watched through a setter that it does not call:
    nothing would ever be found."""
    with pytest.raises(HostError) as caught:
        plan_of(tmp_path, name)
    for function in kernels()[name]["inlined"]:
        assert f"no {function}: not in this kernel, or inlined" in caught.value.what
    assert PAGE.name in caught.value.hint


def trace(frames: int) -> str:
    """What the page's probes print of reports on two CPUs in turn."""
    page, lines = 0xFFFFC90000008000, []
    for n in range(6):
        frame = 0x70000000 + 0x1000 * (n % frames)
        texts = [
            f"copy: (ghes_copy_tofrom_phys+0x0/0x2a0) phys={frame:#x} size=20 from_phys=1",
            f"map: (ioremap_page_range+0x0/0x30) addr={page:#x} phys={frame:#x}",
            f"unmap: (unmap_kernel_range_noflush+0x0/0x20) addr={page:#x}",
            f"flush: (arch_apei_flush_tlb_one+0x0/0x10) addr={page:#x}",
            "copied: (ghes_read_estatus+0x5a/0x100 <- ghes_copy_tofrom_phys)",
        ]
        lines += [line(n % 2, 1_000_000 + 1000 * n + 10 * k, t) for k, t in enumerate(texts)]
    head = f"# tracer: nop\n# entries-in-buffer/entries-written: {len(lines)}/{len(lines)}   #P:2\n"
    return head + "".join(lines)


def judged(folder: Path, text: str, *, mapped: bool = True) -> Report:
    folder.mkdir()
    (folder / "old.txt").write_text(text)
    found = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    (folder / "old.toml").write_text(found.group(1))
    return judge_source(open_file(folder / "old.txt", folder / "old.toml" if mapped else None))


def test_the_pages_recipe_finds_the_race(tmp_path: Path):
    """If this fails, whoever follows the page on an old kernel is told nonsense."""
    race = judged(tmp_path / "a", trace(frames=3))
    assert (race.verdict, race.slots[0].episodes, race.events) == (Verdict.OBSERVED, 6, 30)
    harmless = judged(tmp_path / "b", trace(frames=1))
    assert harmless.verdict < Verdict.PREDICTED
    assert harmless.slots[0].classes[Class.SAME_FRAME] >= 4


def test_the_pages_recipe_for_the_fixmap(tmp_path: Path):
    """If this fails, a kernel of 4.15 to 5.0 is told to have the race, or to have no traffic."""
    lines = []
    for n in range(6):
        for k, (phys, flags) in enumerate(((0x70000000 + 0x1000 * (n % 3), 0x163), (0, 0))):
            text = f"set: (native_set_fixmap+0x0/0x30) idx=644 phys={phys:#x} flags={flags:#x}"
            lines.append(line(n % 2, 1_000_000 + 1000 * n + 10 * k, text))
    head = "# tracer: nop\n# entries-in-buffer/entries-written: 12/12   #P:2\n"
    report = judged(tmp_path / "a", head + "".join(lines), mapped=False)
    assert report.verdict < Verdict.PREDICTED
    assert report.slots[0].classes[Class.MAP_FLUSH] >= 4


def test_the_page_probes_what_the_sources_have():
    """If this fails, the page names a function that those kernels lack."""
    text = PAGE.read_text().partition("## 4.15 to 5.0")
    found = [set(re.findall(r"^    [pr]:old/\w+ (\w+)", part, re.MULTILINE)) for part in text]
    before, _, since = found
    assert len(before) == 5
    assert before <= set(kernels()["linux-4_13-inlined"]["functions"])
    assert since == {"native_set_fixmap", "__set_fixmap"}
    assert "native_set_fixmap" in kernels()["linux-4_18-inlined"]["functions"]


@pytest.mark.parametrize(
    ("lacks", "hexadecimal", "begins"),
    [
        (("x8/16/32/64", "r[maxactive]"), False, "r:g/e "),  # before 4.9
        (("r[maxactive]",), True, "r:g/e "),  # before 4.12
        ((), True, "r64:g/e "),
    ],
)
def test_a_plan_has_no_word_that_its_kernel_does_not_know(
    tmp_path: Path, lacks: tuple[str, ...], hexadecimal: bool, begins: str
) -> None:
    """The kernel refuses a type that it does not know, and takes a number for no name."""
    readme = README
    for words in lacks:
        assert words in readme
        readme = readme.replace(words, "")
    names = ("_text", "register_kprobe", *kernels()["linux-4_8"]["functions"])
    plan = resolve(read_facts(trees.tree(tmp_path, names, arch="x86_64", readme=readme)))
    probes = [probe for probe in plan.probes if probe.mechanism != "tracepoint"]
    fetched = " ".join(body(plan, probe) for probe in probes)
    assert (":x64" in fetched, ":u64" in fetched) == (hexadecimal, True)
    returning = Probe("e", "COPY_END", "f", "kretprobe", {})
    assert definition(plan, returning, "g", "e").startswith(begins)


@pytest.mark.parametrize(
    ("copies", "taken"),
    [
        (("ghes_notify_nmi.constprop.0", "ghes_notify_nmi.constprop.1"), None),
        (("ghes_notify_nmi", "ghes_notify_nmi.constprop.0"), None),
        (("ghes_notify_nmi.constprop.0",), "ghes_notify_nmi.constprop.0"),
        (("ghes_notify_nmi.lto_priv.0",), "ghes_notify_nmi.lto_priv.0"),
        (("ghes_notify_nmi.llvm.77",), "ghes_notify_nmi.llvm.77"),
        (("ghes_notify_nmi.cold.7", "ghes_notify_nmi"), "ghes_notify_nmi"),
    ],
)
def test_of_two_copies_none_is_taken(
    tmp_path: Path, copies: tuple[str, ...], taken: str | None
) -> None:
    """What the other copy did would be missing, and nothing would say so."""
    functions = [f for f in kernels()["linux-4_8"]["functions"] if f != "ghes_notify_nmi"]
    names = ("_text", "register_kprobe", *functions, *copies)
    plan = resolve(read_facts(trees.tree(tmp_path, names, arch="x86_64", readme=README)))
    used = [p.symbol for p in plan.probes if p.symbol.startswith("ghes_notify_nmi")]
    assert set(used) == ({taken} if taken else set())
    if taken is None:
        assert any("copies" in u.why and copies[-1] in u.why for u in plan.unseen)
