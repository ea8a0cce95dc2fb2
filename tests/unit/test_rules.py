# SPDX-License-Identifier: Apache-2.0
"""docs/rules.md against the litmus cases: what it draws is what is run."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import pytest

from tests.litmus.draw import Drawing, drawn, redrawn
from tests.litmus.parse import CASES, Case, load
from tests.litmus.words import CAUSES, CLASSES

RULES = Path(__file__).parents[2] / "docs" / "rules.md"
TEXT = RULES.read_text(encoding="utf-8")
DRAWINGS = list(drawn(TEXT))
LINK = re.compile(r"\]\(\.\./tests/litmus/cases/([^)#]+)\.litmus\)")
FINDINGS = [
    f"pattern {pattern} {severity}"
    for pattern in ("stale", "torn_edit", "shootdown", "overlap")
    for severity in ("observed", "predicted")
    if (pattern, severity) != ("overlap", "predicted")  # which the rules never say
]


def test_each_drawing_is_its_case() -> None:
    """The page shows something else than what is tested: `python -m tests.litmus.draw` mends it."""
    assert redrawn(TEXT) == TEXT
    assert len(DRAWINGS) == TEXT.count("<!-- draws ") == TEXT.count("```text\n")


def test_each_link_leads_to_a_case() -> None:
    """A reader of the rules would meet a case that is gone, and nobody would run it."""
    linked = set(LINK.findall(TEXT))
    assert linked <= {path.stem for path in CASES.glob("*.litmus")}
    assert {drawing.name for drawing in DRAWINGS} <= linked


@pytest.mark.parametrize(
    "what",
    [*(f"class {name}" for name in CLASSES), *(f"cause {name}" for name in CAUSES), *FINDINGS],
)
def test_there_is_a_drawing_of(what: str) -> None:
    """A class, a cause of uncertainty or a pattern would be explained in words only."""
    assert [drawing for drawing in DRAWINGS if what in drawing.shows]


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: drawing.name)
def test_a_drawing_shows_what_the_page_says(drawing: Drawing) -> None:
    """The example of a class, a cause or a pattern would be of another one."""
    case = load(CASES / f"{drawing.name}.litmus")
    for what in drawing.shows:
        kind, _, name = what.partition(" ")
        if kind in ("class", "cause", "pattern"):
            assert name in said(case, kind), what


def said(case: Case, kind: str) -> set[str]:
    """What the case expects of that *kind*: its classes, causes or findings."""
    if kind == "pattern":
        return {f"{pattern} {severity}" for pattern, severity, *_ in case.findings}
    slots = case.classes if kind == "class" else case.causes
    return set(chain.from_iterable(slots.values()))


def test_the_contents_lead_somewhere() -> None:
    """A link of the table of contents, or within the page, would lead nowhere."""
    heads = {
        re.sub(r"[^a-z0-9_ -]", "", head.lower()).replace(" ", "-")
        for head in re.findall(r"^#+ (.*)$", TEXT, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= heads
    for name in re.findall(r"\]\((?!\.\.|#|http)([^)#]+)", TEXT):
        assert (RULES.parent / name).exists(), name


def test_drawing_changes_only_the_blocks() -> None:
    """The tool would damage the text around, or leave an old drawing."""
    path = CASES / "start.litmus"
    before = "a\n<!-- draws start: class uncertain -->\n```text\nold\n```\nb\n"
    assert redrawn(before).startswith("a\n<!-- draws start: class uncertain -->\n```text\nCPU 0\n")
    assert redrawn(before).endswith("end\n```\nb\n")
    assert path.read_text(encoding="utf-8").endswith("end\n")
