# SPDX-License-Identifier: Apache-2.0
"""Mutants and what became of them, without a kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.patched.build import Built
from lab.patched.expected import Mutant, Result
from lab.patched.verdict import Judged, Recording

Make = Callable[..., Result]
CODES = {"clean": 0, "inconclusive": 3, "race-predicted": 1, "race-observed": 1}


@pytest.fixture
def result() -> Make:
    """What became of a mutant whose two calm and two storm recordings got these verdicts."""

    def make(
        calm: str = "clean",
        storm: str = "clean",
        findings: tuple[str, ...] = (),
        safe: bool = True,
        expected: str = "clean",
        finding: str = "",
        name: str = "x86-some",
    ) -> Result:
        found = [[pattern, "observed", "why"] for pattern in findings]
        recordings = [
            Recording(
                backend,
                traffic,
                verdict,
                CODES[verdict],
                findings=found if traffic == "storm" else [],
                classes={"map-flush": 2},
                implied=[["fixmap-set", "setter", "flush-inside", "proven", "setter+0x4: invlpg"]],
            )
            for traffic, verdict in (("calm", calm), ("storm", storm))
            for backend in ("ftrace", "bpf")
        ]
        mutant = Mutant(name, "amd64", safe, expected, "an argument", (), finding)
        built = Built("amd64-0", Path("kernels/0"), "6.1.0-lab", 61.0, 5_000_000, 2)
        return Result(mutant, built, Judged(recordings, 90.0))

    return make
