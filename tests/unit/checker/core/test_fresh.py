# SPDX-License-Identifier: Apache-2.0
"""What nothing was noted of yet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import ghesrace.checker
from ghesrace.checker.core import classes, edits, holds, predict, reader, rule, run, state, words
from ghesrace.plan import Plan
from tests.build.uncompiled import all_uncompiled, uncompiled

CORE = Path(ghesrace.checker.__file__).parent / "core"
HOLDS, STATE, RULE, READER = map(uncompiled, (holds, state, rule, reader))
CLASSES, PREDICT, EDITS = map(uncompiled, (classes, predict, edits))
NOTHING = (0, words.NOWHERE, words.NEVER, words.UNKNOWN_FRAME)
TRUE = {"Episode.judged", "Tell.known", "SlotState.known", "Cell.start_open", "Threats.all_lucky",
        "Threats.threat_flushed"}  # fmt: skip
# Numbers of what is counted from 0: none of them says that there is none.
NONE = {"told_index", "told_index_maybe", "index_entry", "index_before", "kept_until", "top",
        "opening", "call_point", "edge_index", "last_cpu"}  # fmt: skip


def fresh() -> dict[str, Any]:
    """A new one of each."""
    hold = HOLDS.Hold.of(0, 0, 0)
    episode = HOLDS.Episode.of(hold, 0, 0)
    return {
        "Episode": episode,
        "Hold": hold,
        "Span": HOLDS.Span.of(0, 0, 0, 0, 0, 0),
        "Tell": HOLDS.Tell(0, 0),
        "Shot": HOLDS.Shot(0, 0),
        "Gap": HOLDS.Gap(0, 0, 0, 0),
        "Level": STATE.Level(0, 0),
        "Place": STATE.Place(0),
        "Cpu": STATE.Cpu(0, 0),
        "Newest": STATE.Newest(),
        "Since": STATE.Since(),
        "Cell": STATE.Cell(0, 0),
        "SlotState": STATE.SlotState(0, False, 0),
        "Threats": CLASSES.Threats.of(0),
        "Judged": RULE.Judged.of(episode),
        "Sent": READER.Sent(0, 0, 0, False),
        "Meeting": EDITS.Meeting(None, None, 0, 0, False),
        "Samples": PREDICT.Samples(False, False, False),
        "Run": PREDICT.Run(),
        "Shown": PREDICT.Shown(0, 0),
    }


def declared() -> dict[str, set[str]]:
    """What the compiler is told that each class has."""
    found: dict[str, set[str]] = {}
    for path in CORE.glob("*.pxd"):
        for name, body in re.findall(r"^cdef class (\w+).*:\n((?:    .*\n|\n)*)", path.read_text(),
                                     re.M):  # fmt: skip
            found[name] = set(re.findall(r"^    cdef public .*?(\w+)$", body, re.M))
    return found


@pytest.mark.parametrize("name", sorted(fresh()))
def test_what_is_declared_is_set_and_says_nothing(name: str) -> None:
    """A field that is not set is what the last object at its place had left there, once compiled;
    and one that says something of what was not seen yet is a false event."""
    one = fresh()[name]
    assert set(vars(one)) == declared()[name]
    for field, value in vars(one).items():
        if isinstance(value, bool):
            assert value is (f"{name}.{field}" in TRUE), field
        elif isinstance(value, int):
            assert value in NOTHING, field
            assert (value == -1) if field in NONE else value >= -1, field
        elif isinstance(value, list):
            assert all(part is None or not isinstance(part, int) for part in value), field


def test_a_core_that_was_fed_nothing_says_nothing() -> None:
    """What is counted would begin with one that nobody saw, or a first event not be its first."""
    core = all_uncompiled(run).Core(Plan("x86_64", "t", (), ()))
    for part in (core, core.reader, core.edits, core.losses, core.judge):
        for field, value in vars(part).items():
            if isinstance(value, bool):
                assert value is ((type(part).__name__, field) == ("Core", "unknown")), field
            elif isinstance(value, int):
                others = {"page": 2, "hold_back": words.NEVER, "start": words.NEVER}
                assert value == others.get(field, 0), field
            elif isinstance(value, (list, dict)):
                assert not value, field
