# SPDX-License-Identifier: Apache-2.0
"""Where event batches come from. Every source yields the same batches (events.py).

What is imported here, the child that compiles BPF programs (bpf/compile.py) loads too: no NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ghesrace.events import Events
    from ghesrace.plan import Plan


class Source(Protocol):
    """What the check engine and the capture writer need of a source."""

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
    """A source that reads a file: known after `batches()` is exhausted, what was wrong with it."""

    truncated: bool
    warnings: list[str]


class StoppableSource(Source, Protocol):
    """A source that goes on until it is told to stop."""

    @property
    def counters(self) -> Mapping[str, int]:
        """What was read, kept and lost so far, by cause."""
        ...

    def stop(self) -> None:
        """Make `batches()` end after one more, final batch."""
        ...
