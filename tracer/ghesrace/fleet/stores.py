# SPDX-License-Identifier: Apache-2.0
"""A store is a place of files that fsspec reaches: a folder, a server (sftp), a bucket (s3), a web
server. This lists what captures are in it, and brings one of them here.

A capture may have a manifest of its host beside it, which `ghesrace ship` puts there before the
capture: NAME.arrows has NAME.arrows.host.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec

from ghesrace.errors import InputError, TransientError, UsageError
from ghesrace.sources.spool import MAX_BYTES, Spool

from .manifest import MANIFEST

SFTP = ("sftp", "ssh")
for _protocol in SFTP:
    fsspec.register_implementation(_protocol, "ghesrace.fleet.sftp.Sftp", clobber=True)

MAX_MANIFEST = 1 << 20  # bytes
_PIECE = 1 << 20
_LOCAL = "file://"
# In a folder only names of these kinds are captures or traces. A glob may name any file.
_PACKED = ("", ".gz", ".xz", ".zst")
_KINDS = tuple(f"{kind}{packed}" for kind in (".arrows", ".dat") for packed in _PACKED)
_TAGS = ("ETag", "etag", "checksum", "md5Hash", "content_md5")
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated")


@dataclass(frozen=True, slots=True)
class Item:
    """An item is one file of a store. `tag` changes when its content does (the store's ETag, or
    size and time); `modified` is its time in the store, and `manifest` says that one is beside
    it."""

    url: str
    tag: str
    bytes: int
    modified: datetime | None
    manifest: bool

    @property
    def folder(self) -> str:
        """This is the name of the folder that it is in.

        >>> Item("s3://bucket/host7/a.arrows", "", 0, None, False).folder
        'host7'
        """
        return self.url.rpartition("/")[0].rpartition("/")[2]


def items(url: str) -> list[Item]:
    """Return what can be judged at *url* (a folder and what is below it, a file, or a glob), in the
    order of names. Raises InputError if there is no such place, TransientError if it can't be
    reached, and UsageError if the URL is none or has a password in it.

        items("s3://evidence/2026/")
    """
    refuse_password(url)
    try:
        system, path = fsspec.url_to_fs(url)
        found = _listed(system, path)
    except FileNotFoundError as error:
        raise InputError(f"there is no {url}", "give the URL of a store or a capture") from error
    except (ValueError, ImportError) as error:
        raise UsageError(f"can't open the store {url}: {error}", _HINT) from error
    except Exception as error:  # Each protocol's client has errors of its own.
        raise TransientError(f"can't list {url}: {_why(error)}", "is it reachable?") from error
    names = found.keys()
    return [
        _item(_full(system, url, name), found[name], f"{name}{MANIFEST}" in names)
        for name in sorted(names)
        if not name.endswith(MANIFEST)
    ]


def _full(system: Any, url: str, name: str) -> str:
    """Return the URL of the file that the store at *url* calls *name*."""
    full = str(system.unstrip_protocol(name))
    if getattr(system, "host", None) is None or urlsplit(full).netloc:
        return full
    # A client of one host leaves it out of the names.
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{name}"


_HINT = "give file://, sftp://, s3:// or http:// and install the package that serves it"


def refuse_password(url: str) -> None:
    """Raise UsageError if *url* holds a password: it would be seen in the list of processes, and in
    all that names the URL.

    >>> refuse_password("sftp://me:secret@host/folder")
    Traceback (most recent call last):
    ghesrace.errors.UsageError: the URL of host holds a password
      leave it out: docs/survey.md and docs/ship.md say where credentials go
    """
    try:
        parts = urlsplit(url)
        secret = parts.password is not None
    except ValueError:
        return  # fsspec will refuse it, too.
    if secret:
        raise UsageError(
            f"the URL of {parts.hostname} holds a password",
            "leave it out: docs/survey.md and docs/ship.md say where credentials go",
        )


def _listed(system: Any, path: str) -> dict[str, dict[str, Any]]:
    """Return the files at *path* with what the store says of each. Raises what the client does."""
    if any(sign in path for sign in "*?["):
        return _files(system, system.glob(path, detail=True))
    info = system.info(path)
    if info.get("type") != "directory":
        beside = f"{path}{MANIFEST}"
        return {path: info, beside: {}} if system.exists(beside) else {path: info}
    found = _files(system, system.find(path, detail=True))
    kinds = (*_KINDS, *(f"{kind}{MANIFEST}" for kind in _KINDS))
    return {name: info for name, info in found.items() if name.endswith(kinds)}


def _files(system: Any, found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the plain files of what was *found*, and links to such: a pipe would be waited for."""
    files = {}
    for name, info in found.items():
        if info.get("islink"):
            try:
                info = system.info(name)  # This one follows the link.
            except FileNotFoundError:
                continue
        if info.get("type", "file") == "file":
            files[name] = info
    return files


