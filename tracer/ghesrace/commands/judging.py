# SPDX-License-Identifier: Apache-2.0
"""This judges a file for the commands that report on whole files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ghesrace.checker.engine import Engine
from ghesrace.checker.report import Report, Verdict
from ghesrace.errors import (
    EXIT_FINDING,
    EXIT_INCONCLUSIVE,
    EXIT_OK,
    GhesraceError,
    InputError,
)
from ghesrace.render.judgement import Failure, Judgement
from ghesrace.render.layout import new_console
from ghesrace.sources import FileSource, Source
from ghesrace.sources.files import open_file

if TYPE_CHECKING:
    from ghesrace.render.html.timeline import Timeline


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
    in_doubt = result.truncated or bool(result.reasons)
    return code_of(result.verdict, in_doubt, result.qualified_by, fail_on, accepted)


def code_of(
    verdict: Verdict,
    in_doubt: bool,
    qualified_by: Iterable[str],
    fail_on: str,
    accepted: Iterable[str] = (),
) -> int:
    """Return the exit code of a *verdict* as `exit_code` does, for what is left of a report: that
    its file is truncated or it has reasons (*in_doubt*), and what it rests on.

    >>> code_of(Verdict.CLEAN, False, ("clock",), "predicted", ("clock",))
    0
    """
    threshold = Verdict.OBSERVED if fail_on == "observed" else Verdict.PREDICTED
    if verdict >= threshold:
        return EXIT_FINDING
    if verdict is Verdict.INCONCLUSIVE or in_doubt:
        return EXIT_INCONCLUSIVE
    return EXIT_OK if set(qualified_by) <= set(accepted) else EXIT_INCONCLUSIVE


def judge_file(
    path: Path,
    how: How,
    timeline: Timeline | None = None,
    then: Callable[[FileSource, Judgement], None] | None = None,
    *,
    silent: bool = False,
) -> Judgement | Failure:
    """Judge one file, and tell on stderr what is wrong with it, unless it shall be *silent*.
    *timeline* notes what was judged, and *then* is called with the source and the judgement; an
    InputError of it is the file's.

        judge_file(Path("host.arrows"), How()).report
    """
    try:
        source = open_file(path, how.map_file, max_bytes=how.max_bytes, run=how.run)
        engine = Engine(source.plan, all_occurrences=how.every)
        try:
            _judge(source, engine, path.name, timeline, silent)
            judged = _judgement(path, source, engine.report(), how)
            if then is not None:
                then(source, judged)
        except InputError as error:
            if str(path) in error.what:
                raise
            raise InputError(f"{path}: {error.what}", error.hint) from error
    except GhesraceError as error:
        return _failed(path, error, silent)
    except OSError as error:
        told = InputError(f"can't read {path}: {error.strerror or error}", "copy the file again")
        return _failed(path, told, silent)
    for warning in () if silent else source.warnings:
        print(f"ghesrace: warning: {warning}", file=sys.stderr)
    return judged


def _failed(path: Path, error: GhesraceError, silent: bool) -> Failure:
    if not silent:
        print(f"ghesrace: {error}", file=sys.stderr)
    return Failure.of(str(path), error)


def _judgement(path: Path, source: FileSource, result: Report, how: How) -> Judgement:
    host = source.host if isinstance(source.host, dict) else {}
    code = exit_code(result, how.fail_on, how.accepted)
    return Judgement(str(path), result, source.plan, host, code)


def _judge(
    source: Source, engine: Engine, name: str, timeline: Timeline | None, silent: bool
) -> None:
    """Feed everything to the engine, and say on a terminal how far it is."""
    with _progress(name, silent) as tell:
        for batch in source.batches():
            judged = engine.feed(batch)
            if timeline is not None:
                timeline.note(batch)
                timeline.add(judged)
            tell(engine.events)
        judged = engine.finish()
        if timeline is not None:
            timeline.add(judged)


@contextmanager
def _progress(name: str, silent: bool) -> Iterator[Callable[[int], None]]:
    """Yield what shows on a terminal how many events of the file called *name* were judged."""
    console = new_console(sys.stderr)
    if silent or not console.is_terminal:
        yield lambda events: None
        return
    # Where nobody looks, it need not be loaded.
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name)
        yield lambda events: bar.update(task, description=f"{name}: {events:,} events")
