# SPDX-License-Identifier: Apache-2.0
"""Findings: what a pattern found, when, and its witness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ghesrace.events import Context, Ints

Severity = Literal["observed", "predicted"]

Access = Literal["read", "write"]

FIRST_OCCURRENCES = 10

MAX_FINDINGS = 1000  # distinct ones; more are counted only


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a witness. `n` is the step number of DESIGN.md's eight steps, or None.

    `ts` is in ns of the capture's clock, None for what can't be traced. `side` is the column:
    that of x or of y. They are two CPUs, or two contexts of one CPU.
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
    """One time that a finding happened; stamps in ns, None where not traced or not of it.

    `ts` is when: the map, or whatever else completed it. `frames` is None where there are none.
    """

    ts: int
    ts_map: int | None
    ts_read: int | None
    ts_unmap: int | None
    cpus: tuple[int, int]
    frames: tuple[int, int] | None


@dataclass(slots=True)
class Finding:
    """One distinct way in which a pattern showed, with its first witness.

    `cpus` are x and y (one CPU twice: two contexts of it), `frames` the physical addresses p
    (stale) and q (meant), if there are any. `slot` is None where it is no matter of a slot.
    `explanation` says in plain words what protects, or what would have to happen. `reordered`:
    the witness is another order of the recorded lock holds, not the recorded one.
    """

    pattern: str
    severity: Severity
    access: Access | None
    slot: str | None
    cpus: tuple[int, int]
    frames: tuple[int, int] | None
    explanation: str
    steps: list[Step]
    reordered: bool = False
    count: int = 0
    occurrences: list[Occurrence] = field(default_factory=list)


def ranked(findings: list[Finding]) -> list[Finding]:
    """The worst first: observed before predicted, writes before reads, then the frequent."""
    return sorted(
        findings,
        key=lambda f: (
            f.severity,
            f.access != "write",
            -f.count,
            f.slot or "",
            f.cpus,
            f.frames or (),
            f.explanation,
        ),
    )


def groups(*columns: Ints) -> Iterator[Ints]:
    """The indices of equal rows of *columns*, group by group, MAX_FINDINGS groups at most."""
    if not len(columns[0]):
        return
    names = np.stack([column.astype(np.int64) for column in columns])
    _, group = np.unique(names, axis=1, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    cuts = np.flatnonzero(np.diff(group.ravel()[order])) + 1
    yield from np.split(order, cuts[: MAX_FINDINGS - 1])[:MAX_FINDINGS]


@dataclass(slots=True)
class Collection:
    """The distinct findings of a pattern, each with its first witness, and all counted."""

    all_occurrences: bool = False
    found: dict[tuple[object, ...], Finding] = field(default_factory=dict)

    def add(
        self,
        key: tuple[object, ...],
        members: Ints,
        make: Callable[[], Finding],
        when: Callable[[int], Occurrence],
    ) -> None:
        """Take *members* of one group; *make* its finding if there is none under *key* yet."""
        if key not in self.found:
            if len(self.found) >= MAX_FINDINGS:
                return
            self.found[key] = make()
        finding = self.found[key]
        finding.count += len(members)
        room = FIRST_OCCURRENCES - len(finding.occurrences)
        for member in members if self.all_occurrences else members[: max(room, 0)]:
            finding.occurrences.append(when(int(member)))


def step_of(side: Literal["x", "y"], span: np.void, ts: int | None, event: str, text: str) -> Step:
    """A line of a witness that happened in *span*."""
    context = Context(int(span["ctx"])).name.lower()
    return Step(side, None, ts, int(span["cpu"]), context, event, text)


def in_time(steps: list[Step]) -> list[Step]:
    """The lines of a witness in the order of their stamps."""
    return sorted(steps, key=lambda step: step.ts or 0)
