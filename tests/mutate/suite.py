# SPDX-License-Identifier: Apache-2.0
"""What kills mutants: the litmus cases, whole and in pieces, the checker's plain unit tests, and
random records, worlds and storms whose answers are pinned. At most 5 s in all.

It is imported anew for each mutant, with the mutated module; keep what it imports small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tests.litmus.judge import differences, judged, judged_in_pieces
from tests.litmus.parse import CASES, load

from .plain import plain

Check = tuple[str, Callable[[], object]]
# Each n-th case is judged in pieces too: all of them take 11 s with the engine of array passes.
IN_PIECES = 6
# Of random records and worlds each n-th is judged here, all by tests/unit/test_mutate.py; by their
# numbers' last digit each other one is cut.
OTHERS = 3


def checks() -> Iterator[Check]:
    """Name and check, one after the other; a check returns what is wrong, or raises."""
    files = sorted(CASES.glob("*.litmus"))
    pinned = import_module("tests.mutate.pinned")
    pins = pinned.pinned()
    for path in files:
        pin = pins.pop(path.stem, "").partition(" ")[0]
        yield f"litmus {path.stem}", lambda path=path, pin=pin: _whole(path, pin, pinned)
    for path in files[::IN_PIECES]:
        yield f"pieces {path.stem}", lambda path=path: _pieces(path)
    yield from plain()
    storms = [
        name for name in pins if name.startswith("storm")
    ]  # which kill most, so they are first
    others = [name for name in pins if not name.startswith("storm")]
    for name in (*storms, *others[::OTHERS]):
        yield f"pinned {name}", lambda name=name: _told(pinned, name, pins[name])


def _told(pinned: ModuleType, name: str, answer: str) -> str:
    told: str = pinned.told(name)
    return "" if told == answer else f"{told}, pinned: {answer}"


def _whole(path: Path, pin: str, pinned: ModuleType) -> object:
    case = load(path)
    report = judged(case)
    wrong = differences(case, report)
    if not wrong and pin and pinned.digest(report) != pin:
        return f"counts, findings or witnesses are not those of pin {pin}"
    return wrong


def _pieces(path: Path) -> object:
    case = load(path)
    report = judged_in_pieces(case, *sorted(set(case.stream["ts"].tolist())))
    return differences(case, report)
