# SPDX-License-Identifier: Apache-2.0
"""docs/index.md as the navigation: every page is in it."""

from __future__ import annotations

from pathlib import Path

from handbook import nav
from tests.build.paths import REPO


def test_every_page_of_docs_is_in_the_navigation() -> None:
    """A page that nobody finds. The lines that are printed belong into docs/index.md."""
    assert nav.forgotten(REPO) == []


def test_every_page_of_the_navigation_is_there_once() -> None:
    """A page was moved, or stands in two places."""
    found = nav.pages(REPO)
    assert len(found) == len(set(found)) > 25
    assert [page for page in found if not (REPO / page).exists()] == []


def test_the_four_kinds_of_documentation_have_pages() -> None:
    """A newcomer is looking for a tutorial and gets a reference."""
    found = nav.sections((REPO / "docs/index.md").read_text())
    assert list(found)[:4] == ["Tutorial", "How to", "Reference", "Explanation"]


def test_a_new_page_is_told_with_its_line(tmp_path: Path) -> None:
    """Whoever adds a page would have to look for what to do."""
    (tmp_path / "docs/more").mkdir(parents=True)
    (tmp_path / "docs/index.md").write_text("# Top\n\n## How to\n\n- [One](one.md)\n")
    (tmp_path / "docs/one.md").write_text("# One\n")
    (tmp_path / "docs/more/two.md").write_text("# Two\n")
    assert nav.forgotten(tmp_path) == ["- [...](more/two.md)"]
