# SPDX-License-Identifier: Apache-2.0
"""This module brings what is in a pipe or in a compressed file into a temporary file that has no
name, because traces are read more than once and from any place.

The file is of mode 0600 and is gone when its last user closes it, however the program ends. What a
stranger compressed may expand without end: its size, its ratio and the room that it takes are
bounded.
"""

from __future__ import annotations

import errno
import gzip
import io
import lzma
import os
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa

from ghesrace.errors import GhesraceError, InputError, TransientError

MAX_BYTES = 8 << 30  # of a temporary file, unless --max-size says otherwise
STDIN = Path("-")
_PIECE = 1 << 20
_MAX_RATIO = 1000  # Text of a trace shrinks to a hundredth at best.
_FREE_OF_RATIO = 16 << 20  # bytes that may be of any ratio
_MOST_ROOM = 0.9  # of what is free: the others on the host need some, too
_XZ_MEMORY = 256 << 20  # bytes that expanding may take; `xz -9` takes 65 MiB
_MAGICS = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    **{bytes([0x50 + n]) + b"\x2a\x4d\x18": "zstd" for n in range(16)},  # a frame to be skipped
}


class Spool:
    """A spool is a temporary file without a name. `path` opens it, from its begin, as long as the
    spool is there.

    >>> with Spool() as spool:
    ...     spool.file.write(b"trace")
    ...     spool.path.read_bytes()
    5
    b'trace'
    """

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self.path = Path(f"/proc/self/fd/{self.file.fileno()}")

    def close(self) -> None:
        """Give the room back. A second call does nothing."""
        self.file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def spooled(path: Path, max_bytes: int = MAX_BYTES) -> Spool | None:
    """Return a spool with what the pipe or compressed file *path* ("-" for standard input) holds,
    or None if it is a file that can be read as it is, or none at all.

    Raises InputError if compressed data are damaged, cut, or expand to more than *max_bytes* or to
    a thousand times their size; TransientError if there is no room.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "trace.gz"
    >>> _ = path.write_bytes(gzip.compress(b"trace"))
    >>> with spooled(path) as spool:
    ...     spool.path.read_bytes()
    b'trace'
    """
    try:
        with _open(path) as file:
            state = os.fstat(file.fileno())
            begin = file.peek(8)[:8]
            how = next((name for magic, name in _MAGICS.items() if begin.startswith(magic)), "")
            # Files of /proc and tracefs have no size, and change while they are read.
            named = path != STDIN and stat.S_ISREG(state.st_mode)
            if not how and named and (state.st_size or not begin):
                return None
            return _filled(path, file, how, max_bytes)
    except IsADirectoryError:
        return None
    except GhesraceError:
        raise
    except (OSError, ValueError) as error:  # A path that has a NUL is a ValueError.
        why = getattr(error, "strerror", None) or error
        raise InputError(f"can't read {path}: {why}", "give the path of a trace") from error


def _open(path: Path) -> io.BufferedReader:
    """Open *path*, or standard input. Raises OSError."""
    if path != STDIN:
        return open(path, "rb")
    # Another file has the number 0 if it was closed.
    if sys.stdin is None:
        raise OSError(errno.EBADF, "standard input is closed")
    return open(0, "rb", closefd=False)


def _filled(path: Path, file: io.BufferedReader, how: str, max_bytes: int) -> Spool:
    spool = Spool()
    try:
        _fill(spool.file, path, file, how, max_bytes)
    except BaseException:
        spool.close()
        raise
    return spool


def _fill(out: IO[bytes], path: Path, file: io.BufferedReader, how: str, max_bytes: int) -> None:
    """Write what is in *file*, expanded as *how* says, to *out*. Raises as `spooled` does."""
    counted = _Counted(file)
    room = int(room_of(out) * _MOST_ROOM)
    size = 0
    for piece in _expanded(path, counted, how):
        size += len(piece)
        if size > max_bytes:
            raise InputError(
                f"{path}: more than {max_bytes:,} bytes", "allow more with --max-size, if it is one"
            )
        if how and size > _FREE_OF_RATIO + _MAX_RATIO * counted.bytes:
            raise InputError(
                f"{path}: it expands to more than {_MAX_RATIO:,} times its size",
                "no trace does; if it is one, expand it and give the file",
            )
        if size > room:
            raise _full(path)
        _write(out, path, piece)


def _write(out: IO[bytes], path: Path, piece: bytes) -> None:
    view = memoryview(piece)
    try:
        while view:
            view = view[out.write(view) :]
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise _full(path) from error


def _full(path: Path) -> TransientError:
    return TransientError(
        f"{path}: no room for it in {tempfile.gettempdir()}",
        "name a folder with more room: TMPDIR=/var/tmp ghesrace check ...",
    )


def room_of(out: IO[bytes]) -> int:
    """Return how many bytes are free where *out* is.

    >>> with Spool() as spool:
    ...     room_of(spool.file) > 0
    True
    """
    state = os.fstatvfs(out.fileno())
    return state.f_bavail * state.f_frsize


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Counted:
    """A file that counts the `bytes` that were read."""

    closed = False

    def __init__(self, file: _Readable) -> None:
        self._file = file
        self.bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes. Raises OSError."""
        data = self._file.read(size)
        self.bytes += len(data)
        return data

    def close(self) -> None:
        """Do nothing: whoever opened the file closes it."""


def _expanded(path: Path, file: _Counted, how: str) -> Iterator[bytes]:
    """Yield what is in *file*, in pieces of bounded size. Raises InputError if it is damaged."""
    try:
        yield from {"": _plain, "gzip": _gzip, "xz": _xz, "zstd": _zstd}[how](file)
    except EOFError as error:
        raise InputError(f"{path}: the {how} data end early", "copy the file again") from error
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        raise InputError(f"{path}: damaged {how} data: {error}", "copy the file again") from error


def _plain(file: _Counted) -> Iterator[bytes]:
    while data := file.read(_PIECE):
        yield data


def _gzip(file: _Counted) -> Iterator[bytes]:
    stream: Any = file  # GzipFile asks for no more than read().
    with gzip.GzipFile(fileobj=stream) as unpacked:
        yield from _plain(_Counted(unpacked))


def _xz(file: _Counted) -> Iterator[bytes]:
    data = file.read(_PIECE)
    while data:  # one stream after the other
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        while not unpacker.eof:
            if unpacker.needs_input and not data:
                data = file.read(_PIECE)
                if not data:
                    raise EOFError
            yield unpacker.decompress(data, _PIECE)
            data = b""
        data = unpacker.unused_data
        while (data := data.lstrip(b"\0") or file.read(_PIECE)) and not data.strip(b"\0"):
            pass  # Between two streams zeros may stand.


def _zstd(file: _Counted) -> Iterator[bytes]:
    stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
    while True:
        try:
            data = stream.read(_PIECE)
        except (
            OSError
        ) as error:  # Arrow's own errors, and those of the file, are both of this type.
            if error.errno is not None:
                raise
            if "runcated" in str(error):
                raise EOFError from error
            raise pa.ArrowException(str(error)) from error
        if not data:
            return
        yield data
