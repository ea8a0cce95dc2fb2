# SPDX-License-Identifier: Apache-2.0
"""What kills mutants: the litmus cases, whole and in pieces. At most 5 s in all.

It is imported anew for each mutant, with the mutated module; keep what it imports small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.litmus.judge import CUT, differences, judged, judged_in_pieces, wrong_today
from tests.litmus.parse import CASES, load

Check = tuple[str, Callable[[], object]]
# Each n-th case is judged in pieces too: all of them take 11 s with the engine of array passes.
IN_PIECES = 4


def checks() -> Iterator[Check]:
    """Name and check, one after the other; a check returns what is wrong, or raises."""
    wrong = wrong_today()
    files = sorted(CASES.glob("*.litmus"))
    for path in files:
        if not wrong.get(path.stem, set()) - {CUT}:
            yield f"litmus {path.stem}", lambda path=path: _whole(path)
    for path in files[::IN_PIECES]:
        if path.stem not in wrong:
            yield f"pieces {path.stem}", lambda path=path: _pieces(path)


def _whole(path: Path) -> object:
    case = load(path)
    return differences(case, judged(case))


def _pieces(path: Path) -> object:
    case = load(path)
    report = judged_in_pieces(case, *sorted(set(case.stream["ts"].tolist())))
    return differences(case, report)
