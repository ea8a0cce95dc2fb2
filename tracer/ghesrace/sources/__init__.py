"""Where event batches come from. Every source yields the same batches (events.py).

What is imported here, the child that compiles BPF programs (bpfcompile.py) loads too: no NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import UsageError

if TYPE_CHECKING:
    from ..events import Events
    from ..plan import Plan


class Source(Protocol):
    """What the check engine and the capture writer need of a source."""

    plan: Plan
    host: dict[str, Any]  # facts about the recorded host, JSON-ready

    def batches(self) -> Iterator[Events]:
        """Yield batches in which each CPU's events are in buffer order.

        A batch carries the losses that touch it and ends with a MARK: everything stamped
        below the mark, losses included, has been yielded. After the last batch of a run that
        ended well everything has been delivered. Raises TransientError when the kernel side
        goes away.
        """
        ...


# The continuation marker before the first message of an Arrow stream.
ARROW_STREAM = b"\xff\xff\xff\xff"


class FileSource(Source, Protocol):
    """A source that reads a file: known after `batches()` is exhausted, what was wrong with it."""

    truncated: bool
    warnings: list[str]


def open_file(path: Path, map_file: Path | None = None) -> FileSource:
    """The source that reads *path*, chosen by its content: a capture, or a foreign trace.

    *map_file* says what a foreign trace's events are (docs/foreign-traces.md). Raises InputError
    if nothing can read the file, UsageError for a map file with a capture.
    """
    # Imported here: a capture needs none of the foreign readers, and they import this module.
    from .capture import CaptureSource
    from .eventmap import load_map
    from .foreign import ForeignSource

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
