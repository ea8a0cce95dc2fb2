# SPDX-License-Identifier: Apache-2.0
"""The tables: what docs/survey.md says, and what no stranger's file may break."""

from __future__ import annotations

import re

from ghesrace.fleet.survey.tables import SCHEMAS, TABLES, arrow
from tests.build.paths import REPO


def test_the_documentation_has_each_column_with_its_type() -> None:
    """If this fails, docs/survey.md lacks what the data set has, or has what it lacks."""
    text = (REPO / "docs/survey.md").read_text()
    for table, columns in TABLES.items():
        section = text.partition(f"\n### {table}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
        rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", section, re.MULTILINE)
        assert rows == [(column.name, str(column.type), column.what) for column in columns]


def test_what_a_strangers_capture_may_say_fits() -> None:
    """If this fails, one name or number ends the survey of all others."""
    row = {"run": "a\ud800", "cause": "\0", "count": 2**70}
    tables = arrow({"losses": [row]})
    assert tables["losses"].to_pylist() == [{"run": "a?", "cause": "\0", "count": 2**63 - 1}]
    assert {name: table.schema for name, table in tables.items()} == SCHEMAS
