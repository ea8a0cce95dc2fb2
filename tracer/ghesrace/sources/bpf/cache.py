# SPDX-License-Identifier: Apache-2.0
"""This module keeps what bcc made of a C text until the next boot, so that a restarted daemon is
not blind for as long as LLVM takes.

The instructions depend on the text, which holds all that ghesrace knows of this kernel and its
addresses, on bcc, and on the headers' definitions of u8 to u64. So the text and bcc's version make
the name of an entry, and entries live in /run, which is empty after a boot. Whoever can write there
decides what runs in the kernel, so a folder that others can write is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ghesrace.host.syscalls import INSTRUCTION

from . import instructions

KEPT = 16  # entries; a plan has one, and another one for every module that changes the plan
_OTHERS_MAY_WRITE = 0o022
_MOST_BYTES = 16 << 20
_NAME = slice(24, 40)


@dataclass(frozen=True, slots=True)
class Map:
    """This says how to make a map, in the fields of struct bpf_map_info (include/uapi/linux/bpf.h).
    Sizes are in bytes."""

    kind: int
    key_size: int
    value_size: int
    entries: int
    flags: int
    name: str

    @classmethod
    def of(cls, info: bytes) -> Map:
        """Return the map that the first 40 bytes of a struct bpf_map_info describe."""
        kind, _, key, value, entries, flags = struct.unpack_from("<6I", info)
        return cls(kind, key, value, entries, flags, info[_NAME].rstrip(b"\0").decode())


@dataclass(frozen=True, slots=True)
class Compiled:
    """This holds the instructions (8 bytes each) of C functions by name. In the place of a map's
    descriptor they have an index into `maps`.

    >>> Compiled.from_json(Compiled((), {"p0": bytes(8)}).to_json()).code
    {'p0': b'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'}
    """

    maps: tuple[Map, ...]
    code: dict[str, bytes]

    @classmethod
    def of(cls, code: dict[str, bytes], describe: Callable[[int], Map]) -> Compiled:
        """Take instructions that hold descriptors; *describe* tells the map of a descriptor."""
        fds = sorted(set().union(*map(instructions.maps, code.values())))
        index = {fd: n for n, fd in enumerate(fds)}
        maps = tuple(describe(fd) for fd in fds)
        return cls(maps, {name: instructions.name_maps(text, index) for name, text in code.items()})

    def with_maps(self, name: str, fds: list[int]) -> bytes:
        """Return the instructions of function *name*, with *fds* as the descriptors of its maps."""
        return instructions.name_maps(self.code[name], dict(enumerate(fds)))

    def to_json(self) -> str:
        """Return a text from which `from_json` makes the same again."""
        code = {name: text.hex() for name, text in self.code.items()}
        return json.dumps({"maps": [asdict(one) for one in self.maps], "code": code})

    @classmethod
    def from_json(cls, text: str) -> Compiled:
        """Read what `to_json` made. Raises ValueError, KeyError or TypeError for anything else."""
        data = json.loads(text)
        code = {str(name): bytes.fromhex(text) for name, text in data["code"].items()}
        made = cls(tuple(Map(**one) for one in data["maps"]), code)
        for one in code.values():
            beyond = any(index >= len(made.maps) for index in instructions.maps(one))
            if len(one) % INSTRUCTION or beyond:
                raise ValueError("instructions that no compiler made")
        return made


def place() -> Path:
    """Return the folder of the entries, which is in the unit's RuntimeDirectory= or in
    /run/ghesrace. What is no absolute path is none of systemd's."""
    given = Path(os.environ.get("RUNTIME_DIRECTORY", ""))
    return (given if given.is_absolute() else Path("/run/ghesrace")) / "bpf"


class Cache:
    """A cache keeps its entries in *folder*. It keeps nothing if others can write that folder.
    *version* is bcc's.

    >>> import tempfile
    >>> cache = Cache(Path(tempfile.mkdtemp()) / "bpf", "0.26")
    >>> cache.put("int p0(void) {...}", Compiled((), {"p0": bytes(8)}))
    >>> cache.get("int p0(void) {...}") == Compiled((), {"p0": bytes(8)})
    True
    """

    def __init__(self, folder: Path, version: str) -> None:
        self._version = version
        self._folder: Path | None = None
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The unit's folder above it must be ours too: whoever owns that can exchange this one.
            if _ours(folder) and _ours(folder.parent):
                self._folder = folder

    def _entry(self, text: str) -> Path | None:
        name = hashlib.sha256(f"{self._version}\0{text}".encode()).hexdigest()
        return self._folder / name if self._folder else None

    def get(self, text: str) -> Compiled | None:
        """Return what was kept of this C text, or None if nothing was, or if it is damaged."""
        entry = self._entry(text)
        try:
            if entry is None or not _ours(entry) or entry.stat().st_size > _MOST_BYTES:
                return None
            found = Compiled.from_json(entry.read_text())
            os.utime(entry)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return found

    def put(self, text: str, compiled: Compiled) -> None:
        """Keep what was *compiled* of this C text, and delete the oldest entries beyond KEPT. It
        never raises OSError: what can't be kept is compiled again."""
        entry = self._entry(text)
        if entry is None:
            return
        part = entry.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            try:
                part.touch(mode=0o600)
                part.write_text(compiled.to_json())
                part.replace(entry)
            finally:
                part.unlink(missing_ok=True)
            old = sorted(entry.parent.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)
            for path in old[KEPT:]:
                path.unlink()


def _ours(path: Path) -> bool:
    """Return whether nobody but us (root) can write *path*."""
    found = path.lstat()
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_MAY_WRITE
