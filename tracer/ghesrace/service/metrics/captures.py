# SPDX-License-Identifier: Apache-2.0
"""This lists and hands out the captures over HTTP: to known clients, one download at a time, with
bounds on size, rate and time.

A capture holds kernel and physical addresses. Only names that the flight recorder gives are ever
opened, relative to its folder and not through a link, so no other file can be asked for.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from ghesrace.render.live import Kept
from ghesrace.service.evidence.folder import NAMED

REFUSED = (
    "Captures hold kernel and physical addresses, so they are listed and handed out only where "
    "web.config_file asks for a password (basic_auth_users) or a client certificate "
    "(RequireAndVerifyClientCert)."
)
MOST_BYTES = 256 << 20
MOST_SECONDS = 300.0
BYTES_PER_SECOND = 8 << 20
_PIECE = 64 << 10
_LISTED = 100


class TooBig(Exception):
    """This is raised for a capture of more than MOST_BYTES."""


class Busy(Exception):
    """This is raised while another client downloads."""


@dataclass(slots=True)
class Captures:
    """The captures in *directory*; "" for none. *sleep* and *clock* are time's.

    >>> Captures("").listed()
    ()
    """

    directory: str
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _one: threading.Lock = field(default_factory=threading.Lock)

    def listed(self) -> tuple[Kept, ...]:
        """Return the newest captures, the newest first."""
        found = []
        try:
            with os.scandir(self.directory or os.devnull) as entries:
                for entry in entries:
                    if NAMED.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        found.append((status.st_mtime, entry.name, status.st_size))
        except OSError:
            return ()
        found.sort(reverse=True)
        return tuple(
            Kept(name, size, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(when)))
            for when, name, size in found[:_LISTED]
        )

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[BinaryIO, int]]:
        """Give the capture *name*, open, and its bytes. Raises OSError if there is none of that
        name, TooBig, or Busy."""
        if not NAMED.fullmatch(name) or not self.directory:
            raise FileNotFoundError(name)
        if not self._one.acquire(blocking=False):
            raise Busy
        try:
            folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                fd = os.open(name, flags, dir_fd=folder)
            finally:
                os.close(folder)
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise FileNotFoundError(name)
                if status.st_size > MOST_BYTES:
                    raise TooBig
                with open(fd, "rb", closefd=False) as file:
                    yield file, status.st_size
            finally:
                os.close(fd)
        finally:
            self._one.release()

    def pieces(self, file: BinaryIO, size: int) -> Iterator[bytes]:
        """Yield *size* bytes of *file* piece by piece, no faster than BYTES_PER_SECOND. It ends
        early when MOST_SECONDS are over, or the file is cut meanwhile."""
        begin, sent = self.clock(), 0
        while sent < size:
            piece = file.read(min(_PIECE, size - sent))
            if not piece:
                return
            yield piece
            sent += len(piece)
            passed = self.clock() - begin
            if passed > MOST_SECONDS:
                return
            ahead = sent / BYTES_PER_SECOND - passed
            if ahead > 0:
                self.sleep(ahead)
