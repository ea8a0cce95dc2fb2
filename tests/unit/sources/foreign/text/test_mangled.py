# SPDX-License-Identifier: Apache-2.0
"""Names of which only some letters are left."""

from __future__ import annotations

from ghesrace.sources.foreign.text.mangled import mangled


def test_longer_names_and_short_rests_are_other_names() -> None:
    """A function whose name has the other one in it would be lost, and so would most short ones."""
    assert not mangled("__set_fixmap", "set_fixmap")
    assert not mangled("set", "native_set_fixmap")
    assert not mangled("ghes_iounmap_nmi", "ghes_iounmap_irq")
    assert mangled("native_map", "native_set_fixmap")
