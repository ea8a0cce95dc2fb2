# SPDX-License-Identifier: Apache-2.0
"""This finds the slot of one recording that answers to a slot of the other: kernels name them
differently, and where a trace names none they are called by what differs with each boot."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .side import Side

_UNNAMED = re.compile(r"(0x[0-9a-f]+|fixmap-\d+)(-nmi)?")


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair is one slot on both sides; a name is None where the side has no such slot. `how` says
    why two names are one slot, where they differ."""

    a: str | None
    b: str | None
    how: str = ""

    @property
    def name(self) -> str:
        """This is the name for readers: A's, and B's where it differs."""
        if self.a is None or self.b is None or self.a == self.b:
            return self.a or self.b or ""
        return f"{self.a} / {self.b}"


def role(name: str) -> str:
    """Return what a slot is for, as far as its name tells.

    >>> role("GHES_IRQ"), role("ghes2015:irq"), role("GHES_SDEI_NORMAL"), role("0xff5fb000")
    ('irq', 'irq', 'sdei_normal', '')
    """
    if _UNNAMED.fullmatch(name):
        return ""
    return name.rpartition(":")[2].lower().removeprefix("ghes_")


def paired(a: Side, b: Side) -> list[Pair]:
    """Return the slots of both sides, in the order of A's, and those that only B has behind them.

    Slots of one name are one slot. Of the others two are one if just they serve the same
    notifications: first of those that were in use, then of all. Those without a name are paired in
    the order of their addresses, if both sides have as many.
    """
    partner = {name: name for name in a.slots if name in b.slots}
    how: dict[str, str] = {}
    for used in (True, False):
        left_a, left_b = _left(a, used, partner), _left(b, used, partner.values())
        once_a, once_b = (Counter(map(role, left)) for left in (left_a, left_b))
        for name in left_a:
            same = [other for other in left_b if role(name) and role(other) == role(name)]
            if same and once_a[role(name)] == once_b[role(name)] == 1:
                partner[name] = same[0]
                how[name] = f"both serve {role(name)}"
    for nmi in (False, True):
        plain_a, plain_b = (
            [name for name in _left(side, True, taken) if _plain(name, nmi)]
            for side, taken in ((a, partner), (b, partner.values()))
        )
        if len(plain_a) == len(plain_b):
            partner |= zip(plain_a, plain_b, strict=True)
            how |= dict.fromkeys(plain_a, "in the order of their addresses")
    pairs = [Pair(name, partner.get(name), how.get(name, "")) for name in a.slots]
    used_b = set(partner.values())
    return pairs + [Pair(None, name) for name in b.slots if name not in used_b]


def _left(side: Side, used: bool, taken: Iterable[str]) -> list[str]:
    """Return the slots of a *side* that are not *taken*, all or those that were *used*."""
    gone = set(taken)
    return [name for name in side.slots if name not in gone and (side.tried(name) or not used)]


def _plain(name: str, nmi: bool) -> bool:
    return not role(name) and name.endswith("-nmi") == nmi
