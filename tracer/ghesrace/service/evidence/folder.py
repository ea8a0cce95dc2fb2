# SPDX-License-Identifier: Apache-2.0
"""The folder of captures: atomic publication, a budget, oldest first."""

from __future__ import annotations

import errno
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from ghesrace.errors import GhesraceError

_LOOK_S = 30.0
_OURS = re.compile(r"ghesrace-\d{8}T\d{6}Z-[a-z0-9_]+-\d+\.arrows")
_PART = ".part"


class Folder:
    """Captures in *directory* that together take no more than *budget* bytes.

    `files`, `bytes`, `free` (of the file system) are as of the last look.
    """

    def __init__(self, directory: str, budget: int) -> None:
        self.path = Path(directory)
        self.budget = budget
        self.files = self.bytes = self.free = 0
        self.deleted = 0
        self._serial = 0
        self._next_look = 0.0

    def start(self) -> list[str]:
        """Make the folder; name what a killed run left unfinished (readable, but cut), and
        return those names. Raises OSError."""
        self.path.mkdir(mode=0o750, parents=True, exist_ok=True)
        recovered = []
        for part in sorted(self.path.glob(f"ghesrace-*.arrows{_PART}")):
            os.replace(part, part.with_suffix(""))
            recovered.append(part.stem.removesuffix(".arrows"))
        self._count()
        return recovered

    def new_id(self, pattern: str) -> str:
        """A name for a capture that no other has: time (UTC), pattern, serial."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        pattern = re.sub(r"[^a-z0-9_]", "_", pattern.lower())[:32] or "finding"
        while True:
            self._serial += 1
            name = f"ghesrace-{stamp}-{pattern}-{self._serial}"
            if not self.file(name).exists() and not self.part(name).exists():
                return name

    def file(self, name: str) -> Path:
        """Where the complete capture *name* is."""
        return self.path / f"{name}.arrows"

    def part(self, name: str) -> Path:
        """Where capture *name* is while it is written."""
        return self.path / f"{name}.arrows{_PART}"

    def publish(self, name: str) -> Path:
        """Give a written capture its name, once it is on the disk. Raises OSError."""
        _sync(self.part(name))
        os.chmod(self.part(name), 0o640)
        os.replace(self.part(name), self.file(name))
        _sync(self.path)
        self.make_room(0, keep=self.file(name))
        return self.file(name)

    def discard(self, name: str) -> None:
        """Forget a capture that could not be written."""
        with suppress(OSError):  # a read-only disk: `start` finds it when it can be written again
            self.part(name).unlink(missing_ok=True)

    def make_room(self, more: int, keep: Path | None = None) -> None:
        """Delete the oldest captures until *more* bytes fit into the budget and on the disk."""
        files = self._count()
        while files and (self.bytes + more > self.budget or self.free < more):
            oldest = next((f for f in files if f != keep), None)
            if oldest is None:
                return
            files.remove(oldest)
            try:
                size = oldest.stat().st_size
                oldest.unlink()
            except OSError:
                continue
            self.deleted += 1
            self.bytes -= size
            self.files -= 1
            self.free += size

    def due(self, now: float) -> bool:
        """Whether it is time for another `look`."""
        return now >= self._next_look

    def look(self, now: float) -> OSError | None:
        """Count what is there; why nothing could be written now, or None."""
        self._next_look = now + _LOOK_S
        self._count()
        try:
            if not os.access(self.path, os.W_OK):
                os.stat(self.path)
                readonly = os.statvfs(self.path).f_flag & os.ST_RDONLY
                code = errno.EROFS if readonly else errno.EACCES
                return OSError(code, os.strerror(code), str(self.path))
            if self.free < 1 << 20:
                return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError as error:
            return error
        return None

    @staticmethod
    def cause(error: Exception) -> str:
        """`no_space`, `read_only` or `other`."""
        inner = error.__cause__ if isinstance(error, GhesraceError) else error
        code = inner.errno if isinstance(inner, OSError) else None
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return "no_space"
        return "read_only" if code in (errno.EROFS, errno.EACCES, errno.EPERM) else "other"

    def _count(self) -> list[Path]:
        """The captures, oldest first."""
        found = []
        total = 0
        try:
            for entry in os.scandir(self.path):
                if _OURS.fullmatch(entry.name):
                    status = entry.stat()
                    found.append((status.st_mtime_ns, entry.name))
                    total += status.st_size
            system = os.statvfs(self.path)
            self.free = system.f_bavail * system.f_frsize
        except OSError:
            pass
        self.files, self.bytes = len(found), total
        return [self.path / name for _, name in sorted(found)]


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
