# SPDX-License-Identifier: Apache-2.0
"""`ghesrace survey` judges a store of captures, and says which kernels are safe and by what."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ghesrace.checker.report import Verdict
from ghesrace.errors import GhesraceError, InputError, UsageError
from ghesrace.fleet.stores import Item, items, local
from ghesrace.fleet.survey.batches import Judged, batches, judge_batch
from ghesrace.fleet.survey.cluster import cluster, results
from ghesrace.fleet.survey.dataset import Dataset
from ghesrace.fleet.survey.summary import summarised
from ghesrace.render.judgement import Failure, Judgement
from ghesrace.render.layout import new_console
from ghesrace.render.survey.answers import Survey, document
from ghesrace.render.survey.text import print_survey

from .judging import How, code_of, judge_file
from .output import opened, spare_inputs, unwritable

# Few captures make a batch where there are few, so that each worker has some, and never so many
# that much is lost with one.
_LEAST, _MOST, _PER_WORKER = 8, 500, 50
_SAY_S = 30.0  # between two lines of progress where stderr is no terminal


def judge(path: Path) -> Judgement | Failure:
    """Judge the file *path* as `check` does, without a word on stderr. Workers call it.

    judge(Path("host.arrows")).code
    """
    return judge_file(path, How(), silent=True)


def survey(args: argparse.Namespace) -> int:
    """Judge what the stores that the command line *args* names have new, print the report on the
    data set, and return the exit code. Raises GhesraceError.

        ghesrace survey /srv/captures
    """
    if args.workers is not None and args.scheduler is not None:
        raise UsageError("a cluster has its own workers", "leave out --workers or --scheduler")
    if args.format == "html":
        # Who lacks Jinja2 is told before anything is judged.
        import ghesrace.render.html.survey_page  # noqa: F401
    found = list({item.url: item for url in args.urls for item in items(url)}.values())
    if not found:
        raise InputError(
            f"there are no captures at {' '.join(args.urls)}",
            "in folders *.arrows and *.dat are looked for; name others by a glob",
        )
    spare_inputs(args.output, filter(None, map(local, found)))
    with Dataset(args.data) as data:
        known = data.known()
        new = [item for item in found if known.get(item.url) != item.tag]
        unread = _judge(data, new, len(found), args) if new else 0
        accepted = tuple(args.accept_unknown)

        def code(verdict: Verdict, in_doubt: bool, qualified_by: list[str]) -> int:
            return code_of(verdict, in_doubt, qualified_by, args.fail_on, accepted)

        answers = summarised(data, code, unread)
    try:
        _print(answers, args)
    except OSError as error:
        if args.output is None or isinstance(error, GhesraceError):
            raise
        raise unwritable(args.output, error) from error
    return answers.exit_code


def _judge(data: Dataset, new: list[Item], of: int, args: argparse.Namespace) -> int:
    """Judge what is *new* into *data*; tell on stderr what can't be read, and return how much."""
    workers = args.workers or len(os.sched_getaffinity(0))
    size = min(max(len(new) // (workers * _PER_WORKER), _LEAST), _MOST)
    workers = min(workers, -(-len(new) // size))  # More would have nothing to do.
    work = partial(judge_batch, judge=judge)
    unread: list[str] = []
    print(f"ghesrace: {len(new):,} of {of:,} captures are to be judged", file=sys.stderr)
    with cluster(workers, args.scheduler, data.scratch) as client:
        for judged in _told(results(client, work, batches(new, size)), len(new)):
            data.write(judged.tables)
            unread += judged.unread
    for told in unread:
        print(f"ghesrace: {told}", file=sys.stderr)
    return len(unread)


def _told(results: Iterator[Judged], total: int) -> Iterator[Judged]:
    """Yield *results*, and say on stderr how far it is: a bar on a terminal, else lines."""
    console = new_console(sys.stderr)
    columns = TextColumn("judging"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    done, said = 0, time.monotonic()
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("judging", total=total)
        for judged in results:
            yield judged  # It is kept before it is told of.
            done += judged.tables["runs"].num_rows + len(judged.unread)
            bar.update(task, completed=done)
            if not console.is_terminal and time.monotonic() - said > _SAY_S:
                said = time.monotonic()
                print(f"ghesrace: {done:,} of {total:,} judged", file=sys.stderr)


def _print(answers: Survey, args: argparse.Namespace) -> None:
    """Print the *answers*. Raises OSError if the report can't be written."""
    with ExitStack() as stack:
        out: Any = sys.stdout
        if args.output is not None:
            out = stack.enter_context(opened(args.output))
        if args.format == "json":
            print(json.dumps(document(answers), indent=1), file=out)
        elif args.format == "html":
            from ghesrace.render.html.survey_page import survey_page

            print(survey_page(answers), file=out)
        else:
            print_survey(new_console(out, args.color), answers, args.all)
