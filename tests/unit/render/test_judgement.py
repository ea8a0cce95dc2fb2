# SPDX-License-Identifier: Apache-2.0
"""What renderers get of a file."""

from __future__ import annotations

from ghesrace.checker.engine import Engine
from ghesrace.errors import InputError
from ghesrace.render.judgement import Failure, Judgement
from ghesrace.render.redact import Redactor
from tests.build.trace import plan


def test_redacting_keeps_what_the_exit_code_says() -> None:
    """If this fails, --redact changes a verdict."""
    judged = Judgement("a-host.arrows", Engine(plan()).report(), plan(), {"arch": "x86_64"}, 3)
    made = judged.redact(Redactor(), "file 1")
    assert (made.file, made.code, made.redacted) == ("file 1", 3, True)
    assert made.report.verdict is judged.report.verdict
    assert not judged.redacted


def test_a_failure_keeps_its_reason_without_the_path() -> None:
    """If this fails, the path of a file that can't be read is handed on, or why it can't."""
    error = InputError("/srv/mine.txt: an event at 0x7c0de000", "look at /srv/mine.txt")
    failure = Failure.of("/srv/mine.txt", error)
    assert (failure.what, failure.code) == (error.what, 2)
    made = failure.redact(Redactor(), "file 2")
    assert (made.what, made.hint) == ("file 2: an event at 0x4de000", "look at file 2")
