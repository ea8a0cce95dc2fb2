# SPDX-License-Identifier: Apache-2.0
"""Facts in, a plan out, on made-up hosts of every kind that the probe files know."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.errors import HostError
from ghesrace.host.facts import read_facts
from ghesrace.plan import Fetch, FieldOf, Plan
from ghesrace.planning.resolve import resolve
from ghesrace.sources.tracefs_text import body, condition
from lab.firmware import hest as firmware
from tests.build import trees
from tests.build.plans import names, one, plan_of, unseen

FPROBES = "\t           f[:[<group>/][<event>]] <func-name>[%return] [<args>]\n"


def test_x86_setter(x86: Plan):
    """Maps and unmaps would not be told apart, or the flush inside be counted twice."""
    setter = one(x86, "fixmap-set")
    assert (setter.symbol, setter.kind, setter.clear_kind) == ("native_set_fixmap", "MAP", "UNMAP")
    assert condition(setter) == "index == 644 || index == 645"
    assert setter.implies == ("flush-inside",)
    assert "not __native_set_fixmap" in setter.why
    assert not x86.not_checked


def test_implied_flush_where_none_can_be_probed(tmp_path: Path):
    """The setter's own flush would be taken as absent: every hand-off a false race."""
    rest = [name for name in trees.X86_GHES if "flush_tlb_one" not in name]
    setter = one(plan_of(tmp_path, rest, vmlinux_btf=trees.x86_btf()), "fixmap-set")
    assert setter.implies == ("page-after-set", "page-after-clear")


def test_xen_pv_uses_its_own_setter(tmp_path: Path):
    """On Xen PV native_set_fixmap is there but never called."""
    root = trees.tree(tmp_path, vmlinux_btf=trees.x86_btf())
    trees.write_files(root, {"sys/hypervisor/guest_type": "PV\n"})
    assert one(resolve(read_facts(root)), "fixmap-set").symbol == "xen_set_fixmap"


def test_module_with_its_own_vm_area_beside_vmlinux(tmp_path: Path):
    """The control module would not be watched, or instead of vmlinux; names that are in both
    would be refused by the kernel (EADDRNOTAVAIL); or "clean" would hide what it assumes."""
    plan = plan_of(tmp_path, modules={"ghes2015": trees.VMAREA}, vmlinux_btf=trees.x86_btf())
    assert {(s.name, s.family, s.lock) for s in plan.slots} == {
        ("ghes2015:irq", "vmarea", "page"),
        ("ghes2015:nmi", "vmarea", "report"),
        ("GHES_IRQ", "fixmap", "report"),
        ("GHES_NMI", "fixmap", "report"),
    }
    slot = [s.name for s in plan.slots].index("ghes2015:irq")
    back = one(plan, "vmarea-map-irq", "MAP_END")
    assert (back.symbol, back.mechanism) == ("ghes2015:ghes_ioremap_pfn_irq", "kretprobe")
    assert (back.fields, back.slot) == ({"addr": Fetch("return")}, slot)
    assert one(plan, "vmarea-unmap-irq").fields == {"addr": Fetch(1)}
    assert one(plan, "vmarea-unmap-irq").implies == ()
    assert one(plan, "apei-flush").symbol == "ghes2015:arch_apei_flush_tlb_one"
    copies = {p.symbol: p for p in plan.probes if p.point == "copy" and p.kind == "COPY"}
    order = [u.slots for u in plan.unseen if "order inside" in u.what]
    assert order == [("ghes2015:irq", "ghes2015:nmi")]
    offset = trees.X86_GHES.index("ghes_copy_tofrom_phys") * 0x1000
    assert set(copies) == {f"_text+{offset:#x}", "ghes2015:ghes_copy_tofrom_phys"}
    assert "index" not in copies["ghes2015:ghes_copy_tofrom_phys"].fields
    # No filter may drop an invalidation of pages whose address is not known yet.
    assert one(plan, "inv-page").filter is None
    reference = one(plan, "nmi-reference")
    assert reference.fields["handler"] == FieldOf("handler")
    assert (condition(reference) or "").count("handler == 0x") == 2


