# SPDX-License-Identifier: Apache-2.0
"""`ghesrace check` judges captures, and traces of other tools."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
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
    UsageError,
)
from ghesrace.render import as_json
from ghesrace.render.html.timeline import Timeline
from ghesrace.render.judgement import Failure, Judgement
from ghesrace.render.junit import junit
from ghesrace.render.layout import new_console
from ghesrace.render.redact import Redactor
from ghesrace.render.text import print_report, print_short
from ghesrace.sources import Source
from ghesrace.sources.files import open_file

from .output import spare_inputs

# Of several files the worst one's code is returned, in this order.
_PRECEDENCE = (4, 2, 1, 3, 0)


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


def check(args: argparse.Namespace) -> int:
    """Judge the files that the command line *args* names, print the reports, and return the exit
    code of the worst. A file that can't be read is told on stderr. Raises UsageError if the report
    can't be written.

        ghesrace check --format json host.arrows trace.dat
    """
    try:
        return _check(args)
    except OSError as error:
        if args.output is None or isinstance(error, GhesraceError):
            raise
        raise _unwritable(args.output, error) from error


def _check(args: argparse.Namespace) -> int:
    """Do what `check` does. Raises OSError too, if the report can't be written."""
    judged: list[Judgement | Failure] = []
    timelines: list[Timeline | None] = []
    codes = []
    redactor = Redactor()  # One for all, so that equal addresses stay equal.
    spare_inputs(args.output, [*args.files, args.map])
    with ExitStack() as stack:
        out: Any = sys.stdout
        if args.output is not None:
            out = stack.enter_context(_open_report(args.output))
        console = new_console(out, args.color)
        for number, path in enumerate(args.files, 1):
            timeline = _timeline() if args.format == "html" else None
            one = _judge_file(path, args, timeline)
            codes.append(one.code)
            if args.redact:
                one = one.redact(redactor, f"file {number}")
            if args.format == "text":
                _print(console, one, args, first=number == 1)
            else:
                judged.append(one)
                timelines.append(timeline)
        if args.format == "json":
            documents = [as_json.document(one) for one in judged]
            answer = documents if len(args.files) > 1 else documents[0]
            print(json.dumps(answer, indent=1), file=out)
        elif args.format == "junit":
            print(junit(judged, args.fail_on), file=out)
        elif args.format == "html":
            from ghesrace.render.html.page import page

            print(page(judged, timelines, args.all), file=out)
    return next(code for code in _PRECEDENCE if code in codes)


def _timeline() -> Timeline:
    # Jinja2 is imported here: who asks for no HTML need not have it, and who does and lacks it is
    # told before anything is judged.
    import ghesrace.render.html.page  # noqa: F401

    return Timeline()


def _print(
    console: Console, one: Judgement | Failure, args: argparse.Namespace, first: bool
) -> None:
    """Print one file's report as text. Why a file could not be judged was told on stderr."""
    if isinstance(one, Failure):
        return
    if args.quiet:
        print_short(console, one)
        return
    if not first:
        console.print("=" * console.width)
    print_report(console, one, args.all)


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"can't write {path}: {error.strerror}", "choose another place with -o")


def _open_report(path: Path) -> Any:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error


def _judge_file(
    path: Path, args: argparse.Namespace, timeline: Timeline | None
) -> Judgement | Failure:
    """Judge one file, and tell on stderr what is wrong with it."""
    try:
        source = open_file(path, args.map, max_bytes=args.max_size, run=args.run)
        engine = Engine(source.plan, all_occurrences=args.all)
        try:
            _judge(source, engine, path.name, timeline)
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
    result = engine.report()
    code = exit_code(result, args.fail_on, args.accept_unknown)
    host = source.host if isinstance(source.host, dict) else {}
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
