# SPDX-License-Identifier: Apache-2.0
"""`ghesrace show` prints the events of a capture, or of a trace of another tool."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ghesrace.checker.engine import Engine
from ghesrace.checker.findings import Finding
from ghesrace.checker.validate import validate
from ghesrace.errors import EXIT_INCONCLUSIVE, EXIT_OK, InputError, UsageError
from ghesrace.events import Context, Events, Kind
from ghesrace.render.faults import faults, named
from ghesrace.render.lines import Lines, head, numbered
from ghesrace.render.redact import Redactor
from ghesrace.render.selection import (
    KINDS,
    Addresses,
    Selection,
    Window,
    chosen,
    nanoseconds,
    windows_around,
)
from ghesrace.sources import FileSource
from ghesrace.sources.files import open_file
from ghesrace.sources.in_time import InTime

from .output import spare_inputs

_AROUND = 50_000  # ns before and after a finding


def show(args: argparse.Namespace) -> int:
    """Print the events that the command line *args* asks for, and return the exit code: 3 if the
    file is truncated. Raises UsageError and InputError.

        ghesrace show --around 1 host.arrows
    """
    source = open_file(args.file, args.map, max_bytes=args.max_size, run=args.run)
    try:
        return _show(args, source)
    except InputError as error:
        if str(args.file) in error.what:
            raise
        raise InputError(f"{args.file}: {error.what}", error.hint) from error


def _show(args: argparse.Namespace, source: FileSource) -> int:
    selection = _selection(args, source)
    finding = None
    if args.around is not None:
        finding, around = _around(args.around, source)
        selection.windows = around
    spare_inputs(args.output, [args.file, args.map])
    try:
        with ExitStack() as stack:
            out: Any = sys.stdout
            if args.output is not None:
                out = stack.enter_context(_open(args.output))
            for line in _lines(args, source, selection, finding):
                print(line, file=out)
    except OSError as error:
        if args.output is None:
            raise
        raise UsageError(
            f"can't write {args.output}: {error.strerror}", "choose another place with -o"
        ) from error
    for warning in source.warnings:
        print(f"ghesrace: warning: {warning}", file=sys.stderr)
    return EXIT_INCONCLUSIVE if source.truncated else EXIT_OK


def _open(path: Path) -> Any:
    return path.open("w", encoding="utf-8")


def _lines(
    args: argparse.Namespace, source: FileSource, selection: Selection, finding: Finding | None
) -> Iterator[str]:
    addresses = Addresses(source.plan)
    steps = {} if finding is None else numbered(finding)
    lines = None
    if head(args.format):
        yield head(args.format)
    for events in _in_time(source):
        if lines is None:
            first = int(events["ts"][0])
            zero = min((step[0] for step in steps), default=first)
            _limit(selection, args, first)
            digits: Any = 9 if args.ns else 6
            hidden = Redactor() if args.redact else None
            lines = Lines(
                *(source.plan, addresses, args.format),
                zero=zero,
                steps=steps,
                digits=digits,
                redactor=hidden,
            )
        addresses.learn(events)
        yield from lines.of(events[selection.of(events, addresses)])
        # Even behind --to the rest is read: losses may be told at the end of the file only.


def _in_time(source: FileSource) -> Iterator[Events]:
    """Yield all records in the order of time, in parts that are not empty."""
    merger = InTime()
    for batch in source.batches():
        validate(batch, source.plan)
        ready = merger.feed(batch)
        if len(ready):
            yield ready
    rest = merger.rest()
    if len(rest):
        yield rest
    if merger.early:
        source.warnings.append("so much waited for its turn that events may be out of order")


def _selection(args: argparse.Namespace, source: FileSource) -> Selection:
    """Return what *args* selects, but for times. Raises UsageError for names that are not there."""
    plan = source.plan
    made = Selection()
    if args.cpu is not None:
        made.cpus = frozenset(args.cpu)
    if args.slot is not None:
        known = {slot.name: number for number, slot in enumerate(plan.slots)}
        made.slots = chosen(args.slot, known, "slot of this file")
    if args.kind is not None:
        kinds = chosen(args.kind, {name: int(kind) for name, kind in KINDS.items()}, "kind")
        made.kinds = frozenset(Kind(kind) for kind in kinds)
    if args.context is not None:
        known = {context.name.lower(): int(context) for context in Context}
        contexts = chosen(args.context, known, "context")
        made.contexts = frozenset(Context(context) for context in contexts)
        if not plan.contexts:
            source.warnings.append("the file does not tell all contexts: what is shown is a guess")
    return made


def _limit(selection: Selection, args: argparse.Namespace, first: int) -> None:
    """Narrow *selection* to --from and --to, of which relative ones count from *first* (ns)."""
    begin, end = 0, 2**63
    if args.begin is not None:
        relative, ns = args.begin
        begin = ns + first * relative
    if args.end is not None:
        relative, ns = args.end
        end = ns + first * relative
    if args.begin is not None or args.end is not None:
        windows: list[Window] = selection.windows or [(begin, end)]
        selection.windows = [(max(a, begin), min(b, end)) for a, b in windows]


def _around(text: str, source: FileSource) -> tuple[Finding, list[Window]]:
    """Judge *source*, and return the finding that *text* names, and the times around it. Raises
    UsageError if it has none of that name."""
    name, _, margins = text.partition(":")
    before = after = _AROUND
    if margins:
        parts = margins.split(",")
        if len(parts) > 2:
            raise UsageError(f"{margins!r} is not BEFORE,AFTER", "write --around 1:100,200 (us)")
        (_, before), (_, after) = nanoseconds(parts[0], "us"), nanoseconds(parts[-1], "us")
    engine = Engine(source.plan)
    for batch in source.batches():
        engine.feed(batch)
    engine.finish()
    report = engine.report()
    if not report.findings:
        raise UsageError(f"nothing was found: {report.verdict.word}", "leave --around out")
    finding = named(faults(report.findings), name)
    return finding, windows_around(finding, before, after)
