# SPDX-License-Identifier: Apache-2.0
"""The stand-in for Cython changes nothing of what a source does."""

from __future__ import annotations

from ghesrace import uncompiled


def test_the_stand_in_leaves_functions_alone() -> None:
    """A decorator that is nothing in Python would change what the source does."""

    def function() -> int:
        return 1

    for decorator in (uncompiled.cfunc, uncompiled.inline, uncompiled.nogil, uncompiled.cclass):
        assert decorator(function) is function
    for maker in (uncompiled.locals(), uncompiled.exceptval(), uncompiled.overflowcheck(False)):
        assert maker(function) is function
    assert uncompiled.address(function) is function
    with uncompiled.nogil:
        assert uncompiled.declare(uncompiled.ulonglong, 5) == 5
