# SPDX-License-Identifier: Apache-2.0
"""Of the symbols that could serve a point, the one that this kernel has."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.host.facts import read_facts
from ghesrace.plan import Plan
from ghesrace.planning import implications
from ghesrace.planning.implied.judge import Answer
from ghesrace.planning.resolve import resolve
from ghesrace.points import families
from tests.build import trees
from tests.build.plans import names, one, plan_of, unseen


def test_suffixed_symbols(tmp_path: Path):
    """Arguments that the compiler moved would be fetched, or the function not be probed at all."""
    changed = {
        "ghes_proc": "ghes_proc.isra.0",
        "do_kernel_range_flush": "do_kernel_range_flush.part.0",
    }
    functions = [changed.get(name, name) for name in trees.X86_GHES]
    plan = plan_of(tmp_path, functions, vmlinux_btf=trees.x86_btf())
    proc = one(plan, "notify-proc")
    assert (proc.symbol, proc.fields) == ("ghes_proc.isra.0", {})
    assert "inv-range" not in names(plan)
    assert "do_kernel_range_flush.part.0" in unseen(plan)


def test_functions_that_ftrace_cannot_hook(tmp_path: Path):
    """Attaching would fail at run time instead of being planned around."""
    plan = plan_of(tmp_path, vmlinux_btf=trees.x86_btf(), not_traceable=["memcpy_fromio"])
    assert "read" not in names(plan)
    assert "ftrace cannot hook memcpy_fromio" in unseen(plan)


def test_blacklisted_functions(tmp_path: Path):
    """Attaching would fail at run time instead of being planned around."""
    root = trees.tree(tmp_path, vmlinux_btf=trees.x86_btf())
    blacklist = "0xffffffff9e200990-0xffffffff9e2009b0\tflush_tlb_all\n"
    trees.write_files(root, {"sys/kernel/debug/kprobes/blacklist": blacklist})
    assert "broadcast-all" not in names(resolve(read_facts(root)))


def test_the_status_words_window_needs_its_member(tmp_path: Path):
    """Kernels whose handlers read no mapped status word have no such window."""
    functions = (*trees.X86_GHES, "ghes_remove")
    before = plan_of(tmp_path / "6", functions, vmlinux_btf=trees.x86_btf())
    assert "edit-status" not in names(before)
    btf = trees.x86_btf(structs={"ghes": {"error_status_vaddr": 64}})
    probe = one(plan_of(tmp_path / "7", functions, vmlinux_btf=btf), "edit-status", "EDIT")
    assert (probe.symbol, probe.fields) == ("ghes_remove", {})
    assert probe.implies == ("unmaps-status",)


def test_a_removal_that_unmaps_late_implies_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """If this fails, who mended the removal of a source is told of a race for ever."""
    functions = (*trees.X86_GHES, "ghes_remove")
    btf = trees.x86_btf(structs={"ghes": {"error_status_vaddr": 64}})
    late = Answer(True, 0, "call iounmap lies behind synchronize_rcu")
    monkeypatch.setattr(implications, "called_late", lambda *_: late)
    plan = plan_of(tmp_path, functions, vmlinux_btf=btf)
    probe = one(plan, "edit-status", "EDIT")
    assert probe.implies == ()
    assert probe.why.endswith(f"; not on this kernel: {late.text}")


def test_symbols_not_on_the_path_are_never_probed(x86: Plan):
    """A probe would attach and never fire: an invalidation that is there would look absent."""
    never = {n.symbol for family in families() for n in family.never}
    assert never.isdisjoint(p.symbol for p in x86.probes)
    candidates = {c.symbol for f in families() for p in f.points for c in p.candidates}
    assert never.isdisjoint(candidates)
