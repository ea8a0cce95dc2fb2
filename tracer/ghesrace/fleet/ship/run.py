# SPDX-License-Identifier: Apache-2.0
"""This sends what is new, and waits for a store that is away."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from ghesrace.errors import TransientError, UsageError
from ghesrace.fleet.manifest import MANIFEST

from .config import Settings
from .outbox import Outbox, Waiting
from .target import Target

FIRST_PAUSE_S, LONGEST_PAUSE_S, PATIENCE_S = 1.0, 60.0, 300.0
_LONGEST_SETTLE_S = 60.0  # that one look waits for a file that is being written

Say = Callable[[str], None]


def ship(
    settings: Settings,
    credentials: dict[str, Any],
    host: dict[str, str | None],
    say: Say,
    *,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> int:
    """Send the captures that are new, until none is left, to a folder of the host's name, and
    return how many were dropped because the outbox was full. *host* goes into the manifests, and
    *say* is told what happens.

    A store that is away is tried again after 1, 2, 4, ... 60 seconds, for PATIENCE_S after the last
    capture that it took; then TransientError is raised: what waits, waits on the disk. Raises
    UsageError if the settings can't work.

        ship(load(path), credentials(), describe_host(), print)
    """
    if not settings.captures.is_dir():
        raise UsageError(
            f"there is no folder {settings.captures}", "name that of the captures in ship.toml"
        )
    dropped = 0
    folder = re.sub(r"[^\w.-]", "_", host.get("host") or "unknown").lstrip(".") or "unknown"
    with Outbox(settings.state, settings.budget) as outbox:
        while True:
            # No more than there is room for: the rest is taken when this is sent.
            taken, wait = outbox.take(settings.captures, settings.settle, now(), host, False)
            dropped += _drop(outbox, say)
            waiting = outbox.waiting()
            if waiting:
                try:
                    _send(outbox, waiting, folder, settings, credentials, say, sleep)
                except TransientError:
                    # The newest shall wait, as the daemon may remove them when it needs room.
                    outbox.take(settings.captures, settings.settle, now(), host)
                    _drop(outbox, say)
                    raise
            elif wait is not None:
                sleep(min(wait, _LONGEST_SETTLE_S))
            elif not taken:
                return dropped


def _drop(outbox: Outbox, say: Say) -> int:
    """Drop what is beyond the budget, say so, and return how many captures that were."""
    names = outbox.drop_beyond_budget()
    for name in names:
        say(f"dropped {name}: what waits is more than the budget, {outbox.budget:,} bytes")
    return len(names)


def _send(
    outbox: Outbox,
    waiting: list[Waiting],
    folder: str,
    settings: Settings,
    credentials: dict[str, Any],
    say: Say,
    sleep: Callable[[float], None],
) -> None:
    """Send all of *waiting* to *folder*. Raises TransientError if the store is away too long."""
    pause, waited = FIRST_PAUSE_S, 0.0
    left = list(waiting)
    place = f"{settings.to.rstrip('/')}/{folder}"
    while left:
        try:
            with Target(place, settings.options, credentials) as target:
                while left:
                    one = left[0]
                    # The manifest first: who finds the capture finds what host it is of.
                    if one.manifest.exists():
                        target.put(one.manifest, f"{one.path.name}{MANIFEST}")
                    target.put(one.path, one.path.name)
                    outbox.sent(one)
                    say(f"sent {one.path.name} ({one.bytes:,} bytes)")
                    left.pop(0)
                    pause, waited = FIRST_PAUSE_S, 0.0
        except TransientError as error:
            if waited >= PATIENCE_S:
                raise
            say(f"{error.what}; trying again in {pause:.0f} s")
            sleep(pause)
            waited += pause
            pause = min(2 * pause, LONGEST_PAUSE_S)
