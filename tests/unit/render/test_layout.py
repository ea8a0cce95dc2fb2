# SPDX-License-Identifier: Apache-2.0
"""Lines of a given width, without blanks at their ends."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.render.layout import Page, new_console, side_by_side, wrapped

_TEXT = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=300)


@given(_TEXT, st.integers(20, 200))
def test_nothing_is_wider_or_ends_in_blanks(text: str, width: int) -> None:
    """If this fails, a terminal wraps lines, and a patch or mail gets blanks at line ends."""
    out = io.StringIO()
    page = Page(new_console(out, width=width))
    page.say(text, "  - ")
    page.table([["head", "b", text[:15]], ["x", text[:4], text]], right={1})
    for one, other in side_by_side(text, text[::-1], width // 2):
        page.line(one + other)
    for line in out.getvalue().splitlines():
        assert len(line) <= width
        assert line == line.rstrip()


@given(_TEXT, st.integers(20, 200))
def test_wrapping_loses_no_word(text: str, width: int) -> None:
    """If this fails, a report lacks part of a sentence."""
    assert "".join("".join(wrapped(text, width)).split()) == "".join(text.split())


def test_a_terminals_control_codes_are_escaped() -> None:
    """If this fails, whoever wrote a trace recolours, retitles or overwrites the reader's
    terminal."""
    out = io.StringIO()
    page = Page(new_console(out))
    page.say("a\x1b]0;owned\x07 name\r\x9b1m\nnext")
    page.table([["head"], ["\x1b[2J"]], right=set())
    page.line("\u202eline")
    assert out.getvalue().replace("\n", "").isprintable()
    assert "\\x1b]0;owned\\x07 name\\x0d\\x9b1m next" in out.getvalue()


@pytest.mark.parametrize(("colour", "codes"), [("auto", False), ("always", True), ("never", False)])
def test_colours(colour: str, codes: bool) -> None:
    """If this fails, --color is ignored, or a log file fills with escape codes."""
    out = io.StringIO()
    Page(new_console(out, colour)).line("race-observed", "bold red")  # type: ignore[arg-type]
    assert ("\x1b[" in out.getvalue()) == codes
    assert "race-observed" in out.getvalue()


def test_a_pipe_has_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the same command's output in a file depends on the terminal that ran it."""
    monkeypatch.setenv("COLUMNS", "150")
    assert new_console(io.StringIO()).width == 80


@pytest.mark.parametrize(("terminal", "width"), [(40, 60), (60, 60), (133, 133), (300, 200)])
def test_a_terminals_width_is_used(
    terminal: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a wide terminal is left empty, or a narrow one makes columns of no width."""
    monkeypatch.setenv("COLUMNS", str(terminal))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any file for a terminal
    assert new_console(io.StringIO()).width == width
