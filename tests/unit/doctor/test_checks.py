# SPDX-License-Identifier: Apache-2.0
"""The doctor's answers on hosts that can, can partly, and can't run a capture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ghesrace.doctor import checks as doctor
from ghesrace.errors import HostError
from ghesrace.host.clocks import Comparison
from ghesrace.host.code import Blocks
from tests.build import trees
from tests.build.hosts import Willing, checks


def test_healthy_host(healthy: Path):
    """A host that can capture would be told that it can't, or no probe really be tried."""
    attempts = Willing()
    found = checks(healthy, attempts)
    assert attempts.tried == ["instance", "p native_set_fixmap"]
    assert {n for n, c in found.items() if c.state == "missing"} == {"kernel headers"}
    assert "0 NMI" in found["HEST"].found
    assert doctor.exit_code(found.values()) == 0


def test_no_kprobes_and_no_apei(tmp_path: Path):
    """On the kernel of a micro-VM it must say exactly these two things, and exit 3."""
    root = trees.tree(tmp_path, ["flush_tlb_all"], kprobes=False, vmlinux_btf=trees.x86_btf())
    found = checks(root)
    assert found["kprobe events"].state == "missing"
    assert "this kernel has no kprobes" in found["kprobe events"].found
    assert found["GHES driver"].state == "missing"
    assert "no ACPI APEI GHES code" in found["GHES driver"].found
    assert found["tracefs"].state == "ok"
    assert doctor.exit_code(found.values()) == 3


def test_a_kernel_without_kprobes_can_be_watched_by_bpf(tmp_path: Path):
    """If this fails, the doctor says that no capture can run where `capture` runs, by BPF; or that
    one can where BPF lacks its compiler."""
    root = trees.tree(tmp_path, trees.X86_BPF, kprobes=False, vmlinux_btf=trees.x86_bpf_btf())
    trees.write_files(root, {"lib/modules/6.1.0-test/build/Makefile": ""})
    found = checks(root)
    assert (found["kprobe events"].state, found["kprobe events"].needed) == ("degraded", False)
    assert "BPF trampolines serve" in found["kprobe events"].meaning
    assert found["plan"].state != "missing"
    assert "the plan's probes" not in found
    assert doctor.exit_code(found.values()) == 0
    (root / "lib/modules/6.1.0-test/build/Makefile").unlink()
    (root / "lib/modules/6.1.0-test/build").rmdir()
    found = checks(root, Willing(refusal="no"))
    for name in ("BPF load", "bcc", "kernel headers"):
        assert (found[name].state, found[name].needed) == ("missing", True)
        assert "ftrace can't watch this kernel" in found[name].meaning
    assert doctor.exit_code(found.values()) == 3


def test_kprobes_are_not_denied_when_only_the_mount_is_missing(tmp_path: Path):
    """The user would be sent to build a kernel when a mount is all that is missing."""
    found = checks(trees.tree(tmp_path, vmlinux_btf=trees.x86_btf(), tracefs=False))
    assert "mount -t tracefs" in found["tracefs"].remedy
    assert "the kernel has kprobes" in found["kprobe events"].found
    assert "tracefs is not mounted" in found["plan"].found
    assert doctor.exit_code(found.values()) == 3


def test_no_btf(tmp_path: Path):
    """Without BTF a capture runs: exit 0, but said to be degraded."""
    found = checks(trees.tree(tmp_path))
    assert found["BTF"].state == "degraded"
    assert found["BTF"].meaning.startswith("no BPF backend; ")
    assert found["HEST"].state == "degraded"
    assert doctor.exit_code(found.values()) == 0


def test_what_would_let_more_be_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """If this fails, a user who is root is told to be root, where it is BTF that is missing."""
    read = doctor.read_facts
    assert "CAP_SYS_RAWIO" in checks(trees.tree(tmp_path / "a"))["implications"].remedy
    monkeypatch.setattr(doctor, "read_facts", lambda root: replace(read(root), code=Blocks({})))
    assert "DEBUG_INFO_BTF" in checks(trees.tree(tmp_path / "b"))["implications"].remedy
    whole = trees.tree(tmp_path / "c", vmlinux_btf=trees.x86_btf())
    assert checks(whole)["implications"].remedy == ""


def test_refusals_are_reported(healthy: Path):
    """A kernel that refuses one probe, or BPF, would look healthy until the capture fails."""
    found = checks(healthy, Willing(refusal="Invalid argument"))
    assert "flush_tlb_all: Invalid argument" in found["the plan's probes"].found
    assert doctor.exit_code(found.values()) == 3
    assert (found["BPF load"].state, found["bcc"].state) == ("missing", "missing")
    assert not found["BPF load"].needed


def test_a_kernel_that_refuses_kprobes(healthy: Path):
    """Under lockdown the file exists and every write to it fails."""

    class Locked(Willing):
        def probe(self, root: Path, letter: str, symbol: str) -> None:
            raise HostError("can't write 'p:g/e kfree': Operation not permitted", "see lockdown")

    found = checks(healthy, Locked())
    assert (found["kprobe events"].state, found["kprobe events"].remedy) == (
        "missing",
        "see lockdown",
    )
    assert doctor.exit_code(found.values()) == 3


@pytest.mark.parametrize(
    ("comparison", "state", "words"),
    [
        (Comparison(300, 0), "ok", "at most 300 ns"),
        (Comparison(5_000_000, 0), "ok", "1000 ns are assumed"),
        (Comparison(5_000_000, 4_000), "degraded", "contradict each other by 4000 ns"),
    ],
)
def test_clock_error(healthy: Path, comparison: Comparison, state: str, words: str):
    """Clocks that contradict each other would pass, or a busy host be called broken."""
    found = checks(healthy, Willing(comparison))["clock error"]
    assert found.state == state
    assert words in found.found


def test_a_folder_that_is_not_there(healthy: Path):
    """A capture would record for hours and then have nowhere to go."""
    found = {c.name: c for c in doctor.run(healthy, healthy / "nowhere", Willing())}
    assert found["free space"].state == "missing"
    assert doctor.exit_code(found.values()) == 3
