# SPDX-License-Identifier: Apache-2.0
"""The recordings and the witness that a newcomer sees first."""

from __future__ import annotations

import pytest

from ghesrace import cli
from tests.build.paths import EXAMPLES, REPO


@pytest.mark.parametrize(("name", "code"), [("stock", 0), ("control", 1)])
def test_examples_give_their_verdicts(name: str, code: int) -> None:
    """The first command that somebody tries would contradict the README."""
    assert cli.main(["check", str(EXAMPLES / f"{name}.arrows")]) == code


def test_the_readme_shows_what_check_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """A witness in the README that no recording gives would be made up."""
    cli.main(["check", str(EXAMPLES / "control.arrows")])
    out = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(out) if line.startswith("Finding 1"))
    behind = next(i for i, line in enumerate(out) if line.startswith("Episodes by"))
    witness = "\n".join(f"    {line}".rstrip() for line in out[first:behind]).rstrip()
    assert witness in (REPO / "README.md").read_text()
