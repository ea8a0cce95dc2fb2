# SPDX-License-Identifier: Apache-2.0
"""This is what a worker does: it reads a batch of captures, judges each, and returns rows."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ghesrace import __version__
from ghesrace.errors import EXIT_INTERNAL, GhesraceError, InputError, TransientError
from ghesrace.fleet.stores import Item, at_hand, manifest
from ghesrace.render.judgement import Failure, Judgement

from .rows import rows
from .tables import INTERNAL, KILLED, Rows, arrow

# This judges a file without a word on stderr (commands/judging.py).
Judge = Callable[[Path], Judgement | Failure]


@dataclass(slots=True)
class Judged:
    """This is what came of a batch: its rows as Arrow tables, and what could not be read now, of
    which there is no row: the next survey tries it again."""

    tables: dict[str, Any]
    unread: list[str] = field(default_factory=list)
    tool: str = __version__


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield *items* in lists of at most *size*.

    >>> one = Item("file:///a", "1", 0, None, False)
    >>> [len(batch) for batch in batches([one] * 5, 2)]
    [2, 2, 1]
    """
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def judge_batch(batch: list[Item], judge: Judge) -> Judged:
    """Return what came of each capture in *batch*. A broken one is a row with its error.

    judge_batch(items("file:///srv/captures"), judge).tables["runs"]
    """
    found: Rows = {}
    unread = []
    for item in batch:
        try:
            made = _one(item, judge)
        except TransientError as error:
            unread.append(str(error))
            continue
        for name, more in made.items():
            found.setdefault(name, []).extend(more)
    return Judged(arrow(found), unread)


def _one(item: Item, judge: Judge) -> Rows:
    """Return the rows of *item*. Raises TransientError if it can't be read now."""
    told = manifest(item)
    try:
        with at_hand(item) as path:
            judged = judge(path)
            where = str(path)
    except InputError as error:
        judged, where = Failure.of(item.url, error), item.url
    except GhesraceError:
        raise
    except Exception as error:
        judged, where = internal(item, error), item.url
    if isinstance(judged, Failure):
        if judged.kind == TransientError.__name__:
            raise TransientError(_told(item, where, judged.what), judged.hint)
        what = _told(item, where, judged.what)
        judged = Failure(item.url, what, judged.hint, judged.code, kind=judged.kind)
    return rows(item, told, judged)


def _told(item: Item, where: str, what: str) -> str:
    """Return *what* an error says, with the URL of *item* in the place of *where* it was read."""
    return what if item.url in what else what.replace(where, item.url)


def internal(item: Item, error: BaseException) -> Failure:
    """Return what a row tells of a fault of ours: the error and the place where it was raised.

    >>> internal(Item("file:///a", "", 0, None, False), ValueError("no")).what
    'internal error: ValueError: no'
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    what = f"internal error: {type(error).__name__}: {error}{place}"
    return Failure(item.url, what, "please report it", EXIT_INTERNAL, kind=INTERNAL)


def killed(item: Item) -> Judged:
    """Return what there is of a capture whose judging killed its worker each time: a row."""
    what = f"{item.url}: judging it killed its worker each time: too little memory?"
    failure = Failure(item.url, what, "judge it alone", EXIT_INTERNAL, kind=KILLED)
    return Judged(arrow(rows(item, {}, failure)))
