# SPDX-License-Identifier: Apache-2.0
"""Unsafe episodes, counted, and those that are alike together."""

from __future__ import annotations

from ghesrace.checker.core import words as w
from ghesrace.checker.core.rule import Judged

Key = tuple[int, bool, int, int, int, int, int]


class Races:
    """How many of the *unsafe* episodes were observed as such, how many luck alone saved, and how
    many no world saves. `alike` are those with a known threat, in their order: by their class, the
    direction of the access, the slot, the CPUs of the threat and of the episode, and both frames.

    >>> races = Races([])
    >>> races.observed, races.alike
    (0, {})
    """

    def __init__(self, unsafe: list[Judged]) -> None:
        self.observed = 0
        self.incidental = 0
        self.never_safe = 0
        self.alike: dict[Key, list[Judged]] = {}
        for one in unsafe:
            self.take(one)

    def take(self, one: Judged) -> None:
        """Take one unsafe episode; it is none of these if it is only uncertain."""
        if one.cls == w.NONE:
            self.observed += 1
        elif one.cls == w.INCIDENTAL:
            self.incidental += 1
        elif one.never_safe:
            self.never_safe += 1
        else:
            return
        x, y = one.threat, one.episode
        if x is None:
            return
        key = one.cls, y.writes, y.hold.slot, x.hold.cpu, y.hold.cpu, x.frame, y.frame
        alike = self.alike.get(key)
        if alike is None:
            self.alike[key] = [one]
        else:
            alike.append(one)
