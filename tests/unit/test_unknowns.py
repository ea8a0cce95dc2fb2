# SPDX-License-Identifier: Apache-2.0
"""The names of what a recording can't tell, where others repeat them."""

from __future__ import annotations

import json
from importlib import resources

from ghesrace.unknowns import UNKNOWNS, in_order
from tests.build.paths import REPO


def test_schemas_and_readme_have_every_name() -> None:
    """A name that the schema lacks makes valid JSON invalid; one that README lacks, a riddle."""
    for name, where in (("plan", "unknowns"), ("check", "qualified_by")):
        text = resources.files("ghesrace").joinpath(f"{name}.schema.json").read_text()
        assert json.loads(text)["properties"][where]["items"]["enum"] == list(UNKNOWNS)
    readme = (REPO / "README.md").read_text()
    assert all(f"| `{name}` |" in readme for name in UNKNOWNS)


def test_names_come_in_one_order() -> None:
    """Else the same file gives other JSON each time."""
    assert in_order({"clock", "losses"}) == ("losses", "clock") == in_order(["losses", "clock"])
