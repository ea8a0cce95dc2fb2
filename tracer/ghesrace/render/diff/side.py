# SPDX-License-Identifier: Apache-2.0
"""A side is one of the two reports that are compared, as far as a comparison asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ghesrace.checker.model import Class, class_word
from ghesrace.checker.report import Verdict

CLASSES = tuple(class_word(cls) for cls in Class)
SEVERITIES = ("predicted", "observed")  # the graver one last
ACCESSES = (None, "read", "write")  # likewise

# What tells one fault from another in any recording: its pattern, its slot's name (or None), and
# its explanation without CPUs, addresses and conditions. Of a stale access the slot is enough.
Shape = tuple[str, str | None, str]


@dataclass(frozen=True, slots=True)
class SlotShare:
    """This is one slot of a side: its episodes by class (the classes' words), how often it was
    handed from CPU to CPU, and how many of its episodes began with a latent stale entry."""

    name: str
    episodes: int
    handoffs: int
    latent: int
    classes: dict[str, int]

    @property
    def protection(self) -> tuple[str, ...]:
        """These classes, in their order, say what the slot's episodes rested on: all that occurred
        but `fresh`, where nothing had to be protected, and `uncertain`."""
        left = (class_word(Class.FRESH), class_word(Class.UNCERTAIN))
        return tuple(word for word in CLASSES if self.classes[word] and word not in left)


@dataclass(frozen=True, slots=True)
class PatternState:
    """This is what one pattern said: whether it was `checked`, or else why not, and how often it
    was seen."""

    checked: bool
    observed: int
    predicted: int
    because: str | None


@dataclass(slots=True)
class Seen:
    """This is one fault as a side saw it. `severity` and `access` are its worst; `counts` say how
    often, by severity; `variants` are the pairs of CPUs and frames, and `explanation` is of the
    first."""

    shape: Shape
    severity: str
    access: str | None
    counts: dict[str, int]
    variants: int
    explanation: str

    @property
    def grade(self) -> tuple[int, int]:
        """A greater grade is graver: observed than predicted, then a write than a read."""
        return SEVERITIES.index(self.severity), ACCESSES.index(self.access)


@dataclass(frozen=True, slots=True)
class Side:
    """A side has what a comparison asks of one report; `document.side_of` makes it of a document.

    `open` says what the report leaves open, as (subject, reason): the subject is a pattern or a
    slot that the reason is about, or None where it may be about anything.
    """

    file: str | None
    verdict: Verdict
    qualified_by: tuple[str, ...]
    truncated: bool
    assumed_clock_ns: int | None
    events: int
    lost: int | None
    losses: dict[str, int]
    slots: dict[str, SlotShare]
    patterns: dict[str, PatternState]
    faults: dict[Shape, Seen]
    open: list[tuple[str | None, str]]
    redacted: bool
    host: dict[str, Any] = field(default_factory=dict)

    @property
    def kernel(self) -> str:
        """This names the architecture and the kernel's release, as far as they are known."""
        release = self.host.get("release")
        return f"{self.host.get('arch') or ''} Linux {release}".strip() if release else ""

    def unaccepted(self, accepted: tuple[str, ...]) -> tuple[str, ...]:
        """Return what the report rests on and *accepted* does not name."""
        return tuple(name for name in self.qualified_by if name not in accepted)

    @property
    def foreign(self) -> bool:
        """This says that another tool recorded it: its slots are those that were in use, and not
        all that the kernel has."""
        return "source" in self.host

    def tried(self, slot: str | None) -> bool:
        """Return whether the recording says anything of *slot* (None: no slot is needed)."""
        if slot is None:
            return True
        episodes = self.slots[slot].episodes if slot in self.slots else 0
        return episodes > 0 or any(shape[1] == slot for shape in self.faults)

    def opening(self, shape: Shape, accepted: tuple[str, ...]) -> str | None:
        """Return why a fault of this *shape* may be there unseen, or None. What the report rests on
        is such a reason, unless it is *accepted*."""
        for subject, reason in self.open:
            if subject is None or subject in shape[:2]:
                return reason
        rests = self.unaccepted(accepted)
        return f"it rests on {', '.join(rests)}" if rests else None
