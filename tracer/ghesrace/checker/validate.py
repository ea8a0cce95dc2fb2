# SPDX-License-Identifier: Apache-2.0
"""This refuses all records that no source of ours can make."""

from __future__ import annotations

import numpy as np

from ghesrace.errors import InputError
from ghesrace.events import (
    MOST_AGAIN,
    NO_POINT,
    NO_SLOT,
    SUMMARY_KINDS,
    Cause,
    Context,
    Events,
    Ints,
    Kind,
    Sample,
    of_kind,
    select,
)
from ghesrace.plan import Plan

from .model import SAFE, Class

_CORRUPT = "the file is corrupt"
_KNOWN = np.isin(np.arange(256), list(Kind))  # by the number of a kind
_MOST = np.uint64(2**62)  # of a time (ns), a number or a position: what fits into an int64 twice


def kinds(batch: Events) -> Ints:
    """Return how many records of each kind are in *batch* (EVENT, shape (n,)), by the kind's
    number (shape (256,)).

    >>> from ghesrace.events import mark
    >>> int(kinds(mark(5))[Kind.MARK])
    1
    """
    return np.bincount(np.ascontiguousarray(batch["kind"]), minlength=len(_KNOWN))


def validate(batch: Events, plan: Plan) -> Ints:
    """Return how many records there are of each kind (`kinds`). Raise InputError unless every
    record of *batch* (EVENT, shape (n,)) is one that a source of ours can make of *plan*.

    >>> from ghesrace.events import Cause, loss
    >>> validate(loss(begin=9, end=5, cause=Cause.MISSED), Plan("x86_64", "6.12", (), ()))
    Traceback (most recent call last):
    ...
    ghesrace.errors.InputError: a loss record has no known cause or ends before it begins
      the file is corrupt
    """
    number = kinds(batch)
    if not len(batch):
        return number
    # A column of records is slow to walk: each is walked once.
    slot, point = np.ascontiguousarray(batch["slot"]), np.ascontiguousarray(batch["point"])
    present = number > 0
    if (present & ~_KNOWN).any():
        raise InputError("an event of unknown kind", "the file is corrupt, or of a newer ghesrace")
    if batch["ctx"].max() >= len(Context):
        raise InputError("an event in an unknown context", _CORRUPT)
    if slot.min() < NO_SLOT or slot.max() >= len(plan.slots):
        raise InputError("an event names a slot that the plan lacks", _CORRUPT)
    if ((point >= len(plan.probes)) & (point != NO_POINT)).any():
        raise InputError("an event names a probe point that the plan lacks", _CORRUPT)
    if batch["ts"].max() >= _MOST or batch["seq"].max() >= _MOST:
        raise InputError("an event has an impossible time stamp", _CORRUPT)
    if present[Kind.LOSS]:
        losses = select(batch, Kind.LOSS)
        known = np.isin(losses["cause"], list(Cause))
        if not known.all() or (losses["begin"] > losses["end"]).any():
            raise InputError("a loss record has no known cause or ends before it begins", _CORRUPT)
        if losses["count"].max() >= _MOST:
            raise InputError("a loss record with an impossible count", _CORRUPT)
    if present[list(SUMMARY_KINDS)].any():
        named = of_kind(batch["kind"], SUMMARY_KINDS)
        if not plan.summary:
            raise InputError("a summary's record in what is no summary", _CORRUPT)
        if (slot[named] < 0).any() or not _makes_sense(batch):
            raise InputError("a record of a summary makes no sense", _CORRUPT)
    return number


def _makes_sense(batch: Events) -> bool:
    """Return whether a summary's records say what `SummarySource` can say."""
    episodes = select(batch, Kind.EPISODE, Kind.THREAT)
    samples = select(batch, Kind.SAMPLE)
    counts, again = select(batch, Kind.COUNT), select(batch, Kind.AGAIN)
    judged = episodes["cls"][episodes["kind"] == Kind.EPISODE]
    return bool(
        np.isin(judged, list(Class)).all()
        and not np.isin(judged, SAFE).any()
        and np.isin(samples["sample"], list(Sample)).all()
        and np.isin(counts["cls"], SAFE).all()
        and (counts["begin"] <= counts["end"]).all()
        and (counts["count"] < _MOST).all()
        and (again["count"] <= np.uint64(MOST_AGAIN)).all()
        and all((of["begin"] < _MOST).all() for of in (episodes, samples, counts, again))
        and all((of["end"] < _MOST).all() for of in (episodes, samples))
    )
