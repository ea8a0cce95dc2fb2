# SPDX-License-Identifier: Apache-2.0
"""The data set of a survey is a folder of Parquet files, which any reader of Parquet opens.

    runs/tool=0.1.0/BATCH.parquet      slots/..., findings/..., losses/... likewise

Each batch of captures has one file in each table. A file is written under another name and then
renamed, and that of `runs` comes last: a batch is there once it is. So whatever kills a survey
leaves whole batches, and files without their `runs`, which the next survey removes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ghesrace import __version__
from ghesrace.errors import GhesraceError, InputError, TransientError, UsageError

from .tables import KILLED, SCHEMAS

_PART = ".part"
_MARK = "ghesrace-survey"  # a file that says what the folder is, and is locked by who writes
_SCRATCH = ".scratch"
_COMMIT = "runs"


class Dataset:
    """A data set at *root*, of which this version of ghesrace reads and writes its own part. Use it
    as a context manager, which makes the folder and keeps another survey out.

    >>> import tempfile
    >>> from .tables import arrow
    >>> row = {"run": "r1", "url": "file:///a", "tag": "1"}
    >>> with Dataset(Path(tempfile.mkdtemp()) / "survey") as data:
    ...     data.write(arrow({"runs": [row]}))
    ...     data.known()
    {'file:///a': '1'}
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: int | None = None

    @property
    def scratch(self) -> Path:
        """This folder is for what need not outlive the survey; the next one removes it."""
        return self.root / _SCRATCH

    def __enter__(self) -> Dataset:
        try:
            full = self.root.is_dir() and any(self.root.iterdir())
            if full and not (self.root / _MARK).is_file():
                raise UsageError(
                    f"{self.root} is no data set of a survey, and not empty",
                    "choose another folder with --data",
                )
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.root / _MARK, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._clean_up()
        except GhesraceError:
            raise
        except OSError as error:
            self._unlock()
            if error.errno == errno.EWOULDBLOCK:
                raise TransientError(
                    f"another survey writes {self.root}", "wait for it, or choose another folder"
                ) from error
            raise _unwritable(self.root, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _folder(self, table: str) -> Path:
        return self.root / table / f"tool={__version__}"

    def _clean_up(self) -> None:
        """Remove what a killed survey left, and make the folders."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        for table in SCHEMAS:
            self._folder(table).mkdir(parents=True, exist_ok=True)
        whole = {path.name for path in self._folder(_COMMIT).glob("*.parquet")}
        for table in SCHEMAS:
            for path in self._folder(table).iterdir():
                if path.name not in whole:
                    path.unlink()

    def write(self, tables: dict[str, Any]) -> None:
        """Add a batch of rows: *tables* as `tables.arrow` makes them. It is there whole or not at
        all. Raises TransientError if the disk is full, UsageError if it can't be written."""
        runs = "\0".join(tables[_COMMIT]["run"].to_pylist())
        name = f"{hashlib.sha256(runs.encode()).hexdigest()[:24]}.parquet"
        for table in sorted(SCHEMAS, key=lambda table: table == _COMMIT):
            path = self._folder(table) / name
            try:
                _write(path, tables[table])
            except OSError as error:
                raise _unwritable(path, error) from error

    def known(self) -> dict[str, str]:
        """Return the tag of each capture that this version has judged, by its URL; where it has
        judged several contents, that of the last. What killed its worker may have had too little
        memory, and is not known."""
        found: dict[str, tuple[Any, str]] = {}
        for rows in self.rows(_COMMIT, ["url", "tag", "judged", "error"]):
            for row in rows:
                when = row["judged"]
                if row["error"] == KILLED:
                    continue
                if row["url"] not in found or (when and when >= found[row["url"]][0]):
                    found[row["url"]] = when, row["tag"]
        return {url: tag for url, (_, tag) in found.items()}

    def rows(self, table: str, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of a *table*, file by file. Raises InputError if one is damaged."""
        for path in sorted(self._folder(table).glob("*.parquet")):
            try:
                # Not read_table: it would take `tool=...` in the path for a column.
                with pq.ParquetFile(path) as file:
                    yield file.read(columns=columns).to_pylist()
            except (pa.ArrowException, OSError, KeyError, ValueError) as error:
                raise InputError(
                    f"{path} is damaged: {str(error).splitlines()[0]}",
                    f"remove each {path.name} there: its captures are then judged again",
                ) from error


def _write(path: Path, table: Any) -> None:
    """Write *table* to *path* so that whoever opens it finds all of it. Raises OSError."""
    part = path.with_suffix(_PART)
    try:
        with part.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _unwritable(path: Path, error: OSError) -> GhesraceError:
    what = f"can't write {path}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return TransientError(what, "free some space and run the same command again")
    return UsageError(what, "choose another folder with --data")
