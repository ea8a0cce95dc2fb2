# SPDX-License-Identifier: Apache-2.0
"""Unit tests of the checker that need nothing but themselves, as checks: no fixtures, no
hypothesis, and no litmus file, as the suite judges those itself.

A mutant's process has no time for pytest; these are called as they stand, once for each set of
their parameters.
"""

from __future__ import annotations

import contextlib
import doctest
import inspect
import io
import itertools
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from .targets import RULE, sources

MODULES = (
    "test_account",
    "test_digest",
    "test_engine",
    "test_findings",
    "test_report",
    "test_validate",
    "test_witness",
    "core.test_bounds",
    "core.test_clocks",
    "core.test_edits",
    "core.test_facts",
    "core.test_fresh",
    "core.test_holds",
    "core.test_invalidations",
    "core.test_late",
    "core.test_leaving",
    "core.test_losses",
    "core.test_pages",
    "core.test_predict",
    "core.test_protection",
    "core.test_ranges",
    "core.test_reader",
    "core.test_rule",
    "core.test_run",
    "core.test_state",
    "core.test_threats",
    "core.test_uses",
    "core.test_words",
    "patterns.test_overlap",
    "patterns.test_shootdown",
    "patterns.test_stale",
    "patterns.test_torn_edit",
)
APART = {"test_the_two_modes_are_two"}  # asks for compiled modules, which no mutant runs


def plain() -> Iterator[tuple[str, Callable[[], None]]]:
    """Name and call of each, and of each example in the checker's docstrings."""
    for name in MODULES:
        yield from of(import_module(f"tests.unit.checker.{name}"))
    for name in sources(RULE):
        yield from examples(import_module(name))


def of(module: ModuleType) -> Iterator[tuple[str, Callable[[], None]]]:
    """Name and call of each of *module*'s."""
    short = module.__name__.rpartition(".")[2]
    for name, test in vars(module).items():
        if not name.startswith("test_") or name in APART or hasattr(test, "hypothesis"):
            continue
        marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
        sets = [list(_sets(*mark.args[:2])) for mark in marks]
        for number, parts in enumerate(itertools.product(*sets)):
            given = {key: value for part in parts for key, value in part.items()}
            alone = given.keys() == set(inspect.signature(test).parameters)
            if alone and not any(isinstance(value, Path) for value in given.values()):
                yield f"{short} {name} {number}", lambda test=test, given=given: test(**given)


def examples(module: ModuleType) -> Iterator[tuple[str, Callable[[], None]]]:
    """Name and run of the examples in the docstrings of a *module*."""
    for found in doctest.DocTestFinder(exclude_empty=True).find(module):
        if found.examples:
            yield f"example {found.name}", lambda found=found: _run(found)


def _run(found: doctest.DocTest) -> None:
    runner = doctest.DebugRunner(optionflags=doctest.ELLIPSIS)
    with contextlib.redirect_stdout(io.StringIO()):
        runner.run(found, clear_globs=False)


def _sets(names: str | tuple[str, ...], rows: list[object]) -> Iterator[dict[str, object]]:
    keys = [key.strip() for key in names.split(",")] if isinstance(names, str) else list(names)
    for row in rows:
        values = getattr(row, "values", row)
        if callable(values) or (len(keys) == 1 and values is row):
            values = (row,)
        yield dict(zip(keys, values, strict=True))