def _item(url: str, info: dict[str, Any], manifest: bool) -> Item:
    size = info.get("size") or info.get("Size") or 0
    when = _time(next((info[key] for key in _TIMES if info.get(key)), None))
    told = next((str(info[key]).strip('"') for key in _TAGS if info.get(key)), "")
    tag = told or f"{size}-{when.timestamp() if when else 0:.6f}"
    return Item(url, tag, int(size), when, manifest)


def _time(value: object) -> datetime | None:
    """Return a store's time; it may be a number of seconds, a text or a time.

    >>> _time(0.5), _time("2026-01-02T03:04:05Z"), _time("?")
    (datetime.datetime(1970, 1, 1, 0, 0, 0, 500000, tzinfo=datetime.timezone.utc), \
datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), None)
    """
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
    except (ValueError, OverflowError, OSError):
        return None
    if not isinstance(value, datetime):
        return None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def local(item: Item) -> Path | None:
    """Return the path of *item* if it is on this machine, or None.

    >>> local(Item("file:///srv/a.arrows", "", 0, None, False))
    PosixPath('/srv/a.arrows')
    """
    return Path(item.url.removeprefix(_LOCAL)) if item.url.startswith(_LOCAL) else None


@contextmanager
def at_hand(item: Item) -> Iterator[Path]:
    """Give a path of what *item* holds: its own if it is on this machine, else that of a copy which
    is gone afterwards. Raises as `fetched` does.

        with at_hand(item) as path:
            path.read_bytes()
    """
    path = local(item)
    if path is None:
        with fetched(item) as spool:
            yield spool.path
        return
    try:
        path.open("rb").close()
    except OSError as error:
        raise TransientError(f"can't read {item.url}: {_why(error)}", "run it again") from error
    yield path


def fetched(item: Item) -> Spool:
    """Return a spool with what *item* holds, which the caller closes. Raises InputError if it is
    too large, and TransientError if it can't be read now.

        with fetched(item) as spool:
            spool.path.read_bytes()
    """
    spool = Spool()
    try:
        for piece in _pieces(item.url, MAX_BYTES):
            spool.file.write(piece)
    except BaseException as error:
        spool.close()
        if isinstance(error, InputError | TransientError) or not isinstance(error, Exception):
            raise
        raise TransientError(f"can't read {item.url}: {_why(error)}", "run it again") from error
    return spool


def manifest(item: Item) -> dict[str, Any]:
    """Return what the manifest beside *item* says, or nothing where there is none or where it is
    broken: then the host is as unknown as without one. Raises TransientError if it can't be read
    now.

    >>> manifest(Item("file:///nowhere/a.arrows", "", 0, None, False))
    {}
    """
    if not item.manifest:
        return {}
    url = f"{item.url}{MANIFEST}"
    try:
        told = json.loads(b"".join(_pieces(url, MAX_MANIFEST)))
    except (InputError, ValueError, RecursionError):
        return {}
    except Exception as error:
        raise TransientError(f"can't read {url}: {_why(error)}", "run it again") from error
    return told if isinstance(told, dict) else {}


def _pieces(url: str, most: int) -> Iterator[bytes]:
    """Yield the bytes at *url*. Raises InputError beyond *most*, and what the client does."""
    size = 0
    with fsspec.open(url, "rb") as file:
        while piece := file.read(_PIECE):
            size += len(piece)
            if size > most:
                raise InputError(f"{url}: more than {most:,} bytes", "it is no capture")
            yield piece


def _why(error: BaseException) -> str:
    """Return what *error* says, in one line and never empty."""
    return " ".join(str(error).split()) or type(error).__name__
