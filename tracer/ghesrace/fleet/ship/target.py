# SPDX-License-Identifier: Apache-2.0
"""This puts files into a store so that they are there whole or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import fsspec

from ghesrace.errors import GhesraceError, TransientError, UsageError
from ghesrace.fleet.stores import SFTP

from .config import secrets

# These can rename, and show a file while it is being written. Others show it once they have it.
_RENAME = {"file", "local", *SFTP, "memory"}
_HTTP = {"http", "https"}


class Target:
    """A target is the folder at *url* in a store, which is opened with *options* and the
    *credentials* of which no message tells. Use it as a context manager.

        with Target("s3://evidence/host7", {}, credentials()) as target:
            target.put(Path("a.arrows"), "a.arrows")
    """

    def __init__(self, url: str, options: dict[str, Any], credentials: dict[str, Any]) -> None:
        self.url = url.rstrip("/")
        self._options = {**options, **credentials}
        self._secrets = secrets(credentials)
        self._system: Any = None
        self._path = ""

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        client = getattr(self._system, "client", None)
        if self._protocol & set(SFTP) and client is not None:
            with contextlib.suppress(Exception):
                client.close()
        self._system = None

    def put(self, path: Path, name: str) -> None:
        """Put the file *path* into the store as *name*, and return once the store has all of it.
        Raises TransientError if it can't be now, and UsageError if it never can."""
        try:
            self._open()
            if self._protocol & _HTTP:
                self._system.put_file(str(path), f"{self.url}/{name}", method="put")
                return  # What is no success was raised.
            self._put(path, f"{self._path.rstrip('/')}/{name}")
        except GhesraceError:
            raise
        except Exception as error:  # Each protocol's client has errors of its own.
            what = f"can't put {name} to {self.url}: {self._plain(error)}"
            # Not from the error: a traceback of it might tell a credential.
            raise TransientError(what, "it stays in the outbox and is tried again") from None

    def _open(self) -> None:
        if self._system is not None:
            return
        try:
            # Not one that was kept: its connection may be gone.
            self._system, self._path = fsspec.url_to_fs(
                self.url, skip_instance_cache=True, **self._options
            )
        except (ImportError, ValueError, TypeError) as error:
            what = f"can't open the store {self.url}: {self._plain(error)}"
            raise UsageError(what, "docs/ship.md has an example for each store") from None

    @property
    def _protocol(self) -> set[str]:
        told = getattr(self._system, "protocol", ())
        return {told} if isinstance(told, str) else set(told)

    def _put(self, path: Path, place: str) -> None:
        system = self._system
        folder = place.rpartition("/")[0]
        if self._protocol & _RENAME:
            system.makedirs(folder, exist_ok=True)
            part = f"{place}.part"
            system.put_file(str(path), part)
            self._confirm(part, path)
            system.mv(part, place)
        else:
            system.put_file(str(path), place)
        self._confirm(place, path)

    def _confirm(self, place: str, path: Path) -> None:
        """Raise OSError unless the store has as many bytes at *place* as *path* has."""
        self._system.invalidate_cache()
        has, wanted = self._system.info(place).get("size"), path.stat().st_size
        if has != wanted:
            raise OSError(f"the store has {has} bytes of {wanted:,}")

    def _plain(self, error: BaseException) -> str:
        """Return what *error* says, in one line, without credentials."""
        text = " ".join(str(error).split()) or type(error).__name__
        for secret in self._secrets:
            if len(secret) >= 4:
                text = text.replace(secret, "***")
        return text
