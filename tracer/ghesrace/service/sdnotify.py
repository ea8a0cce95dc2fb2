# SPDX-License-Identifier: Apache-2.0
"""This module tells systemd that we are ready, what we do, and that we still get on, as
sd_notify(3) does.

A message is a datagram of KEY=VALUE lines to $NOTIFY_SOCKET. Little code suffices for that, and
spares a library that would run as root.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """A notifier speaks to the service manager if the *environment* names one. It never raises
    OSError.

    >>> Notifier({}).send("READY=1")  # nobody listens
    False
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self._every = 0.0  # seconds between two signs of life; 0 if nobody asks for them
        usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        # More digits are no time that systemd could mean, and too large for a float.
        if usec.isdecimal() and len(usec) < 19 and (not pid or pid == str(os.getpid())):
            self._every = int(usec) / 1e6 / 4
        self._fed = 0.0
        self._status = ""

    def send(self, *lines: str) -> bool:
        """Send KEY=VALUE *lines*, and return whether somebody took them."""
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
                s.settimeout(1.0)  # A service manager that hangs must not stop the watch.
                s.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return False
        return True

    def status(self, text: str, *more: str) -> None:
        """Set what `systemctl status` shows. It is sent only when it changes, or with *more*
        lines."""
        if text != self._status or more:
            self._status = text
            self.send(f"STATUS={text}", *more)

    def starting(self, text: str, patience_s: float = 120.0) -> None:
        """Say that a step of the start begins, which may take *patience_s* seconds."""
        self.status(text, f"EXTEND_TIMEOUT_USEC={int(patience_s * 1e6)}")

    def ready(self) -> None:
        """Say that the start, or a reload, is over."""
        self.send("READY=1")

    def reloading(self) -> None:
        """Say that a reload begins."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the end begins."""
        self.send("STOPPING=1", "STATUS=stopping")

    def progress(self) -> None:
        """Feed the watchdog, because the engine finished a batch. Nothing else may feed it."""
        now = time.monotonic()
        if self._every and now - self._fed >= self._every:
            self._fed = now
            self.send("WATCHDOG=1")
