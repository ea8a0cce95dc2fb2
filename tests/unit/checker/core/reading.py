# SPDX-License-Identifier: Apache-2.0
"""What a core read of a trace, and what an invalidation is of, byte by byte."""

from __future__ import annotations

from typing import Any

from ghesrace.checker.core import run, words
from ghesrace.events import Kind, joined
from tests.build.trace import Trace, plan
from tests.build.uncompiled import all_uncompiled

CORE = all_uncompiled(run)
PAGE = words.PAGE


def covered(event: Any, page: int) -> bool:
    """Whether an invalidation drops a page's entry: byte by byte, around the end of memory."""
    if event["kind"] in (Kind.INV_ALL, Kind.BCAST_ALL):
        return True
    first = int(event["addr"]) // PAGE * PAGE
    if event["kind"] == Kind.INV_PAGE:
        return first == page
    last = int(event["addr"]) + int(event["size"]) - 1
    return first <= page <= last


def feed(trace: Trace) -> Any:
    core = CORE.Core(plan())
    core.feed(joined(trace.records))
    return core
