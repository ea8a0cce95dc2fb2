# SPDX-License-Identifier: Apache-2.0
"""A host whose kernel lets everything be tried, for what the doctor says."""

from __future__ import annotations

from pathlib import Path

from ghesrace.doctor import checks as doctor
from ghesrace.doctor.attempts import Attempts
from ghesrace.host.clocks import Comparison
from ghesrace.plan import Plan

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
