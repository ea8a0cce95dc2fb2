# SPDX-License-Identifier: Apache-2.0
"""This lays text out in lines of a given width, without blanks at their ends."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

NARROWEST, WIDEST = 60, 200
_PIPE = 80
_BLANKS = str.maketrans("\n\t", "  ")
_GAP = 2  # blanks between columns
_LAST = 8  # columns that the last cell of a table has at least, if it needs them

Colour = Literal["auto", "always", "never"]


def new_console(file: Any = None, colour: Colour = "auto", width: int | None = None) -> Console:
    """Return a console that writes to *file* (by default to stdout). It has the terminal's width,
    between NARROWEST and WIDEST, and elsewhere 80 columns, unless *width* says otherwise. `auto`
    means in colour only on a terminal.

    >>> new_console().print("race-observed")
    race-observed
    """
    force = {"auto": None, "always": True, "never": False}[colour]
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    if width is None:
        width = min(max(console.width, NARROWEST), WIDEST) if console.is_terminal else _PIPE
    if force is None:
        console.width = width
        return console
    system: Any = "standard" if force else None
    return Console(
        file=file,
        highlight=False,
        markup=False,
        emoji=False,
        force_terminal=force,
        color_system=system,
        no_color=not force,
        width=width,
    )


class Page:
    """A page takes paragraphs and tables, and prints them line by line to a console.

    >>> page = Page(new_console(width=60))
    >>> page.table([["class", "irq"], ["fresh", "9"]], right={1})
      class  irq
      fresh    9
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self.width = console.width

    def line(self, text: str = "", style: str = "") -> None:
        """Print *text* as it is, without blanks at its end. What a terminal would obey is written
        as an escape."""
        self._console.print(Text(printable(text).rstrip(), style), soft_wrap=True)

    def say(self, text: str, first: str = "", rest: str | None = None, style: str = "") -> None:
        """Print a paragraph. Its first line begins with *first*, the others with *rest*, which by
        default is as many blanks."""
        for line in wrapped(text, self.width, first, rest):
            self.line(line, style)

    def table(self, rows: Sequence[Sequence[str]], right: set[int], indent: int = 2) -> None:
        """Print *rows* of equally many cells, the columns in *right* to the right; the first row is
        the head. A last column that does not fit is wrapped; where not even that helps, each row
        becomes a paragraph."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        before = indent + sum(widths[:-1]) + _GAP * (len(widths) - 1)
        room = self.width - before
        if room < min(widths[-1], _LAST):
            for row in rows[1:]:
                named = zip(rows[0], row, strict=True)
                self.say("; ".join(f"{head} {cell}".strip() for head, cell in named), " " * indent)
            return
        for number, row in enumerate(rows):
            cells = [
                cell.rjust(width) if i in right else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            start = " " * indent + "".join(cell + " " * _GAP for cell in cells[:-1])
            last = cells[-1] if len(cells[-1]) <= room else row[-1]
            lines = wrapped(last, room) if len(last) > room else [last]
            style = "" if number else "dim"
            self.line(start + lines[0], style)
            for line in lines[1:]:
                self.line(" " * before + line, style)


def printable(text: str) -> str:
    """Return *text* in which what can't be printed, such as a terminal's control codes, is escaped.

    >>> printable("a\x1b[31m name")
    'a\\\\x1b[31m name'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def wrapped(text: str, width: int, first: str = "", rest: str | None = None) -> list[str]:
    """Return *text* in lines of at most *width*; a word that is longer is cut. There is at least
    one line. *first* and *rest* are as in `Page.say`.

    >>> wrapped("maps 0x70000000 at irq", 12, "- ")
    ['- maps', '  0x70000000', '  at irq']
    """
    indent = " " * len(first) if rest is None else rest
    text = printable(text.translate(_BLANKS))
    lines = textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )
    return [line.rstrip() for line in lines] or [first.rstrip()]


def side_by_side(left: str, right: str, width: int) -> Iterator[tuple[str, str]]:
    """Yield the lines of two cells of *width* columns each, together.

    >>> list(side_by_side("unmaps the slot", "", 8))
    [('unmaps  ', ''), ('the slot', '')]
    """
    lefts, rights = (wrapped(text, width) if text else [] for text in (left, right))
    for number in range(max(len(lefts), len(rights))):
        one = lefts[number] if number < len(lefts) else ""
        other = rights[number] if number < len(rights) else ""
        yield one.ljust(width), other
