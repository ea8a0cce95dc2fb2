# SPDX-License-Identifier: Apache-2.0
"""What `ghesrace capture` does: source -> file and engine, until something says stop."""

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
    """What takes the batches while they are recorded: the engine of checker/engine.py."""

    def feed(self, batch: Events) -> Any:
        """Take one batch."""
        ...


@dataclass(slots=True)
class Progress:
    """Live counters: seconds since the start, events, losses (records), per kind (Kind -> n)."""

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
    """Pass every batch of *source* to *writer* and *engine* until *duration* (seconds) is over,
    *stop_event* is set or *until* (asked after each batch) is true; the final batch included.

    The writer is closed by the caller, well or not. Returns the last counters. Raises what
    source, writer and engine raise.
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
    """Call *stop* on SIGINT, SIGTERM and SIGHUP instead of dying; the second one of a kind
    acts as usual. For the main thread."""
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
