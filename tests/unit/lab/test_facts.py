# SPDX-License-Identifier: Apache-2.0
"""How a kernel's facts become plans that tests can hold; the kernels: test_kernels.py."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ghesrace.errors import InputError
from ghesrace.host.facts import read_facts
from lab import facts
from lab.kernels import kernelfile


def test_the_expected_plans_are_of_the_cut_kernel(kernel: dict[str, Any], tmp_path: Path):
    """If this fails, the .plan beside a kernel was made from something else."""
    known = facts.facts_of(kernel)
    planted = read_facts(kernelfile.plant(kernel, tmp_path / "planted"))
    planted = replace(planted, code_from="")
    assert known.symbols == planted.symbols
    assert known.features == planted.features >= {"kprobe-events", "arg", "instances"}
    assert facts.plans(known) == facts.plans(planted)


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
