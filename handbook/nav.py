# SPDX-License-Identifier: Apache-2.0
"""Reads docs/index.md, whose lists are the navigation of the site: one place to add a page."""

from __future__ import annotations

import os
import re
from pathlib import Path

_LINK = re.compile(r"- \[[^\]]+\]\((?P<target>[^)#]+\.md)\)")


def sections(index: str) -> dict[str, list[str]]:
    """Return the pages that the lists below each heading of *index* link to, as they are written.

    >>> sections("# Top\\n\\n## How to\\n\\n- [One](a.md): so\\n- [Two](../b/c.md)\\n")
    {'How to': ['a.md', '../b/c.md']}
    """
    found: dict[str, list[str]] = {}
    heading = ""
    for line in index.splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif heading and (link := _LINK.match(line)):
            found.setdefault(heading, []).append(link["target"])
    return found


def pages(repo: Path) -> list[Path]:
    """Return the files of all pages of the navigation of *repo*, relative to it, the index first.

    >>> import handbook
    >>> pages(Path(handbook.__file__).parent.parent)[0]
    PosixPath('docs/index.md')
    """
    found = sections((repo / "docs/index.md").read_text())
    targets = [target for group in found.values() for target in group]
    return [Path(os.path.normpath(Path("docs", name))) for name in ("index.md", *targets)]


def forgotten(repo: Path) -> list[str]:
    """Return the lines to add to docs/index.md for pages below docs/ that it does not name.

    >>> import handbook
    >>> forgotten(Path(handbook.__file__).parent.parent)
    []
    """
    named = set(pages(repo))
    below = sorted(path.relative_to(repo) for path in (repo / "docs").rglob("*.md"))
    return [f"- [...]({path.relative_to('docs')})" for path in below if path not in named]
