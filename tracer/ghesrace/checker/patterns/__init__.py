# SPDX-License-Identifier: Apache-2.0
"""A race pattern takes what the core decided, and makes findings of it, each with its witness.

To add one, write a module with a class that is a `Pattern`, and add its line in engine.py.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from ghesrace.checker.core.decided import Decided
from ghesrace.checker.findings import Collection, Finding, ranked
from ghesrace.events import Context, Kind
from ghesrace.plan import Plan

Contexts = Literal["not needed", "needed", "needed to find all"]


class Pattern:
    """A pattern is fed what the core decided, and can be asked at any time what it found.

    Without the probe points of an `essential` pattern no verdict is clean. Without the kinds of
    events that it `needs` it can't be checked, and a loss of those that may be `hidden` leaves open
    whether there is more to find. `contexts` says what it needs of them, where the source can't
    tell them: with "needed" it isn't checked, and with "needed to find all" only what it finds
    counts. `observed` and `predicted` count how many times it was, and `harmless` what looked alike
    and is no hazard, by its name.

        pattern = Overlap(plan)
        pattern.take(decided)
        pattern.findings()
    """

    name: ClassVar[str]
    essential: ClassVar[bool] = False
    needs: ClassVar[tuple[Kind, ...]]
    hidden: ClassVar[tuple[Kind, ...]] = ()
    contexts: ClassVar[Contexts] = "not needed"

    def __init__(self, plan: Plan, all_occurrences: bool = False) -> None:
        self.plan = plan
        self.observed = 0
        self.harmless: dict[str, int] = {}
        self.found = Collection(all_occurrences)

    @property
    def predicted(self) -> int:
        """This is how many times it is predicted."""
        return 0

    @property
    def happened(self) -> bool:
        """This is true if it is observed, or predicted in the order that was recorded."""
        return bool(self.observed or self.predicted)

    def take(self, decided: Decided) -> None:
        """Take what one step of the core decided."""
        raise NotImplementedError

    def findings(self) -> list[Finding]:
        """Return all findings, the worst first."""
        return ranked(list(self.found.found.values()))

    def doubts(self) -> list[str]:
        """Return what could not be decided, in a few words each, or [] if all could."""
        return []

    def assumed(self, assumes: bool) -> int | None:
        """Return the clock error (ns) that a finding assumes, if it *assumes* one, or None."""
        return self.plan.clock_error_ns if assumes else None

    def slot(self, number: int) -> str | None:
        """Return the name of slot *number*, or None if it is no matter of a slot."""
        return self.plan.slots[number].name if number >= 0 else None


def context(ctx: int) -> str:
    """Return the name of a context.

    >>> context(3)
    'nmi'
    """
    return Context(ctx).name.lower()
