# SPDX-License-Identifier: Apache-2.0
"""Which records a source of ours can make: all others are refused."""

from __future__ import annotations

import numpy as np

from ghesrace.errors import InputError
from ghesrace.events import (
    MOST_AGAIN,
    NO_POINT,
    NO_SLOT,
    Cause,
    Context,
    Events,
    Kind,
    Sample,
    of_kind,
)
from ghesrace.plan import Plan

from .digest import SUMMARY_KINDS
from .model import SAFE, Class


def validate(batch: Events, plan: Plan) -> None:
    """Raise InputError unless every record is one that a source of ours can make."""
    kind, slot, point = batch["kind"], batch["slot"], batch["point"]
    if not of_kind(kind, tuple(Kind)).all():
        raise InputError("an event of unknown kind", "the file is corrupt, or of a newer ghesrace")
    if not (batch["ctx"] < len(Context)).all():
        raise InputError("an event in an unknown context", "the file is corrupt")
    if not ((slot >= NO_SLOT) & (slot < len(plan.slots))).all():
        raise InputError("an event names a slot that the plan lacks", "the file is corrupt")
    if not ((point == NO_POINT) | (point < len(plan.probes))).all():
        raise InputError("an event names a probe point that the plan lacks", "the file is corrupt")
    if (batch["ts"] >= np.uint64(2**62)).any() or (batch["seq"] >= np.uint64(2**62)).any():
        raise InputError("an event has an impossible time stamp", "the file is corrupt")
    counts = batch[kind == Kind.COUNT]
    judged = batch[kind == Kind.EPISODE]
    again = batch[kind == Kind.AGAIN]
    samples = batch[kind == Kind.SAMPLE]
    named = of_kind(kind, SUMMARY_KINDS)
    if (
        not np.isin(counts["aux"], SAFE).all()
        or (counts["addr"] > counts["ts"]).any()
        or (counts["size"] >= np.uint64(2**62)).any()
        or not np.isin(judged["aux"], list(Class)).all()
        or np.isin(judged["aux"], SAFE).any()
        or not np.isin(samples["aux"], list(Sample)).all()
        or (again["size"] > np.uint64(MOST_AGAIN)).any()
        or (slot[named] < 0).any()
        or (batch["size"][named] >= np.uint64(2**62)).any()
        or (batch["addr"][named] >= np.uint64(2**62)).any()
    ):
        raise InputError("a record of a summary makes no sense", "the file is corrupt")
    losses = batch[kind == Kind.LOSS]
    if not np.isin(losses["aux"], list(Cause)).all() or (losses["addr"] > losses["ts"]).any():
        raise InputError("a loss record has no known cause or ends before it begins", "corrupt")
