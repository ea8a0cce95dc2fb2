# SPDX-License-Identifier: Apache-2.0
"""Reads the one form that all epilogs of `--help` have (tracer/ghesrace/epilogs.py)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_ENTRY = re.compile(r"  (?P<term>\S+)  +(?P<text>\S.*)")


@dataclass(slots=True)
class Section:
    """One section: its *heading* ("exit codes"), what the heading says besides, its *entries* (term
    and text), and its *commands*.
    """

    heading: str
    note: str
    entries: list[tuple[str, str]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


def read(epilog: str) -> tuple[str, list[Section]]:
    """Return the prose and the sections of *epilog*. Raises ValueError for a line of another form.

    >>> prose, (codes, example) = read(
    ...     "So.\\n\\nexit codes, always:\\n  0  good,\\n     really\\n\\n"
    ...     "example:\\n  ghesrace plan\\n"
    ... )
    >>> prose, codes.heading, codes.note, codes.entries, example.commands
    ('So.', 'exit codes', ', always', [('0', 'good, really')], ['ghesrace plan'])
    """
    prose: list[str] = []
    sections: list[Section] = []
    for line in epilog.splitlines():
        if not line.strip():
            continue
        if not line.startswith(" "):
            if line.endswith(":"):
                heading = re.match(r"[a-z]+( codes)?", line)
                if heading is None:
                    raise ValueError(f"no heading of an epilog: {line!r}")
                sections.append(Section(heading[0], line[heading.end() : -1]))
            elif sections:
                raise ValueError(f"prose behind the first heading of an epilog: {line!r}")
            else:
                prose.append(line)
            continue
        if not sections:
            raise ValueError(f"an entry before the first heading of an epilog: {line!r}")
        _into(sections[-1], line)
    return " ".join(prose), sections


def _into(section: Section, line: str) -> None:
    if section.heading.startswith("example"):
        section.commands.append(line.strip())
    elif entry := _ENTRY.fullmatch(line):
        section.entries.append((entry["term"], entry["text"]))
    elif section.entries and line.startswith("    "):
        term, text = section.entries[-1]
        section.entries[-1] = (term, f"{text} {line.strip()}")
    else:
        raise ValueError(f"no entry of an epilog: {line!r}")
