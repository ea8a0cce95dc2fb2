# SPDX-License-Identifier: Apache-2.0
"""This module keeps the folder of captures. It publishes them atomically, and deletes the oldest to
stay within a budget.
"""

from __future__ import annotations

import errno
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from ghesrace.errors import GhesraceError

_LOOK_S = 30.0
# The names of complete captures; no other file of the folder is ours.
NAMED = re.compile(r"ghesrace-[0-9]{8}T[0-9]{6}Z-[a-z0-9_]+-[0-9]+\.arrows")
_PART = ".part"


class Folder:
    """A folder keeps captures in *directory*, which together take no more than *budget* bytes.

    `files`, `bytes` and `free` (bytes of the file system) are as of the last look.

    >>> import tempfile
    >>> folder = Folder(tempfile.mkdtemp(), budget=1 << 30)
    >>> folder.start()
    []
    >>> name = folder.new_id("stale")
    >>> folder.part(name).write_bytes(b"...")
    3
    >>> folder.publish(name).name.endswith("-stale-1.arrows"), folder.files
    (True, 1)
    """

    def __init__(self, directory: str, budget: int) -> None:
        self.path = Path(directory)
        self.budget = budget
        self.files = self.bytes = self.free = 0
        self.deleted = 0
        self._serial = 0
        self._next_look = 0.0

    def start(self) -> list[str]:
        """Make the folder. Captures that a killed run left unfinished, which are readable but cut,
        get their names, and these names are returned. Raises OSError."""
        self.path.mkdir(mode=0o750, parents=True, exist_ok=True)
        recovered = []
        for part in sorted(self.path.glob(f"ghesrace-*.arrows{_PART}")):
            os.replace(part, part.with_suffix(""))
            recovered.append(part.stem.removesuffix(".arrows"))
        self._count()
        return recovered

    def new_id(self, pattern: str) -> str:
        """Return a name for a capture that no other has. It is made of the time (UTC), the pattern
        and a serial number."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        pattern = re.sub(r"[^a-z0-9_]", "_", pattern.lower())[:32] or "finding"
        while True:
            self._serial += 1
            name = f"ghesrace-{stamp}-{pattern}-{self._serial}"
            if not self.file(name).exists() and not self.part(name).exists():
                return name

    def file(self, name: str) -> Path:
        """Return the path of the complete capture *name*."""
        return self.path / f"{name}.arrows"

    def part(self, name: str) -> Path:
        """Return the path of the capture *name* while it is being written."""
        return self.path / f"{name}.arrows{_PART}"

    def publish(self, name: str) -> Path:
        """Give a written capture its name once it is on the disk, and return its path. Raises
        OSError."""
        _sync(self.part(name))
        os.chmod(self.part(name), 0o640)
        os.replace(self.part(name), self.file(name))
        _sync(self.path)
        self.make_room(0, keep=self.file(name))
        return self.file(name)

    def discard(self, name: str) -> None:
        """Delete a capture that could not be written."""
        with suppress(OSError):  # On a read-only disk it stays until `start` finds it.
            self.part(name).unlink(missing_ok=True)

    def make_room(self, more: int, keep: Path | None = None) -> None:
        """Delete the oldest captures, but not *keep*, until *more* bytes fit into the budget and on
        the disk."""
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
        """Return whether it is time for another `look`; *now* is monotonic seconds."""
        return now >= self._next_look

    def look(self, now: float) -> OSError | None:
        """Count what is there. Return why nothing could be written now, or None if it could."""
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
        """Return the cause of an *error* in writing: `no_space`, `read_only` or `other`.

        >>> Folder.cause(OSError(errno.ENOSPC, "full"))
        'no_space'
        """
        inner = error.__cause__ if isinstance(error, GhesraceError) else error
        code = inner.errno if isinstance(inner, OSError) else None
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return "no_space"
        return "read_only" if code in (errno.EROFS, errno.EACCES, errno.EPERM) else "other"

    def _count(self) -> list[Path]:
        """Count the captures and their bytes, and return their paths, the oldest first."""
        found = []
        total = 0
        try:
            for entry in os.scandir(self.path):
                if NAMED.fullmatch(entry.name):
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
