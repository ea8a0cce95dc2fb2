# SPDX-License-Identifier: Apache-2.0
"""The pictures of docs/examples.md."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ghesrace.errors import InputError
from lab import pictures
from lab.examples import EXAMPLES, Example
from tests.build.captures import capture
from tests.build.paths import EXAMPLES as FOLDER
from tests.build.paths import REPO
from tests.build.trace import Trace

PAGE = (REPO / "docs/examples.md").read_text()
SVG = "{http://www.w3.org/2000/svg}"
LARGEST = 16 << 10  # bytes


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_each_is_what_its_capture_shows(example: Example) -> None:
    """The documentation would show something that is not there any more.

    `python -m lab.pictures` draws them again.
    """
    path = REPO / "docs" / "pictures" / f"{example.name}.svg"
    text = path.read_text()
    assert text == pictures.drawn(FOLDER / example.file)
    assert len(text) < LARGEST
    assert re.search(rf"!\[[^\]]{{20,}}\]\(pictures/{example.name}\.svg\)", PAGE)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_each_stands_alone(example: Example) -> None:
    """A viewer of images runs no scripts, loads nothing and has no style sheet of the report's."""
    top = ElementTree.fromstring(pictures.drawn(FOLDER / example.file))
    assert top.tag == f"{SVG}svg"
    style = top.findtext(f"{SVG}style") or ""
    assert style.count("{") == style.count("}") > 10
    for element in top.iter():
        assert element.tag.startswith(SVG)
        assert element.tag != f"{SVG}script"
        assert not [name for name in element.attrib if "href" in name or name.startswith("on")]
    drawn = {name for e in top.iter() for name in e.get("class", "").split()}
    known = set(re.findall(r"\.([a-z-]+)", style))
    assert drawn - known <= {"time", "notify", "map", "unmap", "other", "over-time"}
    assert len(list(top.iter(f"{SVG}rect"))) + len(list(top.iter(f"{SVG}circle"))) > 2


def test_what_has_nothing_to_draw_is_told(tmp_path: Path) -> None:
    """An empty picture would stand in the documentation."""
    with pytest.raises(InputError, match="nothing to draw"):
        pictures.drawn(capture(tmp_path / "quiet.arrows", Trace()))


@pytest.mark.slow
def test_they_are_drawn_where_it_is_asked(tmp_path: Path) -> None:
    """`make examples` would leave the old ones."""
    assert pictures.main([str(tmp_path)]) == 0
    assert {path.stem for path in tmp_path.iterdir()} == {one.name for one in EXAMPLES}
