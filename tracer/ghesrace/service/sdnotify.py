# SPDX-License-Identifier: Apache-2.0
"""sd_notify(3): tell systemd that we are ready, what we do, and that we still get on.

A datagram of KEY=VALUE lines to $NOTIFY_SOCKET; thirty lines do, and spare a library as root.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Speaks to the service manager if there is one; never raises."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self._every = 0.0  # seconds between two signs of life; 0: nobody asks for them
        usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        if usec.isdecimal() and (not pid or pid == str(os.getpid())):
            self._every = int(usec) / 1e6 / 4
        self._fed = 0.0
        self._status = ""

    def send(self, *lines: str) -> bool:
        """Send KEY=VALUE *lines*; whether somebody took them."""
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
                s.settimeout(1.0)  # a service manager that hangs must not stop the watch
                s.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return False
        return True

    def status(self, text: str, *more: str) -> None:
        """What `systemctl status` shows; sent only when it changes, or with *more*."""
        if text != self._status or more:
            self._status = text
            self.send(f"STATUS={text}", *more)

    def starting(self, text: str, patience_s: float = 120.0) -> None:
        """A step of the start, which may take so long."""
        self.status(text, f"EXTEND_TIMEOUT_USEC={int(patience_s * 1e6)}")

    def ready(self) -> None:
        """The start, or a reload, is over."""
        self.send("READY=1")

    def reloading(self) -> None:
        """A reload begins."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end begins."""
        self.send("STOPPING=1", "STATUS=stopping")

    def progress(self) -> None:
        """The engine finished a batch: feeds the watchdog. Nothing else may."""
        now = time.monotonic()
        if self._every and now - self._fed >= self._every:
            self._fed = now
            self.send("WATCHDOG=1")
