# SPDX-License-Identifier: Apache-2.0
"""The site: it builds without a network, its links lead somewhere, and it loads nothing."""

from __future__ import annotations

import re
import socket
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from handbook import nav, site
from tests.build.paths import REPO

# The site is built once for all of them.
pytestmark = pytest.mark.slow


class _Page(HTMLParser):
    """The anchors of a page, where it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        target = found.get("href" if tag in ("a", "link") else "src", "")
        if target and tag == "a":
            self.links.add(target)
        elif target and not target.startswith("data:"):
            self.loads.add(target)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this repository. Building it opens no socket."""
    target = tmp_path_factory.mktemp("site") / "html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a network was asked"))
        assert site.build(target) == 0
    return target


@pytest.fixture(scope="module")
def pages(built: Path) -> dict[Path, _Page]:
    return {path: _Page(path.read_text()) for path in built.rglob("*.html")}


def test_every_page_is_built(built: Path, pages: dict[Path, _Page]) -> None:
    """A page of docs/ would be missing from the package."""
    wanted = {built / page.with_suffix(".html") for page in nav.pages(REPO)}
    assert wanted <= set(pages)
    assert len(list((built / "docs/reference").glob("*.html"))) == 7
    assert "url=docs/index.html" in (built / "index.html").read_text()


def test_every_link_leads_to_a_page_and_its_anchor(pages: dict[Path, _Page]) -> None:
    """A reader meets a page that is not there, or its top instead of the place that was meant."""
    tried = 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), (path.name, link)
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in pages[target].anchors, (path.name, link)
            tried += 1
    assert tried > 1000


def test_nothing_is_loaded_from_elsewhere(built: Path, pages: dict[Path, _Page]) -> None:
    """Offline the page would lack its style; online it would tell others who reads it."""
    for path, page in pages.items():
        for target in page.loads:
            assert not urlsplit(target).netloc, (path.name, target)
            assert (path.parent / urlsplit(target).path).exists(), (path.name, target)
    for style in built.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text()), style


def test_options_stand_as_they_are_typed(built: Path) -> None:
    """Typography makes one long dash of two hyphens; who copies it gets an error."""
    text = (built / "docs/reference/commands.html").read_text()
    assert "until Ctrl-C or --duration" in text
    assert 'role="heading">' not in text


def small(tmp_path: Path, body: str) -> int:
    repo = tmp_path / "repo"
    (repo / "docs").mkdir(parents=True)
    (repo / "docs/index.md").write_text("# Top\n\n## Reference\n\n- [One](one.md)\n")
    (repo / "docs/one.md").write_text(f"# One\n\n{body}\n\n## A part\n")
    for name in ("systemd/ghesrace.toml", "docs/daemon.md"):
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_text("# Daemon\n\n## Metrics\n")
    with (repo / "docs/index.md").open("a") as index:
        index.write("- [Daemon](daemon.md)\n")
    for name in ("check", "plan", "host-report"):
        schema = repo / f"tracer/ghesrace/{name}.schema.json"
        schema.parent.mkdir(parents=True, exist_ok=True)
        schema.write_text("{}")
    return site.build(tmp_path / "html", repo)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("[good](one.md#a-part) and [good](daemon.md)", 0),
        ("[no such page](two.md)", 1),
        ("[no such anchor](one.md#another-part)", 1),
        ("[no such file](../LICENSE)", 1),
    ],
)
def test_a_broken_link_ends_the_build_with_1(
    body: str, code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`make docs` would call a site good that has broken links."""
    assert small(tmp_path, body) == code
    assert ("WARNING" in capfd.readouterr().err) == bool(code)


def test_a_forgotten_page_ends_the_build(tmp_path: Path) -> None:
    """A page that was merged would be in no menu."""
    repo = tmp_path / "repo"
    (repo / "docs").mkdir(parents=True)
    (repo / "docs/index.md").write_text("# Top\n\n## Reference\n\n")
    (repo / "docs/new.md").write_text("# New\n")
    with pytest.raises(ValueError, match=re.escape("- [...](new.md)")):
        site.build(tmp_path / "html", repo)


def test_keys_reach_what_scrolls(built: Path) -> None:
    """On a narrow screen whoever has no mouse could not read the right half of a table."""
    text = (built / "docs/rules.html").read_text()
    assert '<div class="table-wrapper' not in text
    assert '<div tabindex="0" class="table-wrapper' in text
    assert "<pre>" not in text
    assert 'role="heading">' not in text
