# SPDX-License-Identifier: Apache-2.0
"""This module chooses the source that can read a file, by the file's content."""

from __future__ import annotations

import weakref
from pathlib import Path

from ghesrace.errors import UsageError
from ghesrace.sources import FileSource

# An Arrow stream begins with the continuation marker of its first message.
ARROW_STREAM = b"\xff\xff\xff\xff"


def open_file(
    path: Path,
    map_file: Path | None = None,
    *,
    max_bytes: int | None = None,
    run: int | None = None,
) -> FileSource:
    """Return the source that reads *path* ("-" for standard input), which its content tells to be a
    capture of ghesrace or a foreign trace, compressed or not.

    *map_file* says what a foreign trace's events are (docs/foreign-traces.md). *max_bytes* bounds
    what a pipe may bring and a compressed file may expand to (by default spool.MAX_BYTES), and
    *run* is the number of the only run or buffer of a foreign trace that is to be judged. Raises
    InputError if nothing can read the file, UsageError if a map file or *run* is given with a
    capture or there is no such run, and TransientError if there is no room for what is stored.

    >>> import tempfile
    >>> from ghesrace.events import mark
    >>> from ghesrace.plan import Plan
    >>> from ghesrace.sources.capture.file import CaptureWriter
    >>> path = Path(tempfile.mkdtemp()) / "host.arrows"
    >>> with CaptureWriter(path, Plan("x86_64", "6.12", (), ()), {}) as writer:
    ...     writer.write(mark(1_000))
    >>> source = open_file(path)
    >>> source.plan.release, sum(len(batch) for batch in source.batches())
    ('6.12', 1)
    """
    from .spool import MAX_BYTES, spooled

    spool = spooled(path, MAX_BYTES if max_bytes is None else max_bytes)
    if spool is None:
        return _open(path, path, map_file, run)
    try:
        source = _open(path, spool.path, map_file, run)
    except BaseException:
        spool.close()
        raise
    weakref.finalize(source, spool.close)  # It is there as long as the source is.
    return source


def _open(path: Path, stored: Path, map_file: Path | None, run: int | None) -> FileSource:
    """Do what `open_file` does, with the bytes of *path* where they are *stored*."""
    # These are imported here because a capture needs none of the foreign readers, and because they
    # import this module.
    from .capture.file import CaptureSource
    from .foreign.eventmap import load_map
    from .foreign.source import ForeignSource

    if not stored.is_file() or _begins(stored, ARROW_STREAM):
        if map_file is not None:
            raise UsageError(
                f"{path} is a capture of ghesrace: it needs no map file", "leave --map out"
            )
        if run is not None:
            raise UsageError(f"{path} is a capture of ghesrace: it has one run", "leave --run out")
        return CaptureSource(path, stored)
    given = None if map_file is None else load_map(map_file)
    return ForeignSource(path, given, stored=stored, run=run)


def _begins(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return True  # CaptureSource will fail to open the file too, and say why.
