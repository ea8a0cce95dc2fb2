# SPDX-License-Identifier: Apache-2.0
"""`ghesrace explain`: each word of a report, and what to do."""

from __future__ import annotations

import pytest

from ghesrace import cli
from ghesrace.render.words import WORDS


def test_each_word_is_explained_as_it_stands_in_a_report(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If this fails, a word that is copied from a report is not found."""
    for spelling in ("torn_edit", "torn-edit", "Torn edit"):
        assert cli.main(["explain", *spelling.split()]) == 0
        out = capsys.readouterr().out
        assert out.startswith("torn-edit (pattern)\n")
        assert "What to do: " in out
    for word in WORDS:
        assert cli.main(["explain", word.name]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert word.what in out
        assert word.do in out


def test_all_words_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, nobody learns which words there are."""
    assert cli.main(["explain"]) == 0
    out = capsys.readouterr().out.replace("\n", " ")
    assert all(word.name in out for word in WORDS)


def test_a_word_of_no_report_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, a typo ends in silence or a traceback."""
    assert cli.main(["explain", "mapflush"]) == 2
    assert "do you mean map-flush" in capsys.readouterr().err
    assert cli.main(["explain", "xyzzy"]) == 2
    assert "lists all words" in capsys.readouterr().err
