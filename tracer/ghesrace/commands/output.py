# SPDX-License-Identifier: Apache-2.0
"""This is about the file that a report is written to."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TextIO

from ghesrace.errors import UsageError


def spare_inputs(output: Path | None, inputs: Iterable[Path | None]) -> None:
    """Raise UsageError if *output* is one of the files that the report is about: it would be empty
    before it was read.

    >>> spare_inputs(Path("report.html"), [Path("host.arrows"), None])
    """
    for path in inputs:
        if output is None or path is None or not (path.exists() and output.exists()):
            continue
        if path.samefile(output):
            raise UsageError(f"{output} is an input", "choose another place with -o")


def unwritable(path: Path, error: OSError) -> UsageError:
    """Return what to raise where a report can't be written to *path*: unwritable(path, error)."""
    return UsageError(f"can't write {path}: {error.strerror}", "choose another place with -o")


def opened(path: Path) -> TextIO:
    """Open *path* for a report. Raises UsageError if that can't be.

    >>> opened(Path("/nowhere/report"))
    Traceback (most recent call last):
    ghesrace.errors.UsageError: can't write /nowhere/report: No such file or directory
      choose another place with -o
    """
    try:
        return io.TextIOWrapper(io.BufferedWriter(_Told(path, "w")), encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from error


class _Told(io.FileIO):
    """A file whose failures to be written are told as such, and not as those of an input."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            raise unwritable(Path(str(self.name)), error) from error


def opened_binary(path: Path) -> IO[bytes]:
    """Open *path* for bytes. Raises UsageError if that can't be, and when it can't be written.

    >>> opened_binary(Path("/nowhere/trace"))
    Traceback (most recent call last):
    ghesrace.errors.UsageError: can't write /nowhere/trace: No such file or directory
      choose another place with -o
    """
    try:
        return io.BufferedWriter(_Told(path, "w"))
    except OSError as error:
        raise unwritable(path, error) from error
