# SPDX-License-Identifier: Apache-2.0
"""This package holds the sources, where event batches come from. Every source yields the same kind
of batches (events.py).

The child process that compiles BPF programs (bpf/compile.py) loads whatever is imported here, so
this module must not import NumPy.

>>> from pathlib import Path
>>> from ghesrace.events import mark
>>> from ghesrace.plan import Plan
>>> class Quiet:
...     plan, host = Plan("x86_64", "6.12", (), ()), {"release": "6.12"}
...     def batches(self):
...         yield mark(1_000)
>>> source: Source = Quiet()
>>> [len(batch) for batch in source.batches()]
[1]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ghesrace.events import Events
    from ghesrace.plan import Plan


class Source(Protocol):
    """A source has what the check engine and the capture writer need."""

    plan: Plan
    host: dict[str, Any]  # facts about the recorded host, JSON-ready

    def batches(self) -> Iterator[Events]:
        """Yield batches in which each CPU's events are in buffer order.

        A batch carries the losses that touch it and ends with a MARK: everything stamped
        below the mark, losses included, has been yielded. After the last batch of a run that
        ended well everything has been delivered. Raises TransientError when the kernel side
        goes away.
        """
        ...


class FileSource(Source, Protocol):
    """A file source reads a file. After `batches()` is exhausted, `truncated` says whether the file
    was cut off or damaged, and `warnings` say what was wrong with it."""

    truncated: bool
    warnings: list[str]


class StoppableSource(Source, Protocol):
    """A stoppable source goes on until it is told to stop."""

    @property
    def counters(self) -> Mapping[str, int]:
        """This counts the events that were read, kept and lost so far; live.LiveSource says how."""
        ...

    def stop(self) -> None:
        """Make `batches()` end after one more, final batch."""
        ...
