# SPDX-License-Identifier: Apache-2.0
"""Reads the commented example of the daemon's configuration: keys, defaults, and what they do.

A test (tests/unit/service/test_config.py) holds the example to the code: every key with its
default, and a comment above each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent.parent / "systemd/ghesrace.toml"


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the configuration, its default as TOML, and what the comment above it says."""

    name: str
    default: str
    text: str


def settings(example: str | None = None) -> dict[str, list[Key]]:
    """Return the keys of each section of *example* (default: systemd/ghesrace.toml), in order.

    >>> settings("[log]\\n# How much\\n# is told.\\nlevel = 'info'\\n")
    {'log': [Key(name='level', default="'info'", text='How much is told.')]}
    """
    found: dict[str, list[Key]] = {}
    section, comment = "", ""
    for line in (EXAMPLE.read_text() if example is None else example).splitlines():
        key = re.fullmatch(r"(\w+) = (.*)", line)
        if line.startswith("# "):
            comment = f"{comment} {line[2:]}".strip()
            continue
        if line.startswith("["):
            section = line.strip("[]")
            found[section] = []
        elif key is not None:
            found[section].append(Key(key[1], key[2], comment))
        comment = ""
    return found
