# SPDX-License-Identifier: Apache-2.0
"""A kernel's facts, cut from its own files and planted again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ghesrace.errors import InputError
from lab.kernels import kernelfile
from tests.build.kernels import KERNEL


def test_a_cut_loses_nothing_that_a_plan_asks(kernel: dict[str, Any], whole: Path):
    """If this fails, what the unit tests plan for is not what the kernel has."""
    again = kernelfile.cut(whole, "x86_64", kernel["package"])
    ours = {"version": "", "asked": ""}
    assert {**again, **ours} == {**kernel, **ours}
    assert again["version"] == "1 SMP Debian 6.1 (2026)"


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
