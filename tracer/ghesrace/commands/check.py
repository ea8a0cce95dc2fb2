# SPDX-License-Identifier: Apache-2.0
"""`ghesrace check` judges captures, and traces of other tools."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ghesrace.errors import GhesraceError, UsageError
from ghesrace.render import as_json
from ghesrace.render.judgement import Failure, Judgement
from ghesrace.render.layout import new_console
from ghesrace.render.redact import Redactor
from ghesrace.render.text import print_report, print_short
from ghesrace.sources import FileSource

from .judging import How, judge_file
from .output import opened, opened_binary, spare_inputs, unwritable

# What only some formats need is imported where it is needed: starting takes as long as 100,000
# events.
if TYPE_CHECKING:
    from ghesrace.render.html.timeline import Timeline

# Of several files the worst one's code is returned, in this order.
_PRECEDENCE = (4, 2, 1, 3, 0)


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
        raise unwritable(args.output, error) from error


def _check(args: argparse.Namespace) -> int:
    """Do what `check` does. Raises OSError too, if the report can't be written."""
    if args.format == "perfetto":
        return _perfetto(args)
    judged: list[Judgement | Failure] = []
    timelines: list[Timeline | None] = []
    codes = []
    how = How(args.map, args.max_size, args.run, args.all, args.fail_on, tuple(args.accept_unknown))
    redactor = Redactor()  # One for all, so that equal addresses stay equal.
    spare_inputs(args.output, [*args.files, args.map])
    with ExitStack() as stack:
        out: Any = sys.stdout
        if args.output is not None:
            out = stack.enter_context(opened(args.output))
        console = new_console(out, args.color)
        for number, path in enumerate(args.files, 1):
            timeline = _timeline() if args.format == "html" else None
            one = judge_file(path, how, timeline)
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
            from ghesrace.render.junit import junit

            print(junit(judged, args.fail_on), file=out)
        elif args.format == "html":
            from ghesrace.render.html.page import page

            print(page(judged, timelines, args.all), file=out)
    return next(code for code in _PRECEDENCE if code in codes)


def _how(args: argparse.Namespace) -> How:
    accepted = tuple(args.accept_unknown)
    return How(args.map, args.max_size, args.run, args.all, args.fail_on, accepted)


def _perfetto(args: argparse.Namespace) -> int:
    """Judge the only file, write its trace, and return its exit code. Raises UsageError."""
    # Imported here, as Jinja2 is: who lacks it is told before anything is judged.
    from ghesrace.render.perfetto.trace import write_trace

    if len(args.files) > 1:
        raise UsageError("a trace for Perfetto is of one FILE", "write one for each")
    if args.output is None:
        raise UsageError("a trace for Perfetto is no text", "say where it goes with -o")
    spare_inputs(args.output, [*args.files, args.map])

    def write(source: FileSource, judged: Judgement) -> None:
        redactor = Redactor() if args.redact else None
        shown = judged if redactor is None else judged.redact(redactor, "file 1")
        with opened_binary(args.output) as out:
            write_trace(out, source, shown, redactor)

    return judge_file(args.files[0], _how(args), then=write).code


def _timeline() -> Timeline:
    # Jinja2 is imported here: who asks for no HTML need not have it, and who does and lacks it is
    # told before anything is judged.
    import ghesrace.render.html.page  # noqa: F401
    from ghesrace.render.html.timeline import Timeline

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
