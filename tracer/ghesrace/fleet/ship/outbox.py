# SPDX-License-Identifier: Apache-2.0
"""The outbox holds what is to be sent until the store has it. It is a folder:

    waiting/NAME, waiting/NAME.host.json    a capture and its manifest
    taken                                   the journal: a line for each file that was taken

A capture is copied, because the daemon removes its oldest ones when its own budget is full, and the
store may be away for longer. A line of the journal is written once the copy is whole, and a copy is
removed once the store has confirmed it. So a kill at any point makes a capture be copied or sent
again, under the same name and with the same content, and never be forgotten.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ghesrace.errors import TransientError
from ghesrace.fleet.manifest import MANIFEST, manifest_of

_PIECE = 1 << 20
_SUFFIX = ".arrows"
# What tells whether a file is the one that was taken: its name, size and time (ns).
Key = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Waiting:
    """This is a capture that waits, beside its manifest."""

    path: Path
    bytes: int

    @property
    def manifest(self) -> Path:
        """This is where its manifest is."""
        return self.path.with_name(f"{self.path.name}{MANIFEST}")


class Outbox:
    """The outbox at *root*, of at most *budget* bytes. Use it as a context manager, which keeps
    another `ship` out. Raises TransientError if it can't be written now, as each method does.

        with Outbox(Path("/var/lib/ghesrace-ship"), 1 << 30) as outbox:
            outbox.take(Path("/var/lib/ghesrace/captures"), 15.0, now, host)
    """

    def __init__(self, root: Path, budget: int) -> None:
        self.root, self.budget = root, budget
        self._waiting, self._journal = root / "waiting", root / "taken"
        self._taken: dict[Key, str] = {}
        self._lock: int | None = None

    def __enter__(self) -> Outbox:
        try:
            with _told(self.root):
                self._waiting.mkdir(parents=True, exist_ok=True)
                self._lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise TransientError(
                        f"another `ghesrace ship` uses {self.root}", "wait for it"
                    ) from error
                for part in self._waiting.glob("*.part"):
                    part.unlink()
                self._taken = dict(self._read())
                self._end_line()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def take(
        self,
        captures: Path,
        settle: float,
        now: float,
        host: dict[str, str | None],
        everything: bool = True,
    ) -> tuple[list[str], float | None]:
        """Copy the new captures of the folder *captures* that nobody has written for *settle*
        seconds before *now* (seconds since 1970): *everything*, or what the budget has room for.
        Return the names of those that were taken, and the seconds until the next one can be, or
        None."""
        taken, wait = [], None
        room = self.budget - sum(one.bytes for one in self.waiting())
        there: set[Key] = set()
        for path in sorted(captures.glob(f"*{_SUFFIX}"), key=_age):
            try:
                state = path.stat()
            except FileNotFoundError:  # The daemon made room.
                continue
            key = path.name, state.st_size, state.st_mtime_ns
            if key in self._taken:
                there.add(key)
                continue
            if not everything and state.st_size > room and room < self.budget:
                continue
            left = state.st_mtime + settle - now
            if 0 < left <= settle:  # A time in the future is no reason to wait.
                wait = left if wait is None else min(wait, left)
                continue
            if self._copy(path, key, host):
                there.add(key)
                taken.append(path.name)
                room -= state.st_size
            else:
                wait = settle if wait is None else min(wait, settle)
        self._forget(there)
        return taken, wait

    def _copy(self, path: Path, key: Key, host: dict[str, str | None]) -> bool:
        """Copy the capture *path*, with its manifest. Return whether it was still there, and nobody
        has written it meanwhile."""
        part = self._waiting / "new.part"
        with _told(self.root):
            try:
                digest = _copied(path, part)
                state = path.stat()
            except FileNotFoundError:
                return False
            if (state.st_size, state.st_mtime_ns) != key[1:]:
                return False
            os.utime(part, ns=(key[2], key[2]))
            name = f"{path.stem}-{digest[:12]}{_SUFFIX}"
            told = manifest_of(part, path.name, digest, host)
            manifest_part = self._waiting / "manifest.part"
            _write(manifest_part, told)
            manifest_part.replace(self._waiting / f"{name}{MANIFEST}")
            part.replace(self._waiting / name)
            _sync(self._waiting)
            with self._journal.open("ab") as journal:
                journal.write(json.dumps([*key, digest]).encode() + b"\n")
                journal.flush()
                os.fsync(journal.fileno())
        self._taken[key] = digest
        return True

    def waiting(self) -> list[Waiting]:
        """Return what waits, the oldest first."""
        found = sorted(self._waiting.glob(f"*{_SUFFIX}"), key=_age)
        return [Waiting(path, path.stat().st_size) for path in found]

    def drop_beyond_budget(self) -> list[str]:
        """Remove the oldest of what waits until the rest is within the budget; return the names."""
        waiting = self.waiting()
        total, dropped = sum(one.bytes for one in waiting), []
        for one in waiting:
            if total <= self.budget:
                break
            total -= one.bytes
            self.sent(one)
            dropped.append(one.path.name)
        return dropped

    def sent(self, one: Waiting) -> None:
        """Remove *one*, which the store has."""
        with _told(self.root):
            one.path.unlink(missing_ok=True)
            one.manifest.unlink(missing_ok=True)

    def _read(self) -> Iterator[tuple[Key, str]]:
        """Yield what the journal says; a line that was cut by a crash, or damaged, is none."""
        if not self._journal.exists():
            return
        for line in self._journal.read_bytes().splitlines():
            try:
                name, size, mtime, digest = json.loads(line)
            except (ValueError, TypeError):
                continue
            if isinstance(name, str) and isinstance(size, int) and isinstance(mtime, int):
                yield (name, size, mtime), str(digest)

    def _end_line(self) -> None:
        """End a line of the journal that a crash has cut, so that the next one is a line of its
        own."""
        if self._journal.exists() and self._journal.read_bytes()[-1:] not in (b"", b"\n"):
            with self._journal.open("ab") as journal:
                journal.write(b"\n")

    def _forget(self, there: set[Key]) -> None:
        """Take out of the journal what is no longer *there*, once that is most of it."""
        if len(self._taken) <= 2 * len(there) + 100:
            return
        self._taken = {key: digest for key, digest in self._taken.items() if key in there}
        lines = [json.dumps([*key, digest]) + "\n" for key, digest in self._taken.items()]
        with _told(self.root):
            part = self._journal.with_name("taken.part")
            _write(part, "".join(lines).encode())
            part.replace(self._journal)
            _sync(self.root)


def _age(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, path.name
    except FileNotFoundError:
        return 0, path.name


def _copied(path: Path, part: Path) -> str:
    """Copy *path* to *part*, and return the SHA-256 of what was copied. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file, part.open("wb") as out:
        while piece := file.read(_PIECE):
            digest.update(piece)
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextlib.contextmanager
def _told(root: Path) -> Iterator[Any]:
    """Raise TransientError where the outbox can't be read or written."""
    try:
        yield
    except TransientError:
        raise
    except OSError as error:
        where = error.filename or root
        raise TransientError(
            f"can't keep captures in {root}: {where}: {error.strerror}",
            "give it room and the right to read the captures; nothing was sent and nothing lost",
        ) from error
