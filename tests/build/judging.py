# SPDX-License-Identifier: Apache-2.0
"""A stream in, the checker's answer out: the one way that tests run the engine."""

from __future__ import annotations

from collections.abc import Iterable

from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Class
from ghesrace.checker.report import Report
from ghesrace.events import Events
from ghesrace.plan import Plan
from ghesrace.sources import Source


def judge(plan: Plan, *parts: Events) -> Report:
    """The report on a stream that is fed in these *parts*."""
    return judge_all(plan, parts)


def judge_all(plan: Plan, batches: Iterable[Events]) -> Report:
    """The report on *batches*, which may come from a generator."""
    engine = Engine(plan)
    for batch in batches:
        engine.feed(batch)
    engine.finish()
    return engine.report()


def judge_source(source: Source) -> Report:
    """The report on all that *source* yields."""
    return judge_all(source.plan, source.batches())


def classes(report: Report, slot: int = 0) -> dict[str, int]:
    """How many episodes of one slot have which class, by its name; classes that occur only."""
    counts = report.slots[slot].classes
    return {Class(number).name: n for number, n in enumerate(counts) if n}
