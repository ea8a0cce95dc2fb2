# SPDX-License-Identifier: Apache-2.0
"""A capture file is an Arrow IPC *stream* of event batches, with the plan and the host facts in its
schema.

columns.py says what the columns are. A stream needs no footer, so what was flushed before a crash
can be read. The file of a run that ended well has Arrow's end-of-stream marker, and a cut one lacks
it. Any Arrow reader opens the file: `pyarrow.ipc.open_stream(path).read_pandas()`.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import time
from collections.abc import Iterator, Mapping
from io import BufferedReader, BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ghesrace import __version__
from ghesrace.errors import GhesraceError, HostError, InputError, TransientError
from ghesrace.events import Cause, Events, Kind, empty, joined, loss, mark, promised
from ghesrace.plan import Plan

from . import guard
from .columns import READ, WRITTEN, Columns, Format

MAX_ROWS = 1 << 20  # rows of one batch that is read
WRITTEN_ROWS = 1 << 17  # ... and of one that is written, of which a reader holds some 25 MB
Column = npt.NDArray[Any]
_AT_ONCE = 1 << 15  # rows that a reader hands out, about: they fit into a CPU's cache
_MAX_METADATA = 64 << 20  # bytes of the schema message, which carries plan and host facts
_MAX_BODY = 2 * MAX_ROWS * sum(Columns(WRITTEN, summary=True).widths)
_CONTINUATION = b"\xff\xff\xff\xff"


def schema(plan: Plan, host: dict[str, Any]) -> pa.Schema:
    """Return the schema of a capture of *plan* on *host* (facts that JSON can hold).

    >>> schema(Plan("x86_64", "6.12", (), ()), {}).metadata[b"ghesrace.format"]
    b'2'
    """
    metadata: dict[str | bytes, str | bytes] = {
        "ghesrace.format": WRITTEN,
        "ghesrace.version": __version__,
        "ghesrace.plan": json.dumps(plan.to_dict()),
        "ghesrace.host": json.dumps(host),
    }
    return pa.schema(Columns(WRITTEN, plan.summary).fields(), metadata)


class CaptureWriter:
    """A writer puts batches into a new file at *path*. Use it as a context manager or call
    `close()`, because only then does the file end with the marker of a run that ended well.

    Batches are collected for up to *interval* seconds, then written and flushed to the OS, so that
    a kill -9 loses at most what came since. `rows` counts the records written so far. Raises
    TransientError if the disk is full, or HostError if the file can't be written.

    >>> import tempfile
    >>> from ghesrace.events import mark
    >>> path = Path(tempfile.mkdtemp()) / "host.arrows"
    >>> with CaptureWriter(path, Plan("x86_64", "6.12", (), ()), {"release": "6.12"}) as writer:
    ...     writer.write(mark(1_000))
    >>> [len(batch) for batch in CaptureSource(path).batches()]
    [1]
    """

    def __init__(
        self, path: str | Path, plan: Plan, host: dict[str, Any], *, interval: float = 0.9
    ) -> None:
        self.path = Path(path)
        self.rows = 0
        self._interval = interval
        self._pending: list[Events] = []
        self._written = time.monotonic()
        self._columns = Columns(WRITTEN, plan.summary)
        self._schema = schema(plan, host)
        self._failed = False
        try:
            self._file: BufferedWriter | None = open(self.path, "wb")  # noqa: SIM115
        except OSError as error:
            raise self._error(error) from error
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        self._writer = pa.ipc.new_stream(self._file, self._schema, options=options)
        # Arrow writes the schema with the first batch. An empty batch brings it to the disk now.
        self._pending.append(empty())
        try:
            self.flush()
        except GhesraceError:
            self.close(ended_well=False)
            raise

    def write(self, batch: Events) -> None:
        """Take one batch (EVENT, shape (n,)), and flush if it is time. Raises as `flush` does."""
        self._pending.append(batch)
        waiting = sum(map(len, self._pending))
        if waiting >= WRITTEN_ROWS or time.monotonic() - self._written >= self._interval:
            self.flush()

    def flush(self) -> None:
        """Write what was collected and hand it to the OS. Raises TransientError if the disk is
        full, or HostError if the file can't be written."""
        if not self._pending:
            return
        rows = joined(self._pending)
        self._pending.clear()
        try:
            for first in range(0, max(len(rows), 1), WRITTEN_ROWS):
                part = rows[first : first + WRITTEN_ROWS]
                values = self._columns.of(part)
                columns = [_column(values[field.name], field.type) for field in self._schema]
                self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        except OSError as error:
            self._failed = True
            raise self._error(error) from error
        self._flush()
        self.rows += len(rows)
        self._written = time.monotonic()

    def close(self, ended_well: bool = True) -> None:
        """Write the rest, and the end-of-stream marker if the run *ended_well*. A second call does
        nothing. Raises as `flush` does."""
        if self._file is None:
            return
        try:
            if not self._failed:
                self.flush()
                if ended_well:
                    self._writer.close()
                self._flush()
        finally:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError as error:
                if not self._failed:
                    raise self._error(error) from error

    def __enter__(self) -> CaptureWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close(ended_well=error is None)
        except GhesraceError:
            if error is None:
                raise

    def _flush(self) -> None:
        assert self._file is not None
        try:
            self._file.flush()
        except OSError as error:
            self._failed = True
            raise self._error(error) from error

    def _error(self, error: OSError) -> GhesraceError:
        what = f"can't write {self.path}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return TransientError(
                what,
                "free some space or use -o on another disk; what was written before is readable",
            )
        return HostError(what, "choose another file with -o")


