# SPDX-License-Identifier: Apache-2.0
"""The daemon's log lines."""

from __future__ import annotations

import io

from ghesrace.service.journal import Log


def test_log_lines_are_one_line_and_quoted() -> None:
    """If this fails, a value with a blank or a newline breaks the log's parsers."""
    out = io.StringIO()
    log = Log("info", out, journald=True)
    log.say("x", "warning", a="b c", n=1, t='say "hi"\n')
    log.say("y", "debug")
    assert out.getvalue() == '<4>x a="b c" n=1 t="say \\"hi\\"\\n"\n'
