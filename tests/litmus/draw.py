# SPDX-License-Identifier: Apache-2.0
"""Draws litmus cases into a document: `python -m tests.litmus.draw docs/rules.md`.

In the document a line `<!-- draws NAME: WHAT, WHAT -->` stands above a fenced block, which holds
the body of that case. WHAT is what the drawing is the example of: `class none`, `cause loss`,
`pattern overlap observed`. `drawn` reads them, and the tests hold document and cases to each other.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .parse import CASES

DRAWING = re.compile(
    r"<!-- draws (?P<name>\S+): (?P<what>[^>]*?) -->\n```text\n(?P<body>.*?)```", re.S
)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A case in a document: its name, what it is the example of, and the block as it stands."""

    name: str
    shows: tuple[str, ...]
    body: str


def body(path: Path) -> str:
    """The lines of a case from the columns' heads on, as they stand. Raises OSError."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    first = next(at for at, line in enumerate(lines) if line.startswith("CPU 0"))
    return "".join(lines[first:])


def drawn(text: str) -> Iterator[Drawing]:
    """The drawings of a document, in its order."""
    for match in DRAWING.finditer(text):
        shows = tuple(what.strip() for what in match["what"].split(","))
        yield Drawing(match["name"], shows, match["body"])


def redrawn(text: str) -> str:
    """The document with each drawing as its case is now. Raises OSError if a case is gone."""

    def draw(match: re.Match[str]) -> str:
        head = match[0][: match.start("body") - match.start()]
        return head + body(CASES / f"{match['name']}.litmus") + "```"

    return DRAWING.sub(draw, text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        document = Path(name)
        document.write_text(redrawn(document.read_text(encoding="utf-8")), encoding="utf-8")
