# SPDX-License-Identifier: Apache-2.0
"""What no probe shows on a host is named, and what it leaves unchecked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ghesrace.host.facts import read_facts
from ghesrace.plan import Plan
from ghesrace.planning.resolve import resolve
from tests.build import trees
from tests.build.plans import plan_of, unseen


def test_one_cpu_is_named(tmp_path: Path):
    """If this fails, "clean" on a host of one CPU is taken for a word about the kernel."""
    facts = read_facts(trees.tree(tmp_path, trees.X86_GHES, vmlinux_btf=trees.x86_btf()))
    alone, two = (resolve(replace(facts, cpus=cpus)) for cpus in ((0,), (0, 1)))
    assert "hand-offs between CPUs: one CPU is online" in unseen(alone)
    assert "hand-offs between CPUs" not in unseen(two)


def test_what_no_probe_can_see_is_not_checked(tmp_path: Path, arm64: Plan):
    """A pattern without a single probe point would look as if it had been watched."""
    assert arm64.not_checked == {
        "shootdown": "there are none: TLBI invalidates other CPUs without their help"
    }
    plan = plan_of(tmp_path / "x", trees.X86_GHES[:-5], vmlinux_btf=trees.x86_btf())
    assert set(plan.not_checked) == {"torn_edit", "shootdown"}
    assert "no smp_call_function_many_cond" in plan.not_checked["shootdown"]


def test_hazards_of_kprobes_are_named(arm64: Plan, x86: Plan):
    """Whoever attaches must know what a BRK in the wrong place does."""
    assert "single-steps" in unseen(arm64)
    assert "single-steps" not in unseen(x86)


def test_a_kvm_guest_of_arm64_is_told(tmp_path: Path, arm64: Plan):
    """A local TLBI that the hypervisor spreads would be taken for enough."""
    host = {"arch": "arm64", "vmlinux_btf": trees.arm64_btf()}
    root = trees.tree(tmp_path / "kvm", trees.ARM64_GHES, **host)
    trees.write_files(root, {"sys/class/dmi/id/product_name": "KVM Virtual Machine\n"})
    plan = resolve(read_facts(root))
    assert plan.forced_broadcast
    assert "HCR_EL2.FB" in unseen(plan)
    assert not arm64.forced_broadcast
