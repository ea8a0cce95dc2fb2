# SPDX-License-Identifier: Apache-2.0
"""A race pattern takes what was seen, and makes findings of it, each with its witness.

To add one, write a module with a class that is a `Pattern`, and add its line in engine.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from ghesrace.checker.findings import Finding
from ghesrace.checker.model import Chunk, Judged, Spans, Table
from ghesrace.events import Events, Kind

Contexts = Literal["not needed", "needed", "needed to find all"]


@dataclass(slots=True)
class Evidence:
    """One step of the engine shows this evidence to every pattern.

    `judged` are the episodes of `chunk`, `witnesses` (EPISODE) those that may threaten later ones,
    and `spans` what lasts. `addresses` are those of the slots, as far as they are known. If the
    stream is a summary, `judged` are the episodes that the kernel judged and its samples, and
    `digested` holds the map and the unmap of each, by witness.EpisodeKey.
    """

    chunk: Chunk
    judged: list[Judged]
    witnesses: Table
    spans: Spans
    addresses: list[int | None]
    digested: dict[tuple[int, int, int], Events] = field(default_factory=dict)


class Pattern(Protocol):
    """A pattern is fed evidence, and can be asked at any time what it found.

    Without the probe points of an `essential` pattern no verdict is clean. Without the kinds of
    events that it `needs` it can't be checked. `contexts` says what it needs of them, where the
    source can't tell them: with "needed" it isn't checked, and with "needed to find all" only what
    it finds counts. `observed` counts how many times it was observed, and `harmless` what looked
    alike and is no hazard, by its name.

        pattern = Overlap(plan)
        pattern.step(evidence)
        pattern.findings()
    """

    name: ClassVar[str]
    essential: ClassVar[bool]
    needs: ClassVar[tuple[Kind, ...]]
    contexts: ClassVar[Contexts]
    observed: int
    harmless: dict[str, int]

    @property
    def predicted(self) -> int:
        """This is how many times it is predicted."""
        ...

    @property
    def happened(self) -> bool:
        """This is true if it is observed, or predicted in the order that was recorded."""
        ...

    def step(self, evidence: Evidence) -> None:
        """Take what one step of the engine showed."""
        ...

    def findings(self) -> list[Finding]:
        """Return all findings, the worst first."""
        ...

    def hidden(self) -> bool:
        """Return whether a loss may have hidden a finding."""
        ...

    def doubts(self) -> list[str]:
        """Return what could not be decided, in a few words each, or [] if all could."""
        ...
