# SPDX-License-Identifier: Apache-2.0
"""The man pages: they say all that the parsers know, and roff finds nothing wrong in them."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.render.words import WORDS
from handbook import man
from handbook.epilog import read
from handbook.parsers import arguments, commands

PAGES = man.pages()

needs_groff = pytest.mark.skipif(not shutil.which("groff"), reason="needs groff")


def shown(text: str) -> str:
    """What a reader sees, in words with single blanks."""
    command = ["groff", "-man", "-Tutf8", "-P-cbou", "-rLL=78n"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    # U+2010 is the hyphen that groff writes for "-" that is not escaped.
    return " ".join(done.stdout.split())


def plain(text: str) -> str:
    """The roff *text* without its escapes."""
    bare = re.sub(r"\\f[BIR]|\\[,/&]|\\fI\\,", "", text)
    return " ".join(bare.replace(r"\-", "-").replace(r"\(ga", "`").split())


@needs_groff
@pytest.mark.parametrize("name", PAGES)
def test_roff_finds_nothing_wrong(name: str) -> None:
    """A page with a hole: roff drops what it does not understand."""
    command = ["groff", "-ww", "-man", "-Tutf8", "-z"]
    done = subprocess.run(command, input=PAGES[name], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("mandoc"), reason="needs mandoc")
@pytest.mark.parametrize("name", PAGES)
def test_mandoc_finds_nothing_wrong(name: str) -> None:
    """The same by another reader, which is that of Alpine and BSD."""
    command = ["mandoc", "-Tlint", "-Wwarning"]
    done = subprocess.run(command, input=PAGES[name], capture_output=True, text=True)
    assert done.stdout == ""


@pytest.mark.parametrize("name", commands())
def test_every_option_of_every_command_is_there(name: str) -> None:
    """An option that only `--help` knows."""
    text = plain(PAGES[f"ghesrace-{name}.1"])
    options, _, _ = text.partition(".SH EXIT STATUS")
    for action in arguments(commands()[name]):
        told = action.option_strings or [str(action.metavar)]
        for option in told:
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", options), option
        assert " ".join(str(action.help).split())[:40] in options, action.dest


@pytest.mark.parametrize("name", commands())
def test_what_help_says_below_the_options_is_there(name: str) -> None:
    """Formats, exit codes and examples that only `--help` knows."""
    text = plain(PAGES[f"ghesrace-{name}.1"])
    prose, sections = read(commands()[name].epilog or "")
    assert prose in text
    for section in sections:
        for term, words in section.entries:
            assert f"{term} {words}" in text
        assert all(line in text for line in section.commands)
    assert ".SH EXIT STATUS" in text
    assert ".SH EXAMPLES" in text
    assert "(1)" in text.partition(".SH SEE ALSO")[2]


def test_overview_has_every_command_verdict_class_and_pattern() -> None:
    """Who types `man ghesrace` would not find the rest."""
    text = plain(PAGES["ghesrace.1"])
    assert all(f"ghesrace-{name}(1)" in text for name in commands())
    for word in WORDS:
        if word.sort in ("verdict", "class", "pattern"):
            assert f"{word.name} {word.what}" in text
    assert all(f".SH {title}" in text for title in ("VERDICTS", "EXIT STATUS", "FILES", "EXAMPLES"))


def test_every_page_that_is_named_is_there() -> None:
    """`man` would not find what SEE ALSO names."""
    made = {f"{name[:-2]}({name[-1]})" for name in PAGES}
    for text in PAGES.values():
        named = set(re.findall(r"ghesrace[\w.-]*\(\d\)", plain(text)))
        assert named <= made


@pytest.mark.slow
def test_pages_are_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package could not be built again with the same bytes."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert man.pages() == man.pages()
    assert all('"1970-01-02"' in text.splitlines()[0] for text in man.pages().values())


@needs_groff
@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_no_text_is_taken_for_roff(text: str) -> None:
    """A help text that begins with a dot, or has a backslash, would be cut or eaten."""
    seen = shown(f".TH X 1\n.nh\n.SH NAME\nbegin\n{man.roff(text)}\nend\n")
    inside = seen[seen.index("begin") + 5 : seen.rindex(" end")]
    assert inside.split() == text.split()
