# SPDX-License-Identifier: Apache-2.0
"""What kills mutants: the litmus cases, whole and in pieces, fixed worlds, and random records whose
answers are pinned. At most 5 s in all.

It is imported anew for each mutant, with the mutated module; keep what it imports small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from tests.litmus.judge import differences, judged, judged_in_pieces
from tests.litmus.parse import CASES, load

Check = tuple[str, Callable[[], object]]
# Each n-th case is judged in pieces too: all of them take 11 s with the engine of array passes.
IN_PIECES = 6
WORLDS = 15  # of each mode: 11 ms each


def checks() -> Iterator[Check]:
    """Name and check, one after the other; a check returns what is wrong, or raises."""
    files = sorted(CASES.glob("*.litmus"))
    for path in files:
        yield f"litmus {path.stem}", lambda path=path: _whole(path)
    for path in files[::IN_PIECES]:
        yield f"pieces {path.stem}", lambda path=path: _pieces(path)
    yield from _pinned()
    if find_spec("tests.worlds"):
        yield from _worlds()


def _pinned() -> Iterator[Check]:
    """Records to whose answer the oracle has nothing to say: another answer is a worse one."""
    pinned = import_module("tests.mutate.pinned")
    for seed, answer in pinned.pinned().items():
        yield f"pinned {seed}", lambda seed=seed, answer=answer: _told(pinned, seed, answer)


def _told(pinned: ModuleType, seed: int, answer: str) -> str:
    told: str = pinned.told(seed)
    return "" if told == answer else f"{told}, pinned: {answer}"


def _worlds() -> Iterator[Check]:
    """Worlds whose truth is known: what the checker is certain of must be so."""
    world, judge = (import_module(f"tests.worlds.{name}") for name in ("world", "judge"))
    for seed in range(WORLDS):
        for mode in world.MODES:
            played = world.play(world.draw(mode, seed))
            yield f"world {mode} {seed}", lambda played=played: judge.judge(played, turns=())


def _whole(path: Path) -> object:
    case = load(path)
    return differences(case, judged(case))


def _pieces(path: Path) -> object:
    case = load(path)
    report = judged_in_pieces(case, *sorted(set(case.stream["ts"].tolist())))
    return differences(case, report)
