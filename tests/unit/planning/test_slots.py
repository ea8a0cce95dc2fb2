# SPDX-License-Identifier: Apache-2.0
"""Where the slots are, and which of their page tables an edit is asked about."""

from __future__ import annotations

from pathlib import Path

from ghesrace.plan import Compare, Fetch, Plan
from ghesrace.sources.tracefs_text import condition
from tests.build import trees
from tests.build.plans import names, one, plan_of, unseen


def test_x86_slots(x86: Plan):
    """Reads and flushes would be matched to the wrong addresses (6.1: kernel-facts' image)."""
    found = {s.name: (s.index, s.address, s.lock) for s in x86.slots}
    assert found == {
        "GHES_IRQ": (644, 0xFFFFFFFFFF57B000, "report"),
        "GHES_NMI": (645, 0xFFFFFFFFFF57A000, "report"),
    }


def test_copy_without_an_index_argument(tmp_path: Path):
    """Linux 4.15 to 5.0: a fifth argument would be fetched that is not there, and the IRQ slot's
    lock is one page."""
    plan = plan_of(tmp_path, vmlinux_btf=trees.x86_btf(trees.COPY_5[:4]))
    assert "index" not in one(plan, "copy").fields
    assert {s.name: s.lock for s in plan.slots} == {"GHES_IRQ": "page", "GHES_NMI": "report"}


def test_without_btf_the_copy_names_the_slots(tmp_path: Path):
    """Without BTF nothing could be planned, or an index be made up."""
    plan = plan_of(tmp_path)
    assert [(s.index, s.address) for s in plan.slots] == [(None, None), (None, None)]
    assert "index" in one(plan, "copy").fields
    assert one(plan, "fixmap-set").filter is None
    assert "no BTF" in unseen(plan)


def test_two_modules(tmp_path: Path):
    """The second module's slots would be lost or merged with the first's."""
    modules = {"a": trees.VMAREA, "b": trees.VMAREA}
    plan = plan_of(tmp_path, modules=modules, vmlinux_btf=trees.x86_btf())
    assert [s.name for s in plan.slots[:4]] == ["a:irq", "a:nmi", "b:irq", "b:nmi"]
    assert {p.symbol for p in plan.probes if p.point == "apei-flush"} == {
        "a:arch_apei_flush_tlb_one",
        "b:arch_apei_flush_tlb_one",
    }


def test_edits_are_filtered_by_the_slots_page_table(x86: Plan):
    """Each vmalloc of the system would be recorded, or an edit of a slot's table would not."""
    assert {"edit-unmap", "edit-map", "edit-map-pages"} <= set(names(x86))
    for probe in (p for p in x86.probes if p.kind == "EDIT"):
        assert condition(probe) == "(addr < 0xffffffffff600000 && end > 0xffffffffff400000)"
    assert one(x86, "edit-unmap", "EDIT_END").mechanism == "kretprobe"
    assert one(x86, "edit-map", "EDIT").implies == ("may-allocate", "may-free")
    assert one(x86, "edit-unmap", "EDIT").implies == ()


def test_an_old_kernels_unmap_has_its_length_in_an_argument(tmp_path: Path):
    """A filter can't add begin and length: one that names `end` would be refused."""
    functions = [f for f in trees.X86_GHES if "vunmap_range" not in f]
    plan = plan_of(
        tmp_path, (*functions, "unmap_kernel_range_noflush"), vmlinux_btf=trees.x86_btf()
    )
    probe = one(plan, "edit-unmap", "EDIT")
    assert probe.fields["size"] == Fetch(2)
    assert probe.filter == Compare("addr", "<", 0xFFFFFFFFFF600000)


def test_no_user_address_is_recorded(x86: Plan, tmp_path: Path):
    """User pages would flood the buffer and leak into the capture."""
    assert "native_flush_tlb_one_user" not in {p.symbol for p in x86.probes}
    rest = [name for name in trees.X86_GHES if name != "flush_tlb_one_kernel"]
    plan = plan_of(tmp_path / "without", rest, vmlinux_btf=trees.x86_btf())
    flush = one(plan, "inv-page")
    assert (flush.symbol, flush.filter) == (
        "native_flush_tlb_one_user",
        Compare("addr", ">=", 0xFF00000000000000),
    )
