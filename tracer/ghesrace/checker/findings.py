# SPDX-License-Identifier: Apache-2.0
"""A finding says what a pattern found, when, and by which witness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["observed", "predicted"]

Access = Literal["read", "write"]

FIRST_OCCURRENCES = 10

MAX_FINDINGS = 1000  # distinct ones that are kept


@dataclass(frozen=True, slots=True)
class Step:
    """A step is one line of a witness. `n` is its number among the race's eight steps, or None.

    `ts` is in ns of the capture's clock, or None for what can't be traced. `side` is the column,
    which belongs to x or to y. They are two CPUs, or two contexts of one CPU.
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
    """An occurrence is one time that a finding happened. Its stamps are in ns; they are None for
    what was not traced or is no part of it.

    `ts` is the stamp of the map, or of whatever else completed it. `frames` (physical addresses,
    bytes) is None where there are none.
    """

    ts: int
    ts_map: int | None
    ts_read: int | None
    ts_unmap: int | None
    cpus: tuple[int, int]
    frames: tuple[int, int] | None


@dataclass(slots=True)
class Finding:
    """A finding is one distinct way in which a pattern showed, with its first witness.

    `cpus` are x and y; one CPU twice stands for two contexts of it. `frames` are the physical
    addresses p (stale) and q (meant), in bytes, if there are any. `slot` is None where it is no
    matter of a slot. `explanation` says in plain words what protects, or what would have to happen.
    If it is `reordered`, the witness is another order of the recorded lock holds than the recorded
    one. If `assumed_clock_ns` is not None, no occurrence is known to be sure under the proven bound
    of the clock error: each assumes that the clocks of two CPUs agree within that many ns.
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
    assumed_clock_ns: int | None = None

    def add_clock(self, assumed_ns: int | None) -> None:
        """Take the clock error (ns) that the next occurrence assumes, before it is counted; None if
        it assumes nothing, which then holds for the finding.

        >>> found = Finding("overlap", "observed", None, "GHES_IRQ", (0, 1), None, "a", [])
        >>> found.add_clock(1000)
        >>> found.assumed_clock_ns
        1000
        """
        if not self.count or assumed_ns is None:
            self.assumed_clock_ns = assumed_ns


def ranked(findings: list[Finding]) -> list[Finding]:
    """Return *findings* with the worst first: observed before predicted, writes before reads, then
    by how often they happened.

    >>> rare = Finding("overlap", "observed", None, "GHES_IRQ", (0, 1), None, "a", [], count=1)
    >>> often = Finding("overlap", "observed", None, "GHES_IRQ", (1, 0), None, "b", [], count=9)
    >>> [finding.count for finding in ranked([rare, often])]
    [9, 1]
    """
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


@dataclass(slots=True)
class Collection:
    """A collection holds the distinct findings of a pattern, each with its first witness and with
    the number of its occurrences.

    It keeps at most MAX_FINDINGS findings and, without `all_occurrences`, the first
    FIRST_OCCURRENCES occurrences of each.

    >>> found = Collection()
    >>> at = lambda: Occurrence(300, 300, None, None, (0, 1), None)
    >>> new = Finding("overlap", "observed", None, "GHES_IRQ", (0, 1), None, "why", [])
    >>> for _ in range(12):
    ...     found.add(("GHES_IRQ", 0, 1), lambda: new, at)
    >>> new.count, len(new.occurrences)
    (12, 10)
    """

    all_occurrences: bool = False
    found: dict[tuple[object, ...], Finding] = field(default_factory=dict)

    def add(
        self,
        key: tuple[object, ...],
        make: Callable[[], Finding],
        when: Callable[[], Occurrence],
        assumed_ns: int | None = None,
        times: int = 1,
        once: bool = False,
    ) -> None:
        """Count one occurrence of the finding under *key*, which *make* returns if there is none
        yet; *when* returns the occurrence, and is asked only if that is kept: of a kernel that
        races at each hand-off, most are counted only. *assumed_ns* is the clock error that it
        assumes, if it does. It happened so many *times* alike, and is listed *once* if only the
        first's stamps are known."""
        finding = self.found.get(key)
        if finding is None:
            if len(self.found) >= MAX_FINDINGS:
                return
            finding = self.found[key] = make()
        finding.add_clock(assumed_ns)
        finding.count += times
        if self.lists_more(key):
            occurrence = when()
            if not (once and occurrence in finding.occurrences):
                finding.occurrences.append(occurrence)

    def lists_more(self, key: tuple[object, ...]) -> bool:
        """Return whether the next occurrence of the finding under *key* would be kept, and not only
        counted."""
        finding = self.found.get(key)
        return (
            finding is None or self.all_occurrences or len(finding.occurrences) < FIRST_OCCURRENCES
        )

    def count(self, key: tuple[object, ...], times: int, assumed_ns: int | None) -> None:
        """Count as many occurrences of the finding under *key* that are not kept. *assumed_ns* is
        the clock error that all of them assume, if they do."""
        finding = self.found[key]
        finding.add_clock(assumed_ns)
        finding.count += times


def in_time(steps: list[Step]) -> list[Step]:
    """Return the lines of a witness in the order of their stamps (ns), those without one first."""
    return sorted(steps, key=lambda step: step.ts or 0)
