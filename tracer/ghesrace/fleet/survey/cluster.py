# SPDX-License-Identifier: Apache-2.0
"""This runs batches on Dask: on worker processes of this machine, or on somebody's cluster.

A scheduler of Dask runs whatever it is sent. So that of this machine listens on loopback only, and
talks only to who has the certificate that was made for this one survey.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, as_completed
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from ghesrace import __version__
from ghesrace.errors import HostError, TransientError
from ghesrace.fleet.stores import Item

from .batches import Judged, killed

Work = Callable[[list[Item]], Judged]
_AHEAD = 2  # batches for each worker that are on their way at a time: memory is bounded by them
_CONNECT_S = 20.0
_SETTINGS = {
    # A batch whose worker dies twice has a capture that kills: it is taken apart.
    "distributed.scheduler.allowed-failures": 1,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.admin.tick.limit": "60s",
    "distributed.comm.timeouts.connect": "60s",
}


@contextmanager
def cluster(workers: int, address: str | None, scratch: Path) -> Iterator[Client]:
    """Give a client of a cluster: that at *address*, or *workers* processes of this machine, whose
    files go to *scratch*. Raises HostError if it can't be reached or made.

        with cluster(2, None, scratch) as client:
            ...
    """
    # Dask gives its client's log a level of its own: a client that is closed while it tries to
    # reach a scheduler that died would show a traceback. What matters is raised.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with dask.config.set(_SETTINGS):
        if address is not None:
            with _client(address) as client:
                yield client
            return
        with _local(workers, scratch) as made, Client(made) as client:  # type: ignore[no-untyped-call]
            yield client


def _client(address: str) -> Client:
    try:
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:
        raise HostError(
            f"can't reach the scheduler at {address}: {error}",
            "is it running, and does Dask's configuration here have its certificates?",
        ) from error
    try:
        client.wait_for_workers(1, timeout=_CONNECT_S)
    except TimeoutError as error:
        client.close()  # type: ignore[no-untyped-call]
        raise HostError(f"the scheduler at {address} has no workers", "start some") from error
    return client


def _local(workers: int, scratch: Path) -> Any:
    # Ctrl-C goes to all processes of the terminal; only this one shall act on it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if _main_thread() else None
    try:
        return LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # It can't be left out, but serves no page (_SETTINGS), at a port that nobody knows.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            security=True,
            silence_logs=logging.CRITICAL,
            local_directory=str(scratch),
        )
    except (OSError, RuntimeError, ImportError) as error:
        raise HostError(f"can't start worker processes: {error}", "try --workers 1") from error
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def results(client: Client, work: Work, batches: Iterator[list[Item]]) -> Iterator[Judged]:
    """Yield what came of *batches*, as each is done, in any order. A batch whose workers died is
    done again, capture by capture: what kills its worker alone, too, becomes a row. Raises
    TransientError if the scheduler is gone, HostError if a worker has another ghesrace.

        for judged in results(client, work, batches):
            ...
    """
    suspects: list[Item] = []
    for batch, judged in _through(client, work, batches, _AHEAD):
        if judged is None:
            suspects += batch
        else:
            yield judged
    # One at a time, so that none dies with another's worker.
    for batch, judged in _through(client, work, iter([[item] for item in suspects]), 0):
        yield killed(batch[0]) if judged is None else judged


def _through(
    client: Client, work: Work, batches: Iterator[list[Item]], ahead: int
) -> Iterator[tuple[list[Item], Judged | None]]:
    """Yield each batch with what came of it: None if its workers died. So many for each worker are
    on their way (*ahead*), and one in all if it is 0."""
    running: dict[Any, list[Item]] = {}
    done = as_completed(loop=client.loop)  # type: ignore[no-untyped-call]

    def add() -> None:
        most = max(ahead * len(client.scheduler_info(n_workers=-1)["workers"]), 1)
        while len(running) < most and (batch := next(batches, None)) is not None:
            future = client.submit(work, batch, pure=False)
            running[future] = batch
            done.add(future)  # type: ignore[no-untyped-call]

    add()
    while running:
        future = next(done)
        batch = running.pop(future)
        yield batch, _outcome(future)
        future.release()
        add()


def _outcome(future: Any) -> Judged | None:
    # Nothing is asked of its status: a worker that dies with an answer makes it "pending" again,
    # and Dask does the batch anew. result() waits for that.
    try:
        judged = future.result()
    except KilledWorker:
        return None
    except (CancelledError, CommClosedError) as error:
        raise TransientError(
            "the scheduler is gone", "run the same command again: it goes on"
        ) from error
    except Exception as error:
        raise HostError(
            f"a worker failed: {type(error).__name__}: {error}",
            "do all workers have ghesrace[survey], and see the store?",
        ) from error
    if not isinstance(judged, Judged) or judged.tool != __version__:
        tool = getattr(judged, "tool", "?")
        raise HostError(
            f"a worker has ghesrace {tool}, this is {__version__}", "install the same on all"
        )
    return judged
