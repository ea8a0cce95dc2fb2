# SPDX-License-Identifier: Apache-2.0
"""Record this kernel with `ghesrace capture` while something makes traffic.

This is for use in a guest.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ghesrace import cli
from ghesrace.errors import TransientError
from ghesrace.events import Events
from ghesrace.sources.live import LiveSource

from .client import Client

_LIMIT_S = 600.0
_SETTLE_S = 1.0
_DRIVER = Path("/sys/bus/platform/drivers/GHES")
_REMOVED_S = 0.3


def capture_while(traffic: Callable[[], None], file: Path, *arguments: str) -> int:
    """Run `ghesrace capture -o file` in this process while *traffic* runs in a thread.

    When *traffic* returns, SIGINT ends the capture, as a user would end it; so call this from the
    main thread. *arguments* are more of the command's. Returns the command's exit code. Raises
    what *traffic* raises, and TransientError if the capture does not start within 10 minutes.

        code = capture_while(storm("mixed", 10.0), Path("mixed.arrows"), "--check")
    """
    file.unlink(missing_ok=True)
    failure: list[BaseException] = []
    over = threading.Event()

    def play() -> None:
        try:
            deadline = time.monotonic() + _LIMIT_S
            while not file.exists():  # The command opens it when everything is attached.
                if over.wait(0.1):
                    return
                if time.monotonic() > deadline:
                    raise TransientError("the capture did not start in time")
            traffic()
            time.sleep(_SETTLE_S)
        except BaseException as error:
            failure.append(error)
        finally:
            if not over.is_set():
                os.kill(os.getpid(), signal.SIGINT)

    player = threading.Thread(target=play, daemon=True)
    player.start()
    code = cli.main(["capture", "-d", str(_LIMIT_S), "-o", str(file), *arguments])
    over.set()
    player.join()
    if failure:
        raise failure[0]
    return code


class RecordingThread(threading.Thread):
    """Takes everything from an attached source until it is told to stop.

    It starts at once:

        thread = RecordingThread(source)
        Client().report("nmi")
        events = thread.stop()
    """

    def __init__(self, source: LiveSource) -> None:
        super().__init__()
        self.source, self.taken = source, list[Events]()
        self.start()

    def run(self) -> None:
        """Take batches until the source ends; `threading.Thread` calls it."""
        self.taken += self.source.batches()

    def stop(self) -> Events:
        """Stop the source and return all its events as one array."""
        self.source.stop()
        self.join()
        return np.concatenate(self.taken)


def storm(scenario: str, seconds: float) -> Callable[[], None]:
    """Return a function that lets the firmware play *scenario* for so many *seconds*."""

    def play() -> None:
        firmware = Client()
        firmware.start(scenario)
        time.sleep(seconds)
        firmware.stop()

    return play


def removing(
    device: str, traffic: Callable[[], None], driver: Path = _DRIVER, pause_s: float = _REMOVED_S
) -> Callable[[], None]:
    """Return a function that does what *traffic* does and meanwhile unbinds *device* from its
    *driver* and binds it again, with a pause of *pause_s* after each, and leaves it bound.

    It raises OSError if *device* can't be unbound or bound.
    """

    def play() -> None:
        over, failure = threading.Event(), list[OSError]()

        def remove() -> None:
            try:
                while not over.is_set():
                    for what in ("unbind", "bind"):
                        (driver / what).write_text(device)
                        over.wait(pause_s)
            except OSError as error:
                failure.append(error)

        remover = threading.Thread(target=remove, daemon=True)
        remover.start()
        try:
            traffic()
        finally:
            over.set()
            remover.join()
        if failure:
            raise failure[0]

    return play
