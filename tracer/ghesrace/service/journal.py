# SPDX-License-Identifier: Apache-2.0
"""Log lines: `event key=value ...` on stderr, with the priority that journald reads."""

from __future__ import annotations

import json
import sys
from typing import Literal, TextIO

Level = Literal["debug", "info", "warning", "error"]
# sd-daemon(3): "<N>" in front of a line is its syslog priority.
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3}


def _value(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    plain = text and all(c.isprintable() and c not in ' "=' for c in text)
    return text if plain else json.dumps(text, ensure_ascii=False)


class Log:
    """Writes lines of at least *level*; priorities are for journald, plain words for others."""

    def __init__(
        self, level: Level = "info", stream: TextIO | None = None, *, journald: bool = False
    ) -> None:
        self.level: Level = level
        self._stream = stream if stream is not None else sys.stderr
        self._journald = journald

    def say(self, event: str, level: Level = "info", **fields: object) -> None:
        """One line. Never raises: a full or closed log must not stop the watch."""
        if _PRIORITY[level] > _PRIORITY[self.level]:
            return
        prefix = f"<{_PRIORITY[level]}>" if self._journald else f"ghesrace: {level}: "
        words = [event, *(f"{name}={_value(value)}" for name, value in fields.items())]
        try:
            print(prefix + " ".join(words), file=self._stream, flush=True)
        except (OSError, ValueError):
            return
