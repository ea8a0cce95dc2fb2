# SPDX-License-Identifier: Apache-2.0
"""This judges a file for the commands that report on whole files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from ghesrace.checker.engine import Engine
from ghesrace.checker.report import Report, Verdict
from ghesrace.errors import (
    EXIT_FINDING,
    EXIT_INCONCLUSIVE,
    EXIT_OK,
    GhesraceError,
    InputError,
)
from ghesrace.render.html.timeline import Timeline
from ghesrace.render.judgement import Failure, Judgement
from ghesrace.render.layout import new_console
from ghesrace.sources import FileSource, Source
from ghesrace.sources.files import open_file


@dataclass(frozen=True, slots=True)
class How:
    """This is how a file is read and judged, by the options of the command line."""

    map_file: Path | None = None
    max_bytes: int | None = None
    run: int | None = None
    every: bool = False
    fail_on: str = "predicted"
    accepted: tuple[str, ...] = ()


def exit_code(result: Report, fail_on: str, accepted: Iterable[str] = ()) -> int:
    """Return the exit code of a report (README, "Exit codes"). *fail_on* is the least verdict that
    is a finding: "observed" or "predicted". What the verdict rests on counts unless *accepted*
    names it.

    >>> from ghesrace.plan import Plan
    >>> exit_code(Engine(Plan("x86_64", "6.12", (), ())).report(), "predicted")  # inconclusive
    3
    """
    threshold = Verdict.OBSERVED if fail_on == "observed" else Verdict.PREDICTED
    if result.verdict >= threshold:
        return EXIT_FINDING
    if result.verdict is Verdict.INCONCLUSIVE or result.truncated or result.reasons:
        return EXIT_INCONCLUSIVE
    return EXIT_OK if set(result.qualified_by) <= set(accepted) else EXIT_INCONCLUSIVE


def judge_file(
    path: Path,
    how: How,
    timeline: Timeline | None = None,
    then: Callable[[FileSource, Judgement], None] | None = None,
) -> Judgement | Failure:
    """Judge one file, and tell on stderr what is wrong with it. *timeline* notes what was judged,
    and *then* is called with the source and the judgement; an InputError of it is the file's.

        judge_file(Path("host.arrows"), How()).report
    """
    try:
        source = open_file(path, how.map_file, max_bytes=how.max_bytes, run=how.run)
        engine = Engine(source.plan, all_occurrences=how.every)
        try:
            _judge(source, engine, path.name, timeline)
            judged = _judgement(path, source, engine.report(), how)
            if then is not None:
                then(source, judged)
        except InputError as error:
            if str(path) in error.what:
                raise
            raise InputError(f"{path}: {error.what}", error.hint) from error
    except GhesraceError as error:
        print(f"ghesrace: {error}", file=sys.stderr)
        return Failure.of(str(path), error)
    except OSError as error:
        told = InputError(f"can't read {path}: {error.strerror or error}", "copy the file again")
        print(f"ghesrace: {told}", file=sys.stderr)
        return Failure.of(str(path), told)
    for warning in source.warnings:
        print(f"ghesrace: warning: {warning}", file=sys.stderr)
    return judged


def _judgement(path: Path, source: FileSource, result: Report, how: How) -> Judgement:
    host = source.host if isinstance(source.host, dict) else {}
    code = exit_code(result, how.fail_on, how.accepted)
    return Judgement(str(path), result, source.plan, host, code)


def _judge(source: Source, engine: Engine, name: str, timeline: Timeline | None) -> None:
    """Feed everything to the engine, and say on a terminal how far it is."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = new_console(sys.stderr)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name)
        for batch in source.batches():
            judged = engine.feed(batch)
            if timeline is not None:
                timeline.note(batch)
                timeline.add(judged)
            bar.update(task, description=f"{name}: {engine.events:,} events")
        judged = engine.finish()
        if timeline is not None:
            timeline.add(judged)
