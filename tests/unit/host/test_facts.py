# SPDX-License-Identifier: Apache-2.0
"""Facts read from made-up file trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.errors import InputError
from ghesrace.host import facts as kernel
from ghesrace.host import kallsyms
from lab.firmware import hest as firmware
from tests.build import trees


def test_facts_of_a_whole_host(tmp_path: Path):
    """The plan and the capture's metadata would describe another host."""
    table = firmware.table(firmware.place())
    root = trees.tree(
        tmp_path, vmlinux_btf=trees.x86_btf(), hest=table, modules={"m": trees.VMAREA}
    )
    (root / "proc/vmallocinfo").write_text(
        "0xffffc90000004000-0xffffc90000007000   12288 ghes_init+0x1a/0x2f [m] ioremap\n"
        "0x0000000060316335-0x00000000c27a1a11   12288 ghes_init+0x1a/0x2f ioremap\n"
        "0xffffc90000010000-0xffffc90000021000   69632 ghes_estatus_pool_init+0x2e/0x90 vmalloc\n"
    )
    trees.write_files(root, {"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"})
    facts = kernel.read_facts(root)
    assert (facts.arch, facts.release, facts.cpus) == ("x86_64", "6.1.0-test", (0, 1))
    assert facts.features == {
        "kprobe-events",
        "instances",
        "arg",
        "retval",
        "x-types",
        "maxactive",
    }
    assert facts.tracepoints == {"nmi:nmi_handler": 97}
    assert (facts.lockdown, facts.clocksource) == ("integrity", "tsc")
    assert [s.notification for s in facts.hest or ()][:1] == ["NMI"]
    # Hashed addresses (%pK) and other GHES areas are not the slots' pages.
    assert facts.areas == (kernel.Area(0xFFFFC90000004000, 0xFFFFC90000006000, "ghes_init", "m"),)
    assert set(facts.problems) == {"kprobe blacklist", "BTF of m", "kernel code"}
    host = facts.to_host()
    assert host["hest"][0]["notification"] == "NMI"
    assert host["release"] == "6.1.0-test"


def test_an_empty_tree_is_only_problems(tmp_path: Path):
    """A container without /proc or /sys would be a traceback instead of facts."""
    facts = kernel.read_facts(tmp_path)
    assert (facts.tracefs, facts.btf, facts.hest, facts.cpus) == (None, None, None, ())
    assert {"kallsyms", "BTF", "HEST", "kprobe blacklist"} <= set(facts.problems)
    assert "No such file" in facts.problems["BTF"]


def test_a_list_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """EPERM on available_filter_functions (seen on a kernel without kprobes) would crash."""

    def refuse(path: Path, wanted: object) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(kallsyms, "read_traceable", refuse)
    facts = kernel.read_facts(trees.tree(tmp_path))
    assert facts.traceable is None
    assert facts.problems["available_filter_functions"] == "Operation not permitted"


def test_damaged_btf_and_hest_are_problems(tmp_path: Path):
    """One damaged table would hide every other fact."""
    facts = kernel.read_facts(trees.tree(tmp_path, vmlinux_btf=b"\x9f\xeb", hest=b"HEST"))
    assert "no header" in facts.problems["BTF"]
    assert "no header" in facts.problems["HEST"]
    assert facts.symbols


def test_module_arity_comes_from_the_modules_btf(tmp_path: Path):
    """A module's ghes_copy_tofrom_phys would be probed with vmlinux's arguments."""
    root = trees.tree(tmp_path, vmlinux_btf=trees.x86_btf(), modules={"m": trees.VMAREA})
    facts = kernel.read_facts(root)
    arities = {s.module: facts.arity(s) for s in facts.symbols["ghes_copy_tofrom_phys"]}
    assert arities == {"": 5, "m": None}


def refusing(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted", "/proc/kcore")


@pytest.mark.parametrize(
    ("broken", "origin"), [((), "/proc/kcore"), (("Kcore",), "memory, by BPF")]
)
def test_code_comes_from_where_it_can_be_read(
    monkeypatch: pytest.MonkeyPatch, broken: tuple[str, ...], origin: str
):
    """If this fails, the daemon under its unit takes flushes on trust that it could read."""
    monkeypatch.setattr(kernel.code, "Kcore", refusing if "Kcore" in broken else lambda path: path)
    monkeypatch.setattr(kernel.code_by_bpf, "CodeByBpf", lambda: "by BPF")
    found, told = kernel._code(Path("/"))
    assert told == origin
    assert found == ("by BPF" if broken else Path("/proc/kcore"))


def test_code_that_nothing_reads_is_told_with_both_reasons(monkeypatch: pytest.MonkeyPatch):
    """If this fails, nobody learns which capability is missing."""
    monkeypatch.setattr(kernel.code, "Kcore", refusing)
    monkeypatch.setattr(kernel.code_by_bpf, "CodeByBpf", refusing)
    with pytest.raises(InputError) as caught:
        kernel._code(Path("/"))
    reason = "Operation not permitted"
    assert caught.value.what == f"/proc/kcore: {reason}; by BPF: {reason}"


def test_a_copied_tree_is_not_asked_about_this_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """If this fails, another machine's plan is made from this machine's code."""
    monkeypatch.setattr(kernel.code_by_bpf, "CodeByBpf", lambda: pytest.fail("asked"))
    assert kernel.read_facts(trees.tree(tmp_path)).code is None
