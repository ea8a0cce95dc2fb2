# SPDX-License-Identifier: Apache-2.0
"""This module writes log lines, `event key=value ...`, to stderr, with the priority that journald
reads.
"""

from __future__ import annotations

import json
import sys
from typing import Literal, TextIO

Level = Literal["debug", "info", "warning", "error"]
# According to sd-daemon(3), "<N>" in front of a line is its syslog priority.
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3}


def _value(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    plain = text and all(c.isprintable() and c not in ' "=' for c in text)
    return text if plain else json.dumps(text, ensure_ascii=False)


class Log:
    """A log writes lines of at least *level* to *stream* (stderr by default). With *journald* they
    begin with a priority, and otherwise with plain words.

    >>> import sys
    >>> Log(stream=sys.stdout).say("cpus", "warning", online=8)
    ghesrace: warning: cpus online=8
    """

    def __init__(
        self, level: Level = "info", stream: TextIO | None = None, *, journald: bool = False
    ) -> None:
        self.level: Level = level
        self._stream = stream if stream is not None else sys.stderr
        self._journald = journald

    def say(self, event: str, level: Level = "info", **fields: object) -> None:
        """Write one line. It never raises OSError or ValueError, because a full or closed log must
        not stop the watch."""
        if _PRIORITY[level] > _PRIORITY[self.level]:
            return
        prefix = f"<{_PRIORITY[level]}>" if self._journald else f"ghesrace: {level}: "
        words = [event, *(f"{name}={_value(value)}" for name, value in fields.items())]
        try:
            print(prefix + " ".join(words), file=self._stream, flush=True)
        except (OSError, ValueError):
            return