def test_module_that_inlines_its_flush(tmp_path: Path):
    """vmlinux's flush, which a module can't call, would pass for the module's own: its unmap
    would not flush, and a CPU's own older page be taken for a race."""
    functions = [name for name in trees.VMAREA if name != "arch_apei_flush_tlb_one"]
    plan = plan_of(tmp_path, modules={"m": functions}, vmlinux_btf=trees.x86_btf())
    assert "inv-page" in names(plan)
    assert one(plan, "vmarea-unmap-irq").implies == ("page-after-clear",)
    assert [u.slots for u in plan.unseen if "inlined" in u.what] == [("m:irq", "m:nmi")]


def test_old_vmlinux(tmp_path: Path):
    """Before 4.15 the setter, which exists but is not on the path, would be taken for the map."""
    functions = [*trees.VMAREA, "register_kprobe", "native_set_fixmap", "flush_tlb_all"]
    plan = plan_of(tmp_path, functions)
    assert [s.name for s in plan.slots] == ["vmarea:irq", "vmarea:nmi"]
    assert "fixmap-set" not in names(plan)
    assert one(plan, "vmarea-unmap-nmi").implies == ()


def test_older_vmlinux_flushes_inline(tmp_path: Path):
    """Before 3.18 the unmap's INVLPG has no symbol: it would be taken as absent."""
    functions = [name for name in trees.VMAREA if name != "arch_apei_flush_tlb_one"]
    unmap = one(plan_of(tmp_path, [*functions, "register_kprobe"]), "vmarea-unmap-irq")
    assert unmap.implies == ("page-after-clear",)
    assert unmap.fields == {}


def test_unmap_that_cannot_be_seen(tmp_path: Path):
    """A stale verdict would be given on maps alone."""
    functions = [name for name in trees.VMAREA if "iounmap" not in name]
    plan = plan_of(tmp_path, [*functions, "register_kprobe"])
    assert "ghes_iounmap_irq" in plan.not_checked["stale"]
    assert [u.slots for u in plan.unseen if u.what == "unmapping of the irq page"] == [
        ("vmarea:irq",)
    ]


def test_arm64_clear_is_a_broadcast(arm64: Plan):
    """Each unmap would look local only: false races on every arm64 host."""
    setter = one(arm64, "fixmap-set")
    assert (setter.symbol, setter.implies) == ("__set_fixmap", ("broadcast-after-clear",))
    assert [(s.name, s.index, s.address) for s in arm64.slots] == [
        ("GHES_IRQ", 1027, None),
        ("GHES_SEA", 1028, None),
    ]
    assert arm64.slots[one(arm64, "notify-sea").slot or 0].name == "GHES_SEA"
    assert "TLBI is an inline instruction" in unseen(arm64)


def test_no_kprobe_in_an_sdei_handler(tmp_path: Path):
    """A BRK inside an SDEI handler can kill the machine."""
    table = bytearray(firmware.table(firmware.place()))
    table[40 + 32] = 11
    with pytest.raises(HostError, match="SDEI"):
        plan_of(
            tmp_path,
            trees.ARM64_GHES,
            arch="arm64",
            vmlinux_btf=trees.arm64_btf(),
            hest=bytes(table),
        )


def test_a_local_invalidation_of_arm64_is_not_taken_for_the_broadcast(tmp_path: Path):
    """The control's unmap would be clean: no kernel's arm64 code ever unmapped without a broadcast,
    so one is taken for granted where the module shows no invalidation of its own."""

    def unmap_of(name: str, *functions: str) -> Plan:
        return plan_of(
            tmp_path / name,
            trees.ARM64_GHES,
            arch="arm64",
            vmlinux_btf=trees.arm64_btf(),
            modules={"m": (*(f for f in trees.VMAREA if "flush" not in f), *functions)},
        )

    inline = unmap_of("inline")
    assert one(inline, "vmarea-unmap-irq").implies == ("broadcast-after-clear",)
    assert "no flush function" in unseen(inline)
    local = unmap_of("local", "ghes2015_flush_tlb_one_local")
    assert one(local, "vmarea-unmap-irq").implies == ()
    assert one(local, "apei-flush-local").kind == "INV_PAGE"
    assert "no flush function" not in unseen(local)
    both = unmap_of("both", "ghes2015_flush_tlb_one_local", "arch_apei_flush_tlb_one")
    assert one(both, "vmarea-unmap-irq").implies == ()
    assert one(both, "apei-flush-broadcast").kind == "BCAST_RANGE"
    assert "no flush function" not in unseen(both)  # its map may allocate, which is no flush


