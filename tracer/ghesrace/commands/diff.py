# SPDX-License-Identifier: Apache-2.0
"""`ghesrace diff` says what changed from one recording to another, and whether it is worse."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ghesrace.errors import EXIT_INTERNAL, EXIT_USAGE, GhesraceError, UsageError
from ghesrace.render import as_json as report_json
from ghesrace.render.diff import as_json
from ghesrace.render.diff.compare import Comparison, compare
from ghesrace.render.diff.document import side_of, stored
from ghesrace.render.diff.side import Side
from ghesrace.render.diff.text import print_diff, print_diff_short
from ghesrace.render.judgement import Failure
from ghesrace.render.layout import new_console
from ghesrace.render.redact import Redactor
from ghesrace.sources.spool import STDIN

from .judging import How, judge_file
from .output import opened, spare_inputs, unwritable

_PRECEDENCE = (EXIT_INTERNAL, EXIT_USAGE)  # of two files' errors; else the first one's counts


def diff(args: argparse.Namespace) -> int:
    """Compare the two files that the command line *args* names, print what changed, and return the
    exit code. What is wrong with a file is told on stderr. Raises UsageError.

        ghesrace diff before.arrows after.arrows
    """
    if args.a == STDIN == args.b:
        raise UsageError("both A and B are standard input", "store one of them in a file")
    spare_inputs(args.output, [args.a, args.b, args.map])
    if args.format == "html":
        # Who lacks Jinja2 is told before anything is judged.
        import ghesrace.render.html.diff_page  # noqa: F401
    redactor = Redactor()  # One for both, so that equal addresses stay equal.
    runs = args.runs or (None, None)
    sides = [
        _side(path, run, args, redactor, f"file {number}")
        for number, (path, run) in enumerate(zip((args.a, args.b), runs, strict=True), 1)
    ]
    codes = [side for side in sides if isinstance(side, int)]
    if codes:
        return next((code for code in _PRECEDENCE if code in codes), codes[0])
    a, b = (side for side in sides if isinstance(side, Side))
    compared = compare(a, b, tuple(args.accept_unknown))
    try:
        _print(compared, args)
    except OSError as error:
        if args.output is None or isinstance(error, GhesraceError):
            raise
        raise unwritable(args.output, error) from error
    return compared.outcome.exit_code


def _side(
    path: Path, run: int | None, args: argparse.Namespace, redactor: Redactor, name: str
) -> Side | int:
    """Return what *path* says, or the exit code of what was told to be wrong with it. *name* stands
    for it if it is redacted."""
    try:
        document = stored(path)
        if document is not None:
            side = side_of(document, str(path))
            if args.redact and not side.redacted:
                raise UsageError(
                    f"{path} is a report that names addresses, which --redact can't take out",
                    "make it with `ghesrace check --redact --format json`, or give the recording",
                )
            return side
    except GhesraceError as error:
        print(f"ghesrace: {error}", file=sys.stderr)
        return error.exit_code
    judged = judge_file(path, How(args.map, args.max_size, run))
    if isinstance(judged, Failure):
        return judged.code
    if args.redact:
        judged = judged.redact(redactor, name)
    return side_of(report_json.document(judged), str(path))


def _print(compared: Comparison, args: argparse.Namespace) -> None:
    """Print what was *compared*. Raises OSError if the report can't be written."""
    with ExitStack() as stack:
        out: Any = sys.stdout
        if args.output is not None:
            out = stack.enter_context(opened(args.output))
        if args.format == "json":
            print(json.dumps(as_json.document(compared), indent=1), file=out)
        elif args.format == "html":
            from ghesrace.render.html.diff_page import diff_page

            print(diff_page(compared), file=out)
        elif args.quiet:
            print_diff_short(new_console(out, args.color), compared)
        else:
            print_diff(new_console(out, args.color), compared)
