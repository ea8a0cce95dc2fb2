# SPDX-License-Identifier: Apache-2.0
"""What the tests of threats and of protection ask: a part of the judge without a reader, with
losses that answer as they are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ghesrace.checker.core import classes, holds, state, threats, words
from tests.build.uncompiled import all_uncompiled

HOLDS, STATE = all_uncompiled(holds), all_uncompiled(state)
THREATS, CLASSES = all_uncompiled(threats), all_uncompiled(classes)
NOWHERE, E = words.NOWHERE, 2  # E: the clocks' error, ns
UNKNOWN = words.UNKNOWN_FRAME


class Clocks:
    """Two CPUs' stamps differ by E at most, those of one by nothing."""

    pairs = False

    def __init__(self, error: int = E) -> None:
        self.largest = self.general = error

    def error(self, cpu: int, other: int) -> int:
        return 0 if cpu == other and cpu >= 0 else self.largest


class Lost:
    """Losses that answer as they are told."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.all = [HOLDS.Loss(0, 0, 0, 0, 0)] if answers else []
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def ask(*what: Any) -> Any:
            self.asked.append((name, *what))
            return self.answers.get(name, default)

        lists = ("pages", "within", "inside")
        default: Any = [] if name in lists else NOWHERE if name == "in_flight" else False
        return ask


def asking(lost: Lost | None = None, **facts: Any) -> Any:
    """One that asks of two CPUs and a third."""
    known = {"clocks": Clocks(), "proven": Clocks(), "error": E, "wait": E, "cpus": [0, 1, 2],
             "hidden_map": 0, "hidden_unmap": 0, "traced": 0}  # fmt: skip
    reader = SimpleNamespace(cpus={}, by_number=[], start=0)
    slot = STATE.SlotState(0, False, 0)
    slot.cells = [STATE.Cell(cpu, 0) for cpu in range(3)]
    return THREATS.Threatening(SimpleNamespace(**(known | facts)), [slot], reader, lost or Lost())


def episode(cpu: int = 1, frame: int = 2, hold: dict[str, Any] | None = None, **fields: Any) -> Any:
    """One of a hold of its own."""
    one = HOLDS.Hold(cpu, words.IRQ, 0)
    for name, value in (hold or {}).items():
        setattr(one, name, value)
    made = HOLDS.Episode(one, frame << 12 if frame != UNKNOWN else frame, 0)
    one.add(made)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def asked(frame: int = 2) -> Any:
    return CLASSES.Threats.of(frame << 12)


def told(**fields: Any) -> Any:
    return episode(2, hold=fields).hold
