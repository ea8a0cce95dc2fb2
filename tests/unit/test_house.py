# SPDX-License-Identifier: Apache-2.0
"""The house: what is packaged, and what the documentation says of it, is what is there."""

from __future__ import annotations

import configparser
import re

from tests.build.paths import REPO

PACKAGE = REPO / "tracer" / "ghesrace"
_DOCUMENTED = re.compile(r"`((?:[\w-]+/)+|(?:[\w-]+/)*[\w-]+\.(?:py|json|ini))`")


def test_every_package_is_in_the_wheel() -> None:
    """If this fails, a folder is missing from the wheel and the deb: `import` fails there only."""
    config = configparser.ConfigParser()
    config.read(REPO / "setup.cfg")
    packaged = set(config["options"]["packages"].split()) - {"ghesrace_probes"}
    found = {
        ".".join(path.parent.relative_to(REPO / "tracer").parts)
        for path in PACKAGE.rglob("__init__.py")
    }
    assert packaged == found


def test_every_folder_with_code_is_a_package() -> None:
    """If this fails, a folder has no face that says what it is for, and is not packaged."""
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        text = (folder / "__init__.py").read_text()
        assert '"""' in text, folder


def test_architecture_names_what_is_there() -> None:
    """If this fails, the page sends a newcomer to a file that was moved."""
    text = (REPO / "docs/architecture.md").read_text()
    for row in text.splitlines():
        cells = row.split("|")
        if len(cells) < 4:
            continue
        place, what = cells[2], "|".join(cells[3:])
        named = [PACKAGE / name for name in re.findall(r"`([\w/.]+)`", place)]
        folders = [REPO, PACKAGE, *named, *(path.parent for path in named)]
        for name in _DOCUMENTED.findall(place) + _DOCUMENTED.findall(what):
            if "NAME" in name:  # of a file to be made
                continue
            assert any((folder / name).exists() for folder in folders), f"{name} in: {row}"
