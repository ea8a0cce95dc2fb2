# SPDX-License-Identifier: Apache-2.0
"""This passes batches from a source to a file and an engine until something says stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ghesrace.events import Events, Kind
from ghesrace.sources import StoppableSource
from ghesrace.sources.capture.file import CaptureWriter


class Consumer(Protocol):
    """A consumer takes the batches while they are recorded, as checker.engine.Engine does."""

    def feed(self, batch: Events) -> Any:
        """Take one batch (EVENT, shape (n,))."""
        ...


@dataclass(slots=True)
class Progress:
    """Progress counts the seconds since the start, the events, the loss records, and the records of
    each kind (Kind -> n). `counters` are the source's own."""

    seconds: float
    events: int
    losses: int
    kinds: dict[int, int]
    counters: Mapping[str, int]


def record(
    source: StoppableSource,
    writer: CaptureWriter | None = None,
    engine: Consumer | None = None,
    *,
    duration: float | None = None,
    stop_event: threading.Event | None = None,
    until: Callable[[], bool] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Pass every batch of *source* to *writer* and *engine*, the final one included, until
    *duration* (seconds) is over, *stop_event* is set or *until*, asked after each batch, is true.

    *progress* is called after each batch. The caller closes the writer, even after an error.
    Returns the last counters. Raises what source, writer and engine raise.

        with source, CaptureWriter(path, source.plan, host) as writer:
            last = record(source, writer, duration=60)
    """
    begin = time.monotonic()
    state = Progress(0.0, 0, 0, {}, source.counters)
    timer = threading.Timer(duration or 0, source.stop)
    timer.daemon = True
    if duration is not None:
        timer.start()
    try:
        _run(source, writer, engine, stop_event, until, progress, state, begin)
    finally:
        timer.cancel()
    return state


def _run(
    source: StoppableSource,
    writer: CaptureWriter | None,
    engine: Consumer | None,
    stop_event: threading.Event | None,
    until: Callable[[], bool] | None,
    progress: Callable[[Progress], None] | None,
    state: Progress,
    begin: float,
) -> None:
    for batch in source.batches():
        if writer is not None:
            writer.write(batch)
        if engine is not None:
            engine.feed(batch)
        state.seconds = time.monotonic() - begin
        _count(state, batch)
        if progress is not None:
            progress(state)
        if (stop_event is not None and stop_event.is_set()) or (until is not None and until()):
            source.stop()


def _count(state: Progress, batch: Events) -> None:
    numbers = np.bincount(batch["kind"], minlength=Kind.MARK + 1)
    for kind in numbers.nonzero()[0]:
        if kind != Kind.MARK:
            state.kinds[int(kind)] = state.kinds.get(int(kind), 0) + int(numbers[kind])
    state.losses += int(numbers[Kind.LOSS])
    state.events += int(numbers[: Kind.LOSS].sum())


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call *stop* on SIGINT, SIGTERM and SIGHUP instead of dying. The second signal of a kind acts
    as usual. Only the main thread may use this.

        with stop_on_signals(source.stop):
            record(source, writer)
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {n: signal.getsignal(n) for n in numbers}

    def handler(number: int, _frame: Any) -> None:
        signal.signal(number, previous[signal.Signals(number)])
        stop()

    for number in numbers:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, previous[number])
