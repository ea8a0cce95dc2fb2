# SPDX-License-Identifier: Apache-2.0
"""The form of epilogs: what is read, and that another form is refused and not dropped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handbook.epilog import read

WORD = st.text("abcxyz-", min_size=1, max_size=8)
TEXT = st.lists(WORD, min_size=1, max_size=4).map(" ".join)


@given(st.lists(st.tuples(WORD, TEXT), max_size=5), TEXT)
def test_every_entry_is_read(entries: list[tuple[str, str]], prose: str) -> None:
    """An exit code that help names would be missing from the man page."""
    lines = "".join(f"  {term}  {text}\n" for term, text in entries)
    found, sections = read(f"{prose}\n\nformats:\n{lines}")
    assert (found, sections[0].entries) == (prose, entries)


@pytest.mark.parametrize(
    "text",
    [
        "formats:\n  text\n",  # an entry without a text
        "formats:\n text  for people\n",  # indented by one
        "  text  for people\n",  # no heading
        "formats:\n  text  for people\nMore prose.\n",
        "123:\n  text  for people\n",
    ],
)
def test_another_form_is_refused(text: str) -> None:
    """It would be left out of the man page in silence."""
    with pytest.raises(ValueError, match="epilog"):
        read(text)