class CaptureSource:
    """This source reads a capture file of any format in columns.READ. `plan` and `host` are there
    at once, and batches are read one at a time; CaptureWriter has an example.

    After `batches()` is exhausted, `truncated` says whether the file ends without its marker or in
    damage; `warnings` then say what is wrong, and the last batch holds a LOSS (TRUNCATED).
    Memory is bounded whatever the file claims. Raises InputError if the file is no capture, or
    if it is cut before its first intact batch. *stored* is where its bytes are, if not at *path*.
    """

    def __init__(self, path: str | Path, stored: Path | None = None) -> None:
        self.path = Path(path)
        self._stored = stored or self.path
        self.truncated = False
        self.warnings: list[str] = []
        with self._open() as file:
            self._schema, self._begin = self._read_schema(file)
        metadata = self._schema.metadata or {}
        version = self._version(metadata)
        try:
            self.plan = Plan.from_json(metadata[b"ghesrace.plan"])
            self.host: dict[str, Any] = json.loads(metadata[b"ghesrace.host"])
            json.dumps(self.host, ensure_ascii=False).encode()  # This refuses half a surrogate.
        except (KeyError, ValueError, RecursionError) as error:
            raise InputError(
                f"{self.path}: the plan or host facts in it are damaged: {error}",
                "record the capture again",
            ) from error
        host = self.host if isinstance(self.host, dict) else {"release": None}
        names = [host.get(name, "") for name in ("arch", "release")]
        if not all(isinstance(name, str) and name.isprintable() for name in names):
            raise InputError(f"{self.path}: the host facts in it are damaged")
        self._columns = Columns(version, self.plan.summary)
        if not self._columns.fit(self._schema):
            raise InputError(f"{self.path}: its columns are not those of format {version}")

    def _version(self, metadata: Mapping[bytes, bytes]) -> Format:
        told = metadata[b"ghesrace.format"]
        for version in READ:
            if told == version.encode():
                return version
        raise InputError(
            f"{self.path}: capture format {told!r}, this ghesrace reads {' and '.join(READ)}",
            "read it with the ghesrace that wrote it",
        )

    def batches(self) -> Iterator[Events]:
        """See sources.Source."""
        self.truncated, self.warnings = False, []
        marked = newest = 0
        intact = False
        with self._open() as file:
            file.seek(self._begin)
            while True:
                try:
                    columns = self._next(file)
                except InputError as error:
                    self.truncated = True
                    self.warnings.append(f"{self.path}: {error.what}")
                    break
                if columns is None:
                    return
                for part in _parts(columns):
                    events = self._columns.batch(part)
                    intact = True
                    real = events["kind"] < Kind.LOSS
                    newest = max(newest, int(events["ts"][real].max(initial=0)))
                    marked = max(marked, promised(events))
                    yield events
        if not intact:
            raise InputError(
                f"{self.path}: {self.warnings[-1].partition(': ')[2]} before the first batch",
                "the capture was cut too early to be judged: record again",
            )
        end = max(marked, newest)
        yield joined((loss(marked, end, Cause.TRUNCATED), mark(end)))

    def _open(self) -> BufferedReader:
        try:
            file = open(self._stored, "rb", opener=_no_wait)  # noqa: SIM115
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(
                f"can't read {self.path}: {why}", "give the path of a capture file"
            ) from error
        return file

    def _read_schema(self, file: BufferedReader) -> tuple[pa.Schema, int]:
        foreign = InputError(
            f"{self.path} is not a ghesrace capture",
            "give a file written by `ghesrace capture -o FILE`",
        )
        if not self._stored.is_file():
            raise foreign
        try:
            message = self._message(file)
            if message is None or message[0].kind != guard.SCHEMA or message[0].body:
                raise foreign
            _, metadata, _ = message
            found = pa.ipc.read_schema(pa.py_buffer(_framed(metadata)))
        except (InputError, pa.ArrowException, OSError, ValueError) as error:
            raise foreign from error
        if b"ghesrace.format" not in (found.metadata or {}):
            raise foreign
        return found, file.tell()

    def _message(self, file: BufferedReader) -> tuple[guard.Header, bytes, bytes] | None:
        """Return the next message (header, metadata, body), or None at the end-of-stream marker.

        The format is Arrow's "encapsulated message format"
        (arrow.apache.org/docs/format/Columnar.html). Raises InputError if the message is damaged.
        """
        left = os.fstat(file.fileno()).st_size - file.tell()
        prefix = file.read(8)
        if len(prefix) == 0:
            raise InputError("the file ends without its end marker")
        if len(prefix) < 8:
            raise InputError("the file ends in the middle of a batch")
        if prefix[:4] != _CONTINUATION:
            raise InputError("damaged: no message where one should be")
        (length,) = struct.unpack("<i", prefix[4:])
        if length == 0:
            return None
        if length < 0 or length > _MAX_METADATA:
            raise InputError("damaged: a message of impossible length")
        if length > left - 8:
            raise InputError("the file ends in the middle of a batch")
        metadata = file.read(length)
        head = guard.header(metadata)
        if head.body < 0 or head.body > _MAX_BODY:
            raise InputError("damaged: a batch of impossible length")
        if head.body > left - 8 - length:
            raise InputError("the file ends in the middle of a batch")
        return head, metadata, file.read(head.body)

    def _next(self, file: BufferedReader) -> dict[str, Column] | None:
        message = self._message(file)
        if message is None:
            return None
        head, metadata, body = message
        if head.kind != guard.RECORD_BATCH:
            raise InputError("damaged: a message that is no batch")
        guard.check_batch(metadata, body, self._columns.widths, MAX_ROWS)
        try:
            framed = pa.py_buffer(_framed(metadata) + body)
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(framed), self._schema)
            batch.validate(full=True)
            return {
                name: batch.column(name).to_numpy(zero_copy_only=True)
                for name in self._columns.names
            }
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise InputError(f"damaged batch: {str(error).splitlines()[0]}") from error


def _parts(columns: dict[str, Column]) -> Iterator[dict[str, Column]]:
    """The rows of *columns* in parts that end with a MARK, behind which nothing is left open."""
    first, rows = 0, len(columns["kind"])
    ends = np.append(np.flatnonzero(columns["kind"] == Kind.MARK) + 1, rows)
    while first < rows:
        end = int(ends[np.searchsorted(ends, min(first + _AT_ONCE, rows))])
        yield {name: column[first:end] for name, column in columns.items()}
        first = end


def _no_wait(path: str, flags: int) -> int:
    # A FIFO without a writer would block the opening itself.
    return os.open(path, flags | os.O_NONBLOCK)


def _column(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array[Any]:
    # This avoids pa.array(), which looks for pandas and masked arrays at its first call. That takes
    # seconds under emulation.
    data = pa.py_buffer(np.ascontiguousarray(values).data)
    return pa.Array.from_buffers(kind, len(values), [None, data])


def _framed(metadata: bytes) -> bytes:
    return _CONTINUATION + struct.pack("<i", len(metadata)) + metadata
