# SPDX-License-Identifier: Apache-2.0
"""`make install` and `make uninstall` (packaging/install.sh), into a folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from handbook.__main__ import main
from handbook.completion import PLACES
from handbook.man import pages
from tests.build.paths import REPO


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python -m handbook` makes, with a page in place of the site."""
    folder = tmp_path_factory.mktemp("handbook")
    main([str(folder), "man", "completion"])
    page = folder / "share/doc/ghesrace/html/index.html"
    page.parent.mkdir(parents=True)
    page.write_text("the site")
    return folder


def script(what: str, root: Path, prefix: str, handbook: Path) -> None:
    bundle = handbook.parent / "bundle"
    bundle.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "DESTDIR": str(root),
        "prefix": prefix,
        "bundle": str(bundle),
        "handbook": str(handbook),
    }
    subprocess.run(["packaging/install.sh", what], cwd=REPO, env=environment, check=True)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("prefix", ["/usr", "/usr/local"])
def test_man_pages_completion_and_site_are_installed(
    prefix: str, tmp_path: Path, handbook: Path
) -> None:
    """The package would lack what only `make install` brings."""
    script("install", tmp_path, prefix, handbook)
    found = files(tmp_path)
    below = prefix.lstrip("/")
    for name in pages():
        assert f"{below}/share/man/man{name[-1]}/{name}.gz" in found
    for shell, place in PLACES.items():
        if shell == "zsh" and prefix != "/usr":
            # Debian's zsh looks into vendor-completions of /usr only.
            place = place.replace("vendor-completions", "site-functions")
        assert f"{below}/{place}" in found
    assert f"{below}/share/doc/ghesrace/html/index.html" in found
    assert f"{below}/share/doc/ghesrace/threat-model.md" in found


@pytest.mark.parametrize("prefix", ["/usr", "/usr/local"])
def test_uninstall_leaves_only_what_is_the_administrators(
    prefix: str, tmp_path: Path, handbook: Path
) -> None:
    """Files of a package that is gone would stay, and those of others would go."""
    others = tmp_path / prefix.lstrip("/") / "share/man/man1/other.1.gz"
    others.parent.mkdir(parents=True)
    others.touch()
    script("install", tmp_path, prefix, handbook)
    script("uninstall", tmp_path, prefix, handbook)
    assert files(tmp_path) == {str(others.relative_to(tmp_path)), "etc/ghesrace/ghesrace.toml"}
