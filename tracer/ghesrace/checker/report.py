# SPDX-License-Identifier: Apache-2.0
"""The answer: verdict, classes per slot, patterns, findings, and what was not seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from ghesrace.plan import Unseen

from .findings import Finding
from .model import Class, Why


class Verdict(IntEnum):
    """The worst one wins."""

    CLEAN = 0
    INCONCLUSIVE = 1
    PREDICTED = 2
    OBSERVED = 3

    @property
    def word(self) -> str:
        """The word that users see."""
        return ("clean", "inconclusive", "race-predicted", "race-observed")[self]


@dataclass(slots=True)
class SlotCounts:
    """What happened at one slot; `classes` is indexed by Class, `uncertain` by Why."""

    name: str
    address: int | None
    episodes: int = 0
    handoffs: int = 0
    latent: int = 0
    classes: list[int] = field(default_factory=lambda: [0] * len(Class))
    uncertain: list[int] = field(default_factory=lambda: [0] * len(Why))
    uncertain_at_start: int = 0  # of them forgiven: a later episode of that CPU was judged


@dataclass(slots=True)
class PatternResult:
    """`checked` is false where the plan lacks what the pattern needs (`not_checked_because`).

    `harmless` counts what looked alike and is no hazard, `uncertain` says what was undecidable.
    """

    checked: bool
    observed: int
    predicted: int
    not_checked_because: str | None
    harmless: dict[str, int]
    uncertain: list[str]


@dataclass(slots=True)
class Report:
    """The answer. `lost` is None where it could not be counted; `losses` counts by cause."""

    verdict: Verdict
    reasons: list[str]
    truncated: bool
    events: int
    lost: int | None
    losses: dict[str, int]
    slots: list[SlotCounts]
    patterns: dict[str, PatternResult]
    findings: list[Finding]
    unseen: list[Unseen]
