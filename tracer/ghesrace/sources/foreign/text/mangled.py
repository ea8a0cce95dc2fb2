# SPDX-License-Identifier: Apache-2.0
"""This module finds names of which a serial console or an editor left only some letters."""

from __future__ import annotations

from itertools import takewhile

_LEAST = 4  # letters that such a name shares with what it was


def mangled(name: str, whole: str) -> bool:
    """Return whether *name* may be *whole* with some letters gone from one place, or one letter
    wrong there.

    >>> mangled("memcpy_omio", "memcpy_fromio"), mangled("memcpy_toio", "memcpy_fromio")
    (True, False)
    >>> mangled("memcpy_frpmio", "memcpy_fromio"), mangled("memcpy_fromio", "memcpy_fromio")
    (True, False)
    """
    if len(name) > len(whole) or name == whole:
        return False
    before, after = _alike(name, whole), _alike(name[::-1], whole[::-1])
    wrong = len(name) == len(whole)
    return _LEAST <= before + after >= len(name) - wrong


def _alike(one: str, other: str) -> int:
    """Return with how many letters both begin."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
