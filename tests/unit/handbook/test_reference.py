# SPDX-License-Identifier: Apache-2.0
"""The generated pages: nothing that the code has is missing."""

from __future__ import annotations

import json
import re
from importlib import resources

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ghesrace.points import families
from ghesrace.render.words import WORDS
from ghesrace.service.config import keys
from ghesrace.service.metrics.families import TABLE
from handbook import reference
from handbook.epilog import read
from handbook.parsers import arguments, commands

PAGES = reference.pages()


def test_commands_have_all_options_and_exit_codes() -> None:
    """A reference with holes is none."""
    parts = PAGES["commands.md"].split("\n## ghesrace ")[1:]
    assert [part.split()[0] for part in parts] == list(commands())
    for part, command in zip(parts, commands().values(), strict=True):
        for action in arguments(command):
            assert all(f"`{option}" in part for option in action.option_strings)
        for section in read(command.epilog or "")[1]:
            for term, text in section.entries:
                assert f"| `{term}` | {reference.cell(text)} |" in part
                if section.heading == "exit codes":
                    assert f"| {reference.cell(text)} |" in PAGES["exit-codes.md"]


def _properties(schema: object) -> set[str]:
    found: set[str] = set()
    if isinstance(schema, dict):
        found |= set(schema.get("properties", {}))
        for key, value in schema.items():
            found |= set() if key == "oneOf" else _properties(value)
    elif isinstance(schema, list):
        for value in schema:
            found |= _properties(value)
    return found


def test_json_has_every_field_of_the_schemas() -> None:
    """A field that only the schema's own text documents."""
    text = PAGES["json.md"]
    for name in ("check", "plan"):
        file = resources.files("ghesrace").joinpath(f"{name}.schema.json")
        fields = _properties(json.loads(file.read_text()))
        assert len(fields) > 30
        missing = {f for f in fields if f"`{f}`" not in text and f".{f}`" not in text}
        assert missing == set(), name


def test_tables_have_every_row() -> None:
    """A metric, a key, a probe point or a word that the reference does not know."""
    assert all(f"`ghesrace_{name}" in PAGES["metrics.md"] for name in TABLE)
    rows = [key.partition(".")[2] for key in keys()]
    assert all(f"| `{key}` |" in PAGES["configuration.md"] for key in rows)
    for family in families():
        for point in family.points:
            assert f"### {point.name}\n" in PAGES["probes.md"]
            for one in point.candidates:
                assert f"| `{one.symbol or one.tracepoint}` |" in PAGES["probes.md"]
    assert all(f"| `{word.name}` |" in PAGES["words.md"] for word in WORDS)


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=40)


@given(TEXT.filter(lambda text: "``" not in text))
@example("a `b_c|d` e").via("code stays code")
def test_a_cell_shows_the_text_as_it_is(text: str) -> None:
    """`NAME,...` or `<FILE>` of a help text would become markup, or break its table."""
    page = reference.table(["a"], [[f"x{reference.cell(text)}x"]])
    rendered = MarkdownIt("commonmark").enable("table").parse(page)
    (cell,) = [t for t in rendered if t.type == "inline"][1:]
    seen = "".join(child.content for child in cell.children or [])
    # In pairs of backticks is code, whose outermost blanks CommonMark leaves out.
    wanted = re.sub(r"`\s*([^`]+?)\s*`", r"\1", " ".join(text.split()))
    assert re.sub(r"\s", "", seen) == re.sub(r"\s", "", f"x{wanted}x")