def test_fprobes_where_the_kernel_has_them(tmp_path: Path):
    """NMIs that interrupt a probe handler would be missed on kernels that can do better."""
    readme = trees.README + FPROBES
    plan = plan_of(
        tmp_path, readme=readme, modules={"m": trees.VMAREA}, vmlinux_btf=trees.x86_btf()
    )
    assert one(plan, "fixmap-set").mechanism == "fprobe"
    assert one(plan, "broadcast-all", "BCAST_END").mechanism == "fretprobe"
    assert one(plan, "copy").mechanism == "kprobe"  # its name is in the module too
    assert one(plan, "vmarea-map-irq").mechanism == "kprobe"
    assert "fprobes that the kernel may have skipped" in unseen(plan)  # nothing counts those


def test_pti_is_told(tmp_path: Path, x86: Plan):
    """Without global pages a CR3 write may save an episode: `none` would be too sure."""
    plan = plan_of(tmp_path / "pti", vmlinux_btf=trees.x86_btf(), flags="fpu pti")
    assert plan.pti
    assert "CR3 writes" in unseen(plan)
    assert not x86.pti


def test_hidden_addresses(tmp_path: Path):
    """`handler == 0` would match nothing: every missed NMI would go unnoticed, unsaid."""
    plan = plan_of(tmp_path, vmlinux_btf=trees.x86_btf(), hidden=True)
    assert "nmi-reference" not in names(plan)
    assert "kptr_restrict" in unseen(plan)


def test_no_second_count_of_a_full_flush(x86: Plan, tmp_path: Path):
    """One flush would be recorded three times, or, without the innermost function, never."""
    assert [p.symbol for p in x86.probes if p.kind == "INV_ALL"] == ["native_flush_tlb_global"]
    rest = [name for name in trees.X86_GHES if name != "native_flush_tlb_global"]
    plan = plan_of(tmp_path / "without", rest, vmlinux_btf=trees.x86_btf())
    found = {p.symbol for p in plan.probes if p.kind == "INV_ALL"}
    assert found == {"do_flush_tlb_all", "__flush_tlb_all"}


def test_registers_where_there_is_no_arg(tmp_path: Path):
    """Before 4.20 tracefs refuses $argN: nothing could be attached."""
    readme = trees.README.replace("$arg<N>", "")
    plan = plan_of(tmp_path, readme=readme, vmlinux_btf=trees.x86_btf())
    setter = one(plan, "fixmap-set")
    assert setter.fields["phys"] == Fetch(2)
    assert body(plan, setter) == "native_set_fixmap index=%di:u32 phys=%si:x64 prot=%dx:x64"


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"kprobes": False}, "no kprobe events"),
        ({"functions": ["register_kprobe"]}, "no ACPI APEI GHES code"),
        ({"tracefs": False}, "tracefs is not mounted"),
    ],
)
def test_hosts_without_a_slot(tmp_path: Path, host, words: str):
    """`plan` would print an empty plan with exit 0, or not say what is missing."""
    with pytest.raises(HostError, match=words) as caught:
        plan_of(tmp_path, vmlinux_btf=trees.x86_btf(), **host)
    assert caught.value.exit_code == 3


def test_plan_survives_json(x86: Plan):
    """A capture's plan could not be read back."""
    assert Plan.from_dict(x86.to_dict()) == x86
