# SPDX-License-Identifier: Apache-2.0
"""The words of a litmus case (README.md), and the errors that name its lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ghesrace.checker.patterns.torn_edit import OTHER_TABLE, SAME_TABLE
from ghesrace.events import PAGE_SIZE, Kind

FIRST_ADDRESS = 0xFFFFFFFFFF57B000
STEP = 10_000  # ns between two lines
START = 1_000_000  # ns: when the last probe was attached
KINDS = {
    "notify": Kind.NOTIFY,
    "end": Kind.NOTIFY_END,
    "map": Kind.MAP,
    "map-end": Kind.MAP_END,
    "unmap": Kind.UNMAP,
    "unmap-end": Kind.UNMAP_END,
    "copy": Kind.COPY,
    "copy-end": Kind.COPY_END,
    "read": Kind.READ,
    "write": Kind.WRITE,
    "invlpg": Kind.INV_PAGE,
    "inv-range": Kind.INV_RANGE,
    "inv-all": Kind.INV_ALL,
    "bcast": Kind.BCAST_RANGE,
    "bcast-all": Kind.BCAST_ALL,
    "bcast-end": Kind.BCAST_END,
    "back": Kind.NMI_REF,
    "edit": Kind.EDIT,
    "edit-end": Kind.EDIT_END,
    "shootdown": Kind.SHOOTDOWN,
}
VERDICTS = ("race-observed", "race-predicted", "inconclusive", "clean")
CLASSES = ("fresh", "broadcast", "map-flush", "same-frame", "incidental", "none", "uncertain")
CAUSES = ("start", "loss", "order", "pti", "inconsistent")
PATTERNS = ("stale", "torn-edit", "shootdown", "overlap")
HARMLESS = {"same-table": SAME_TABLE, "other-table": OTHER_TABLE}


class LitmusError(ValueError):
    """A case can't be read; the message begins with file:line."""


@dataclass(slots=True)
class Place:
    """Where in which file we are, for the errors."""

    path: Path
    line: int = 0

    def error(self, text: str, line: int | None = None) -> LitmusError:
        """The error that says *text* of this *line* (without: the current one)."""
        return LitmusError(f"{self.path}:{line or self.line}: {text}")

    def number(self, text: str, line: int | None = None) -> int:
        """*text* as a number, decimal or with 0x. Raises LitmusError."""
        try:
            return int(text, 0)
        except ValueError:
            raise self.error(f"{text!r} is not a number", line) from None

    def choice(self, text: str, among: tuple[str, ...], line: int | None = None) -> str:
        """*text*, which is one of *among*. Raises LitmusError."""
        if text not in among:
            raise self.error(f"{text!r} is none of {', '.join(among)}", line)
        return text


def frame(letter: str) -> int:
    """The physical address (bytes) of the frame that a case calls *letter*, A to Z."""
    return 0x70000000 + (ord(letter) - ord("A")) * PAGE_SIZE
