# SPDX-License-Identifier: Apache-2.0
"""`ghesrace doctor`: its exit code, and the same answers in both forms."""

from __future__ import annotations

import json

import pytest

from ghesrace import cli
from ghesrace.doctor import checks
from ghesrace.doctor.checks import Check

GOOD = Check("tracefs", "ok", "mounted")
BAD = Check("GHES driver", "missing", "no ACPI APEI GHES code", needed=True)
EXTRA = Check("bcc", "missing", "not installed", needed=False)


@pytest.mark.parametrize(
    ("made", "code", "last"),
    [
        ([GOOD, EXTRA], 0, "A capture can run here."),
        ([GOOD, BAD], 3, "No capture can run here: see what is missing above."),
    ],
)
def test_both_forms_give_the_same_answer(
    made: list[Check],
    code: int,
    last: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A script that asks for JSON would be told that a host is ready which is not."""
    monkeypatch.setattr(checks, "run", lambda: iter(made))
    assert cli.main(["doctor"]) == code
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == last
    assert cli.main(["doctor", "--format", "json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["ready"] == (code == 0)
    assert [check["name"] for check in document["checks"]] == [check.name for check in made]
    assert all(check.name in text and check.found in text for check in made)
