"""Race patterns: judged episodes in, findings with their witness out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["observed", "predicted"]
Access = Literal["read", "write"]


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a witness. `n` is the step number of DESIGN.md's eight steps, or None.

    `ts` is in ns of the capture's clock, None for what can't be traced. `side` is the column:
    that of CPU x or of CPU y (they can be one CPU in a prediction).
    """

    side: Literal["x", "y"]
    n: int | None
    ts: int | None
    cpu: int
    context: str
    event: str
    text: str


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One time that a finding happened; stamps in ns, None where not traced."""

    ts_map: int
    ts_read: int | None
    ts_unmap: int | None
    cpus: tuple[int, int]
    frames: tuple[int, int]


@dataclass(slots=True)
class Finding:
    """One distinct way in which a pattern showed, with its first witness.

    `cpus` are x and y, `frames` the physical addresses p (stale) and q (meant). `explanation`
    says in plain words what protects, or what would have to happen. `reordered`: the witness
    is another order of the recorded lock holds, not the recorded one.
    """

    pattern: str
    severity: Severity
    access: Access | None
    slot: str
    cpus: tuple[int, int]
    frames: tuple[int, int]
    explanation: str
    steps: list[Step]
    reordered: bool = False
    count: int = 0
    occurrences: list[Occurrence] = field(default_factory=list)
