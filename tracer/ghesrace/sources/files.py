# SPDX-License-Identifier: Apache-2.0
"""Which source reads a file: told by its content."""

from __future__ import annotations

from pathlib import Path

from ghesrace.errors import UsageError
from ghesrace.sources import FileSource

# The continuation marker before the first message of an Arrow stream.
ARROW_STREAM = b"\xff\xff\xff\xff"


def open_file(path: Path, map_file: Path | None = None) -> FileSource:
    """The source that reads *path*, chosen by its content: a capture, or a foreign trace.

    *map_file* says what a foreign trace's events are (docs/foreign-traces.md). Raises InputError
    if nothing can read the file, UsageError for a map file with a capture.
    """
    # Imported here: a capture needs none of the foreign readers, and they import this module.
    from .capture.file import CaptureSource
    from .foreign.eventmap import load_map
    from .foreign.source import ForeignSource

    if not path.is_file() or _begins(path, ARROW_STREAM):
        if map_file is not None:
            raise UsageError(
                f"{path} is a capture of ghesrace: it needs no map file", "leave --map out"
            )
        return CaptureSource(path)
    return ForeignSource(path, None if map_file is None else load_map(map_file))


def _begins(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return True  # whoever reads it will say why it can't
