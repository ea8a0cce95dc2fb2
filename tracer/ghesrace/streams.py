# SPDX-License-Identifier: Apache-2.0
"""This module makes standard output and standard error of a command what scripts can count on.

Whatever writes to standard output, be it print, argparse or a library, meets an OutputError where
it is full or closed, and `ReaderGone` where whoever read it has seen enough. What can't be written
to standard error is dropped, because it may not change what a command does.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from .errors import UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputError(UsageError):
    """Standard output is full or closed."""


class ReaderGone(Exception):
    """Whoever read our standard output has seen enough, as `head` does. It is no OSError, because
    libraries end the program themselves at a BrokenPipeError."""


class _Output(io.RawIOBase):
    """The file descriptor *fd*, or -1 if it was closed before the program began."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.given_up = False

    def writable(self) -> bool:
        """Return true."""
        return True

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self._fd >= 0 and os.isatty(self._fd)

    def fileno(self) -> int:
        """Return the file descriptor. Raises OSError if there is none."""
        if self._fd < 0:
            raise io.UnsupportedOperation("fileno")
        return self._fd

    def write(self, data: ReadableBuffer, /) -> int:
        """Write *data* and return its length. Raises OutputError or ReaderGone, and nothing after
        it was given up."""
        if self.given_up:
            return memoryview(data).nbytes
        try:
            if self._fd < 0:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            return os.write(self._fd, data)
        except BrokenPipeError as error:
            raise ReaderGone from error
        except OSError as error:
            raise OutputError(f"can't write to standard output: {error.strerror}") from error


class _Errors(_Output):
    """The same, for standard error, which may fail."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write *data* if that can be done, and return its length."""
        try:
            return super().write(data)
        except (OutputError, ReaderGone):
            return memoryview(data).nbytes


def take_over() -> None:
    """Put ours in the place of sys.stdout and sys.stderr, unless somebody (a test) did already.

    take_over()
    """
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = _text(sys.stdout, _Output(-1 if sys.stdout is None else 1))
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _text(sys.stderr, _Errors(-1 if sys.stderr is None else 2))


def give_up() -> None:
    """Drop what is still to be written to standard output, so that the interpreter does not
    complain at its end.

    give_up()
    """
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Output):
        raw.given_up = True


def _text(old: TextIO | None, raw: _Output) -> io.TextIOWrapper:
    errors = isinstance(raw, _Errors)
    if old is not None:
        old.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(old, "encoding", None) or "utf-8",
        errors="backslashreplace" if errors else getattr(old, "errors", None) or "strict",
        line_buffering=errors or raw.isatty(),
    )
