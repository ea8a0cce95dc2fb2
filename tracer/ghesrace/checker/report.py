# SPDX-License-Identifier: Apache-2.0
"""A report is the answer: the verdict, the classes per slot, the patterns, the findings, and what
was not seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from ghesrace.plan import Unseen

from .findings import Finding
from .model import Class, Why


class Verdict(IntEnum):
    """A verdict says how bad it is; the worst one wins.

    >>> max(Verdict.CLEAN, Verdict.PREDICTED).word
    'race-predicted'
    """

    CLEAN = 0
    INCONCLUSIVE = 1
    PREDICTED = 2
    OBSERVED = 3

    @property
    def word(self) -> str:
        """This is the word that users see."""
        return ("clean", "inconclusive", "race-predicted", "race-observed")[self]


@dataclass(slots=True)
class SlotCounts:
    """These counts say what happened at one slot; `classes` is indexed by Class, and `uncertain` by
    Why. `uncertain_at_start` counts the uncertain episodes that are forgiven, because a later one
    of that CPU was judged."""

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
    """A result is what one pattern found.

    `checked` is false where the plan lacks what the pattern needs, and `not_checked_because` says
    what that is. `harmless` counts what looked alike and is no hazard, and `uncertain` says what
    was undecidable.
    """

    checked: bool
    observed: int
    predicted: int
    not_checked_because: str | None
    harmless: dict[str, int]
    uncertain: list[str]


@dataclass(slots=True)
class Report:
    """A report is what `checker.engine.Engine.report` answers.

    `reasons` say why the verdict can't be clean. `truncated` says that the file ends too early.
    `events` counts the events, `lost` the lost ones (None where they could not be counted), and
    `losses` the lost ones by cause. `qualified_by` names what the recording can't tell, on which
    the verdict rests (unknowns.UNKNOWNS). `assumed_clock_ns` is the clock error that is assumed,
    where only a larger one was proven.
    """

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
    qualified_by: tuple[str, ...] = ()
    assumed_clock_ns: int | None = None
