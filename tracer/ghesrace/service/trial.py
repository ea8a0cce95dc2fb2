# SPDX-License-Identifier: Apache-2.0
"""This tries what a configuration asks for, without starting anything: folders, addresses, TLS
files, and whether what is to be kept fits into memory and on the disk."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import psutil

from ghesrace.errors import GhesraceError, TransientError, UsageError
from ghesrace.host.memory import limit_bytes

from . import config
from .config import Config
from .metrics.access import WebConfig
from .metrics.server import Bulletin, WebServer

_CGROUP = Path("/sys/fs/cgroup/system.slice/ghesrace.service")
_OF_MEMORY = 2  # The recorder's events may take one part of so many.
_DROP_IN = (
    "the shipped unit lets loopback through alone: `systemctl edit ghesrace`, with [Service] and "
    "IPAddressAllow= for where Prometheus is"
)


def check_config(path: Path | None) -> None:
    """Read the file at *path* (without one, the default file) and try what it asks for. Print what
    is good and what to know. Raises UsageError for the first thing that a start would refuse or
    that can't work, a missing file included.

        check_config(Path("ghesrace.toml"))
    """
    where = path or config.DEFAULT
    settings = config.load(where)
    web = WebConfig(settings.web.config_file)
    _try_folders(settings, where)
    _try_sizes(settings, where)
    notes = [*_try_pack(settings), *_try_addresses(settings, web), *web.access().ignored]
    for note in notes:
        print(f"{where}: note: {note}")
    print(f"{where}: good")


def _try_folders(settings: Config, where: Path) -> None:
    if settings.recorder.enabled:
        folder = Path(settings.recorder.directory)
        _writable(_existing(folder), f"{where}: recorder.directory: {folder}")
    if settings.textfile.directory:
        folder = Path(settings.textfile.directory)
        if not folder.is_dir():
            raise UsageError(
                f"{where}: textfile.directory: {folder} is no folder",
                "make it, or name node_exporter's --collector.textfile.directory",
            )
        _writable(folder, f"{where}: textfile.directory: {folder}")


def _existing(folder: Path) -> Path:
    """Return *folder*, or the nearest one above it that exists, where it would be made."""
    return next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))


def _writable(folder: Path, what: str) -> None:
    if not folder.is_dir():
        raise UsageError(f"{what}: {folder} is no folder", "name another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{what}: {folder} can't be written", "check as root, or name another")
    if os.geteuid() == 0 and not _for_root(folder.stat()):
        raise UsageError(
            f"{what}: root can write {folder} only by a capability, which the daemon drops",
            "give the folder to root, or to root's group with the right to write",
        )


def _for_root(state: os.stat_result) -> bool:
    """Whether root can write a folder of this *state* without capabilities."""
    rights = state.st_mode >> (6 if state.st_uid == 0 else 3 if state.st_gid == 0 else 0)
    return rights & 3 == 3


def _try_sizes(settings: Config, where: Path) -> None:
    if not settings.recorder.enabled:
        return
    memory = settings.recorder.memory_mib << 20
    limit = min(filter(None, (limit_bytes(), _of_unit())), default=None)
    if limit is not None and memory > limit // _OF_MEMORY:
        raise UsageError(
            f"{where}: recorder.memory_mib: {settings.recorder.memory_mib} MiB are more than half "
            f"of the {limit >> 20} MiB that there are",
            "keep fewer events, or raise the unit's MemoryMax= and MemoryHigh=",
        )
    disk = psutil.disk_usage(str(_existing(Path(settings.recorder.directory))))
    if settings.recorder.budget_mib << 20 > disk.total:
        raise UsageError(
            f"{where}: recorder.budget_mib: {settings.recorder.budget_mib} MiB are more than the "
            f"{disk.total >> 20} MiB of the file system",
            "keep less, or name a folder elsewhere with recorder.directory",
        )


def _of_unit() -> int | None:
    """Return the bytes that the unit may have, if it runs."""
    try:
        text = (_CGROUP / "memory.max").read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _try_pack(settings: Config) -> Iterator[str]:
    from ghesrace import packs  # It imports what looks at a host, which nothing else here does.

    if (pack := packs.given(*settings.source.pack_given())) is None:
        return
    release = platform.release()
    if settings.source.backend == "ftrace":
        yield "source.pack: the ftrace backend takes none"
    elif not any(entry.release == release for entry in pack.entries):
        yield f"source.pack: nothing in it is for the Linux that runs now, {release}"


def _try_addresses(settings: Config, web: WebConfig) -> Iterator[str]:
    board = Bulletin(lambda: (False, ""), lambda: (False, ""))
    for host, port in config.addresses(settings):
        try:
            WebServer([(host, port)], board, web, 1).close()
        except TransientError as error:
            if not _ours(port):
                raise UsageError(f"web.listen: {error.what}", error.hint) from error
            yield f"web.listen: port {port} is in use by a ghesrace that runs already"
        if not host.startswith("127.") and host not in ("::1", "localhost"):
            yield f"web.listen: {host or '*'}:{port} is not loopback: {_DROP_IN}"


def _ours(port: int) -> bool:
    """Say whether a ghesrace of this host listens on *port*; false where that can't be seen."""
    try:
        for one in psutil.net_connections("tcp"):
            here = one.laddr[1] if one.laddr else None
            if one.status == psutil.CONN_LISTEN and here == port and one.pid:
                return any("ghesrace" in word for word in psutil.Process(one.pid).cmdline())
    except (psutil.Error, GhesraceError, OSError):
        return False
    return False
