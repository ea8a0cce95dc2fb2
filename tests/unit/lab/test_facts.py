# SPDX-License-Identifier: Apache-2.0
"""How a kernel's facts are cut, planted and fetched; the kernels themselves: test_kernels.py."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ghesrace.errors import HostError, InputError
from ghesrace.host.facts import read_facts
from lab import facts
from lab.kernels import debian, kernelfile

KERNEL = sorted(facts.KERNELS.glob("6.1.*-amd64.json"))[0]


@pytest.fixture
def kernel() -> dict[str, Any]:
    return kernelfile.load(KERNEL)


@pytest.fixture
def whole(kernel: dict[str, Any], tmp_path: Path) -> Path:
    """A tree as the guest gives it, with what a plan does not ask for."""
    root = kernelfile.plant(kernel, tmp_path / "whole")
    with (root / "proc/kallsyms").open("a") as file:
        file.write("ffffffff82000000 T schedule\nffffffff82000010 d ghes_hed\n")
        file.write("ffffffffc0000000 t ghes_probe\t[einj]\n")
    (root / "proc/version").write_text("Linux version 6.1 (gcc) #1 SMP Debian 6.1 (2026)\n")
    (root / kernelfile.TRACEFS_NAMES).write_text("README\n" + "\n".join(kernel["tracefs"]))
    ids = [f"/t/events/{n.replace(':', '/')}/id:{i}" for n, i in kernel["tracepoints"].items()]
    (root / kernelfile.EVENT_IDS).write_text("\n".join(["/t/events/sched/x/id:7", *ids]) + "\n")
    return root


def test_a_cut_loses_nothing_that_a_plan_asks(kernel: dict[str, Any], whole: Path):
    """If this fails, what the unit tests plan for is not what the kernel has."""
    again = kernelfile.cut(whole, "x86_64", kernel["package"])
    ours = {"version": "", "asked": ""}
    assert {**again, **ours} == {**kernel, **ours}
    assert again["version"] == "1 SMP Debian 6.1 (2026)"


def test_the_expected_plans_are_of_the_cut_kernel(kernel: dict[str, Any], tmp_path: Path):
    """If this fails, the .plan beside a kernel was made from something else."""
    known = facts.facts_of(kernel)
    planted = read_facts(kernelfile.plant(kernel, tmp_path / "planted"))
    assert known.symbols == planted.symbols
    assert known.features == planted.features >= {"kprobe-events", "arg", "instances"}
    assert facts.plans(known) == facts.plans(planted)


def test_a_file_is_read_back_as_it_was_written(kernel: dict[str, Any], tmp_path: Path):
    """If this fails, a fact changes on its way through the file."""
    kernelfile.save(kernel, tmp_path / "k.json")
    assert kernelfile.load(tmp_path / "k.json") == kernel
    assert (tmp_path / "k.json").read_text() == KERNEL.read_text()
    (tmp_path / "k.json").write_text("[]")
    with pytest.raises(InputError, match=r"k\.json"):
        kernelfile.load(tmp_path / "k.json")


def test_a_name_that_nobody_asked_for_is_not_known_to_be_absent(kernel: dict[str, Any]):
    """If this fails, a new candidate in probes/ is planned for as if every kernel lacked it."""
    assert kernelfile.unasked(kernel) == []
    then = kernel["asked"]
    names = {
        "symbols": [n for n in then["symbols"] if n not in ("register_kprobe", "ghes_proc")],
        "tracepoints": [],
        "structs": {**then["structs"], "ghes": []},
    }
    missing = kernelfile.unasked({**kernel, "asked": {**then, **names}})
    # ghes_proc is among the surroundings.
    assert missing == ["register_kprobe", "nmi:nmi_handler", "ghes.error_status_vaddr"]


def test_a_cut_that_leads_to_another_plan_is_refused(
    kernel: dict[str, Any], whole: Path, monkeypatch: pytest.MonkeyPatch
):
    """If this fails, a mistake in the cut becomes the expected plan."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(whole, ".")
    assert facts.cut(archive.getvalue(), "amd64", kernel["package"])["btf"] == kernel["btf"]
    cut = kernelfile.cut

    def careless(*given: Any) -> dict[str, Any]:
        made = cut(*given)
        return {**made, "kallsyms": [k for k in made["kallsyms"] if "flush_tlb_one" not in k]}

    monkeypatch.setattr(kernelfile, "cut", careless)
    with pytest.raises(InputError, match="another plan"):
        facts.cut(archive.getvalue(), "amd64", kernel["package"])


ANSWERS = {
    "madison linux-image-amd64": "linux-image-amd64 | 7.3-1 | http://m sid/main\n"
    "linux-image-amd64 | 6.1-2 | http://m sid/main\n",
    "show linux-image-amd64=7.3-1": "Depends: linux-base-amd64 (= 7.3-1), "
    "linux-image-7.3-amd64 (= 7.3-1), linux-modules-amd64\n",
    "show linux-image-7.3-amd64=7.3-1": "Depends: kmod, linux-binary-7.3-amd64 (= 7.3-1)\n",
    "show linux-image-amd64=6.1-2": "Depends: linux-image-6.1.0-9-amd64 (= 6.1-2)\n",
    "show linux-image-6.1.0-9-amd64=6.1-2": "Depends: kmod, linux-base\n",
}


def test_the_package_that_holds_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """If this fails, an empty package is fetched, or nothing if the mirror lost the newest."""
    monkeypatch.setattr(debian.Apt, "_prepare", lambda self: None)

    def answer(command: list[str], *_: Any, cwd: Path | None = None) -> str:
        if command[0] == "apt-cache":
            return ANSWERS[" ".join(command[1:])]
        name, _, version = command[-1].partition("=")
        if version == "7.3-1":
            raise HostError(f"{name}: 404")
        assert cwd
        (cwd / f"{name}_{version}_amd64.deb").touch()
        return ""

    monkeypatch.setattr(debian, "_out", answer)
    apt = debian.Apt(tmp_path, "sid", "amd64")
    assert list(apt._kernels()) == [
        "linux-binary-7.3-amd64=7.3-1",
        "linux-image-6.1.0-9-amd64=6.1-2",
    ]
    assert apt.kernel_image().name == "linux-image-6.1.0-9-amd64_6.1-2_amd64.deb"
