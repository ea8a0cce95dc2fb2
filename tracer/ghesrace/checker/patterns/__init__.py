# SPDX-License-Identifier: Apache-2.0
"""Race patterns: what was seen goes in, findings with their witness come out.

To add one: a module with a class that is a `Pattern`, and its line in engine.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from ghesrace.checker.findings import Finding
from ghesrace.checker.model import Chunk, Judged, Spans, Table
from ghesrace.events import Events, Kind


@dataclass(slots=True)
class Evidence:
    """What one step of the engine shows to every pattern.

    `judged` are the episodes of `chunk`, `witnesses` those that may threaten later ones,
    `spans` what lasts. `addresses` are the slots' as known so far. If the stream is a summary,
    `judged` are the episodes that the kernel judged and its samples, and `digested` holds the map
    and the unmap of each, by witness.EpisodeKey.
    """

    chunk: Chunk
    judged: list[Judged]
    witnesses: Table
    spans: Spans
    addresses: list[int | None]
    digested: dict[tuple[int, int, int], Events] = field(default_factory=dict)


class Pattern(Protocol):
    """Feed it evidence; ask it at any time.

    `essential`: without its probe points no verdict is clean. `needs`: kinds of events without
    which it can't be checked. `harmless` counts what looked alike and is no hazard, by its name.
    """

    name: ClassVar[str]
    essential: ClassVar[bool]
    needs: ClassVar[tuple[Kind, ...]]
    observed: int
    harmless: dict[str, int]

    @property
    def predicted(self) -> int:
        """How many times it is predicted."""
        ...

    @property
    def happened(self) -> bool:
        """Whether it is observed, or predicted in the order that was recorded."""
        ...

    def step(self, evidence: Evidence) -> None:
        """Take what one step of the engine showed."""
        ...

    def findings(self) -> list[Finding]:
        """All findings, the worst first."""
        ...

    def hidden(self) -> bool:
        """Whether a loss may have hidden a finding."""
        ...

    def doubts(self) -> list[str]:
        """What could not be decided, in a few words each; empty if all could."""
        ...
