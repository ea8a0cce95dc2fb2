# SPDX-License-Identifier: Apache-2.0
"""Record this kernel with `ghesrace capture` while something makes traffic. For use in a guest."""

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


def capture_while(traffic: Callable[[], None], file: Path, *arguments: str) -> int:
    """Run `ghesrace capture -o file` in this process while *traffic* runs, then end it as a
    user would, with SIGINT. Returns its exit code; raises what *traffic* raises.
    """
    file.unlink(missing_ok=True)
    failure: list[BaseException] = []
    over = threading.Event()

    def play() -> None:
        try:
            deadline = time.monotonic() + _LIMIT_S
            while not file.exists():  # it is opened when everything is attached
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
    """Takes everything from an attached source until it is told to stop."""

    def __init__(self, source: LiveSource) -> None:
        super().__init__()
        self.source, self.taken = source, list[Events]()
        self.start()

    def run(self) -> None:
        self.taken += self.source.batches()

    def stop(self) -> Events:
        self.source.stop()
        self.join()
        return np.concatenate(self.taken)


def storm(scenario: str, seconds: float) -> Callable[[], None]:
    """Traffic: the firmware plays *scenario* for some *seconds*."""

    def play() -> None:
        firmware = Client()
        firmware.start(scenario)
        time.sleep(seconds)
        firmware.stop()

    return play
