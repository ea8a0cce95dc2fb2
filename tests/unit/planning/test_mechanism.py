# SPDX-License-Identifier: Apache-2.0
"""Which mechanism hooks what, for BPF; ftrace's choices are in test_resolve.py."""

from __future__ import annotations

from pathlib import Path

from ghesrace.host.facts import read_facts
from ghesrace.plan import Plan
from ghesrace.planning.resolve import resolve
from ghesrace.render.plan import render_plan_text
from tests.build import trees

IPI = "smp_call_function_many_cond"


def plan_of(root: Path, functions=trees.X86_BPF, **host) -> Plan:
    host.setdefault("vmlinux_btf", trees.x86_bpf_btf())
    return resolve(read_facts(trees.tree(root, functions, **host)), backend="bpf")


def by(plan: Plan) -> dict[str, set[str]]:
    """Mechanism -> the symbols that it hooks."""
    found: dict[str, set[str]] = {}
    for probe in plan.probes:
        found.setdefault(probe.mechanism, set()).add(probe.symbol)
    return found


def why(plan: Plan, symbol: str) -> str:
    return next(probe.why for probe in plan.probes if probe.symbol == symbol)


def test_trampolines_serve_everything_where_they_can(tmp_path: Path):
    """If this fails, BPF uses kprobes, which lose an NMI to any other BPF program."""
    plan = plan_of(tmp_path)
    found = by(plan)
    # A trampoline can't tell whether interrupts are off, which is all that matters there.
    assert found.pop("kprobe") == {IPI}
    assert set(found) == {"fentry", "fexit", "raw-tracepoint"}
    assert found["raw-tracepoint"] == {"nmi:nmi_handler"}
    assert {"native_set_fixmap", "flush_tlb_one_kernel", "ghes_notify_nmi"} <= found["fentry"]
    assert found["fexit"] >= {"ghes_copy_tofrom_phys", "ghes_notify_nmi"}
    assert plan.backend == "bpf"
    assert "native_set_fixmap (fentry)" in render_plan_text(plan)


def test_the_same_points_as_with_ftrace(tmp_path: Path):
    """If this fails, the two backends don't see the same events."""
    facts = read_facts(trees.tree(tmp_path, trees.X86_BPF, vmlinux_btf=trees.x86_bpf_btf()))
    bpf, ftrace = resolve(facts, backend="bpf"), resolve(facts)
    assert [(p.point, p.kind) for p in bpf.probes] == [(p.point, p.kind) for p in ftrace.probes]
    assert bpf.unseen == ftrace.unseen


def test_a_struct_by_value_needs_a_kernel_that_passes_it(tmp_path: Path):
    """If this fails, the program for the setter (pgprot_t) is refused on 5.10."""
    plan = plan_of(tmp_path, vmlinux_btf=trees.x86_bpf_btf(struct_args=False))
    maps = {"vmap_range_noflush", "__vmap_pages_range_noflush"}  # they take one too
    assert by(plan)["kprobe"] == {"native_set_fixmap", IPI, *maps}
    assert "not fentry: this kernel's trampolines take no struct" in why(plan, "native_set_fixmap")


def test_pointers_need_the_helper(tmp_path: Path):
    """If this fails, programs that read a pointer argument are refused before 5.17."""
    functions = tuple(f for f in trees.X86_BPF if f != "get_func_arg")
    found = by(plan_of(tmp_path, functions))
    assert "memcpy_fromio" in found["kprobe"]
    assert "flush_tlb_one_kernel" in found["fentry"]


def test_what_btf_does_not_have_gets_a_kprobe(tmp_path: Path):
    """If this fails, one static function that BTF lacks makes the whole plan fail to load."""
    plan = plan_of(tmp_path, vmlinux_btf=trees.x86_bpf_btf(without=("memcpy_toio",)))
    assert by(plan)["kprobe"] == {"memcpy_toio", IPI}
    assert "BTF has no memcpy_toio" in why(plan, "memcpy_toio")


def test_no_trampolines_no_fentry(tmp_path: Path):
    """If this fails, a plan for arm64 before 6.12 can't be loaded."""
    plan = plan_of(tmp_path, trees.X86_GHES)
    assert set(by(plan)) == {"kprobe", "kretprobe", "raw-tracepoint"}


def test_a_modules_functions_get_kprobes(tmp_path: Path):
    """If this fails, vmlinux's function of the same name is traced in their place."""
    plan = plan_of(tmp_path, modules={"ghes2015": trees.VMAREA})
    assert {s.partition(":")[0] for s in by(plan)["kprobe"]} == {"ghes2015", IPI}
    # By its name, though the module has it too: a trampoline knows no offsets.
    assert {"native_set_fixmap", "ghes_copy_tofrom_phys"} <= by(plan)["fentry"]


def test_arrays_that_nobody_can_map_are_no_transport(tmp_path: Path):
    """If this fails, 5.4 is refused, or its plan hides what it costs."""
    assert plan_of(tmp_path).transport == "mapped"
    plan = plan_of(tmp_path, trees.X86_GHES)
    assert plan.transport == "perf"
    assert set(by(plan)) == {"kprobe", "kretprobe", "raw-tracepoint"}
    assert "through a perf event array" in " ".join(render_plan_text(plan).split())
    assert Plan.from_dict(plan.to_dict()) == plan
