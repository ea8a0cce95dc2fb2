# SPDX-License-Identifier: Apache-2.0
"""The doctor's answers on hosts that can, can partly, and can't run a capture."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from ghesrace.doctor import checks as doctor
from ghesrace.doctor.attempts import Attempts
from ghesrace.doctor.text import WIDTH, print_check, print_summary
from ghesrace.errors import HostError
from ghesrace.host.clocks import Comparison
from ghesrace.plan import Plan
from lab.firmware import hest as firmware
from tests.build import trees

SOUND = Comparison(300, 0)


class Willing(Attempts):
    """A kernel that lets everything be tried: a file tree cannot."""

    def __init__(self, comparison: Comparison = SOUND, refusal: str = "") -> None:
        self.comparison = comparison
        self.refusal = refusal
        self.tried: list[str] = []

    def instance(self, root: Path) -> None:
        self.tried.append("instance")

    def probe(self, root: Path, letter: str, symbol: str) -> None:
        self.tried.append(f"{letter} {symbol}")

    def refused(self, root: Path, plan: Plan) -> dict[str, str]:
        return {"flush_tlb_all": self.refusal} if self.refusal else {}

    def bpf(self) -> None:
        if self.refusal:
            raise PermissionError(1, "Operation not permitted")

    def bcc(self) -> bool:
        return not self.refusal

    def clocks(self) -> Comparison:
        return self.comparison


def checks(root: Path, attempts: Attempts | None = None) -> dict[str, doctor.Check]:
    return {c.name: c for c in doctor.run(root, root, attempts or Willing())}


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    table = firmware.table(firmware.place())
    return trees.tree(tmp_path, vmlinux_btf=trees.x86_btf(), hest=table)


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
    assert found["HEST"].state == "degraded"
    assert doctor.exit_code(found.values()) == 0


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


def test_text(healthy: Path):
    """Lines would wrap on a terminal, or control codes end up in a log file."""
    out = io.StringIO()
    console = Console(file=out, width=200)
    for check in checks(healthy, Willing(refusal="x" * 300)).values():
        print_check(check, console)
    print_summary(False, console)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert "\x1b" not in out.getvalue()
    assert any(line.startswith("HEST") and " ok " in line for line in lines)


def test_the_running_host_is_really_tried(tmp_path: Path):
    """The real attempts would raise what is no answer, whatever the host."""
    found = list(doctor.run(output=tmp_path))
    assert {c.name for c in found} >= {"tracefs", "kprobe events", "HEST", "plan", "CPUs"}
    assert all(c.state in ("ok", "degraded", "missing") and c.found for c in found)
    assert doctor.exit_code(found) in (0, 3)
