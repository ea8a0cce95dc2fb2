# SPDX-License-Identifier: Apache-2.0
"""The commented example of the configuration, as the man page and the reference show it."""

from __future__ import annotations

from ghesrace.service.config import keys
from handbook.settings import settings


def test_every_key_is_there_with_its_text() -> None:
    """A key would be missing from ghesrace.toml(5), or stand there without a word."""
    found = settings()
    assert [f"{section}.{key.name}" for section in found for key in found[section]] == keys()
    assert all(len(key.text) > 20 and key.default for found in found.values() for key in found)


def test_a_comment_is_of_the_key_below_it_only() -> None:
    """The licence line, or the text of the key above, would explain another key."""
    found = settings("# Head.\n\n[a]\n# Of b.\nb = 1\nc = 2\n")
    assert [(key.name, key.text) for key in found["a"]] == [("b", "Of b."), ("c", "")]
