# SPDX-License-Identifier: Apache-2.0
"""`make install`, `make uninstall` and packages (packaging/), in a folder."""

from __future__ import annotations

import configparser
import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ghesrace import __version__
from handbook.__main__ import main
from handbook.completion import PLACES
from handbook.man import pages
from lab.kernels.extensions import PYTHONS
from tests.build.paths import REPO

CHANGELOG = (REPO / "CHANGELOG.md").read_text()
needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")


def metadata() -> configparser.SectionProxy:
    """What setup.cfg says that this is."""
    parser = configparser.ConfigParser()
    parser.read(REPO / "setup.cfg")
    return parser["metadata"]


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
    (bundle / ".done").touch()
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


@pytest.mark.slow
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
    # make's stamp: a bundle that make did not build has none, and the packages would differ.
    assert f"{below}/lib/ghesrace/.done" not in found


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


def package(out: Path, handbook: Path) -> Path:
    """A package of trixie for arm64, whose bundle is one module."""
    bundle = out / "bundle"
    (bundle / "ghesrace").mkdir(parents=True)
    (bundle / "ghesrace/cli.py").write_text("pass\n")
    environment = {
        **os.environ,
        "out": str(out),
        "bundle": str(bundle),
        "handbook": str(handbook),
    }
    subprocess.run(
        ["packaging/deb.sh", "arm64", "trixie"],
        cwd=REPO,
        env=environment,
        check=True,
        capture_output=True,
    )
    [made] = out.glob("*.deb")
    return made


@pytest.mark.slow
@needs_dpkg
def test_two_packages_have_the_same_bytes(tmp_path: Path, handbook: Path) -> None:
    """Nobody could tell whether a package is made of this source."""
    first, second = package(tmp_path / "a", handbook), package(tmp_path / "b", handbook)
    version = metadata()["version"]
    assert first.name == second.name == f"ghesrace_{version}+deb13_arm64.deb"
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
@needs_dpkg
def test_package_has_no_bytecode_and_debians_changelog(tmp_path: Path, handbook: Path) -> None:
    """Bytecode is of one Python and differs from build to build; lintian refuses both."""
    made = package(tmp_path / "a", handbook)
    subprocess.run(["dpkg-deb", "-x", made, tmp_path / "x"], check=True)
    assert not list((tmp_path / "x").rglob("__pycache__"))
    log = gzip.decompress((tmp_path / "x/usr/share/doc/ghesrace/changelog.gz").read_bytes())
    assert log.decode().startswith(f"ghesrace ({metadata()['version']}+deb13) unstable; ")
    fields = subprocess.run(["dpkg-deb", "-f", made], capture_output=True, text=True).stdout
    assert "python3 (>= 3.13), python3 (<< 3.13.99)" in fields


def test_the_newest_release_is_this_version() -> None:
    """A package's changelog would tell of another version than it is."""
    released = re.findall(r"^## \[(\d[\d.]*)\] - \d{4}-\d\d-\d\d$", CHANGELOG, re.M)
    assert released[0] == metadata()["version"] == __version__


def test_every_licence_has_its_text() -> None:
    """Debian's copyright file would name a licence whose words are nowhere."""
    text = (REPO / "packaging/debian/copyright").read_text()
    paragraphs = [p for p in text.split("\n\n") if p.strip()]
    stated = {
        p.split("\n", 1)[0].removeprefix("License: ") for p in paragraphs if p[:8] == "License:"
    }
    used = set()
    for paragraph in paragraphs:
        if paragraph.startswith("Files:"):
            found = re.search(r"^License: (.+)$", paragraph, re.M)
            assert found, paragraph
            used |= set(found[1].split(" and "))
    assert used == stated


def test_bundled_wheels_are_pinned_by_hash_for_each_python_and_architecture() -> None:
    """Another wheel than was tried would be shipped, or none be found for arm64 or trixie."""
    text = (REPO / "packaging/bundle.txt").read_text()
    pins = re.split(r"^(?=\w)", text, flags=re.M)[1:]
    names = [pin.partition("==")[0] for pin in pins]
    assert names == ["fsspec", "msgspec", "numpy", "pyarrow"]
    for name, pin in zip(names, pins, strict=True):
        wheels = 1 if name == "fsspec" else len(PYTHONS) * len(("amd64", "arm64"))
        assert pin.count("--hash=sha256:") == wheels  # fsspec's is for all, the others are compiled
