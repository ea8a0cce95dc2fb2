# SPDX-License-Identifier: Apache-2.0
"""Reads a litmus case (README.md) into a plan, an event stream and what is expected.

case = load(CASES / "race-2015.litmus")
engine = Engine(case.plan)
engine.feed(case.stream)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ghesrace.events import Events
from ghesrace.plan import Plan

from .body import Body
from .header import Expected, Header
from .words import LitmusError, Place

__all__ = ["CASES", "Case", "Expected", "LitmusError", "load", "parse"]

CASES = Path(__file__).parent / "cases"


@dataclass(slots=True)
class Case:
    """One case. `classes`: slot name -> class -> episodes, of each slot that has any.

    `harmless`: overlaps of the pattern torn_edit that are no hazard, by name. `causes`: slot
    name -> cause of uncertainty -> episodes, of each slot of which the case says it.
    `not_checked`: patterns that the report must call unchecked, empty where the case says none.
    """

    name: str
    plan: Plan
    stream: Events
    expect: str
    classes: dict[str, dict[str, int]]
    reasons: list[str]
    findings: list[Expected]
    harmless: dict[str, int]
    causes: dict[str, dict[str, int]] = field(default_factory=dict)
    not_checked: tuple[str, ...] = ()


def parse(text: str, path: Path) -> Case:
    """The case in *text*. Raises LitmusError, with *path* and the line."""
    place = Place(path)
    header = Header(place)
    body = Body(place, header)
    take: Callable[[str], None] = header.take
    for raw in text.splitlines():
        place.line += 1
        line = raw.partition("#")[0].rstrip()
        if not line.strip():
            continue
        if not header.cpus and line.startswith("CPU "):
            header.end(line)
            take = body.take_event
        elif header.cpus and line.startswith("--"):
            body.take_loss(line)
        else:
            take(line)
    if not header.cpus:
        raise place.error("no line 'CPU 0 | CPU 1 ...' begins the events")
    return Case(
        path.stem,
        header.plan(),
        body.stream(),
        header.expect(),
        header.classes(),
        [text for _, text in header.values("reason")],
        header.findings(),
        header.harmless(),
        header.causes(),
        header.not_checked(),
    )


def load(path: Path) -> Case:
    """The case in the file at *path*. Raises LitmusError."""
    return parse(path.read_text(encoding="utf-8"), path)
