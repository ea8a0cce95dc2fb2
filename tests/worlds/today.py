# SPDX-License-Identifier: Apache-2.0
"""The worlds that `make test` runs, and what today's engine says wrongly of them.

`python -m tests.worlds.today` writes `wrong-today.txt` anew: `MODE SEED KIND` on a line. The test
compares, so a new difference fails, and a repair that nobody noticed does too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .judge import Engine, judged
from .world import MODES, draw

FILE = Path(__file__).parent / "wrong-today.txt"
WORLDS = {"plain": 100, "order": 250, "start": 200, "loss": 300, "many": 60, "unrecorded": 100}
PIECES = 4  # of each mode: tests that may run side by side
HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# What today's engine says wrongly of the worlds that `make test` runs: MODE SEED KIND, one a line.
# tests/unit/test_worlds.py asserts that this is all, and that all of it is still so: who repairs
# something writes the file anew (python -m tests.worlds.today). Kinds: tests/worlds/judge.py.
"""

Line = tuple[str, int, str]


def seeds(mode: str, piece: int) -> range:
    """The seeds of one piece of a mode."""
    return range(piece, WORLDS[mode], PIECES)


def wrong(mode: str, piece: int, engine: Any = Engine) -> set[Line]:
    """What *engine* says wrongly of the worlds of one piece."""
    return {
        (mode, seed, difference.kind)
        for seed in seeds(mode, piece)
        for difference in judged(draw(mode, seed), engine)
    }


def listed() -> set[Line]:
    """The lines of the file."""
    lines = [line.split() for line in FILE.read_text().splitlines() if not line.startswith("#")]
    return {(mode, int(seed), kind) for mode, seed, kind in lines}


def main() -> None:
    """Write the file."""
    found = [line for mode in MODES for piece in range(PIECES) for line in wrong(mode, piece)]
    found.sort(key=lambda line: (MODES.index(line[0]), *line[1:]))
    FILE.write_text(HEAD + "".join(f"{mode} {seed} {kind}\n" for mode, seed, kind in found))


if __name__ == "__main__":
    main()
