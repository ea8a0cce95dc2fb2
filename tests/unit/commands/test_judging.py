# SPDX-License-Identifier: Apache-2.0
"""A file judged for the commands; `check` and `diff` hold the rest of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ghesrace.commands.judging import How, judge_file
from ghesrace.errors import InputError
from ghesrace.render.judgement import Failure, Judgement
from ghesrace.sources import FileSource


def test_what_comes_then_sees_the_source_and_the_judgement(observed: Path) -> None:
    """If this fails, a renderer that needs the events gets none."""
    seen: list[Any] = []
    judged = judge_file(observed, How(), then=lambda source, one: seen.extend((source, one)))
    assert isinstance(judged, Judgement)
    source, one = seen
    assert one is judged
    assert list(source.batches())  # It can be read again.


def test_an_input_error_of_what_comes_then_is_the_files(
    observed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a file that changed while it was read again ends the command."""

    def fail(_source: FileSource, _judged: Judgement) -> None:
        raise InputError("it changed", "record again")

    judged = judge_file(observed, How(), then=fail)
    assert isinstance(judged, Failure)
    assert judged.what == f"{observed}: it changed"
    assert "it changed" in capsys.readouterr().err


def test_it_is_judged_as_it_is_asked(predicted: Path) -> None:
    """If this fails, an option of the command line changes nothing."""
    codes = [judge_file(predicted, How(fail_on=on)).code for on in ("predicted", "observed")]
    assert codes == [1, 0]
