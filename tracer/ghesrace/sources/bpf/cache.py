# SPDX-License-Identifier: Apache-2.0
"""What bcc made of a C text, kept until the next boot, so that a restarted daemon is not blind for
as long as LLVM takes.

The instructions depend on the text, which holds all that ghesrace knows of this kernel and its
addresses, on bcc, and on the headers' definitions of u8 to u64. So the text and bcc's version are
the name of an entry, and entries live in /run, which no boot survives. Whoever can write there
decides what runs in the kernel: a folder that is not ours alone is not used.
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

from . import instructions

KEPT = 16  # entries; a plan has one, and every module that changes it another
_OTHERS_MAY_WRITE = 0o022
_MOST_BYTES = 16 << 20
_NAME = slice(24, 40)


@dataclass(frozen=True, slots=True)
class Map:
    """How to make a map: the fields of struct bpf_map_info (include/uapi/linux/bpf.h)."""

    kind: int
    key_size: int
    value_size: int
    entries: int
    flags: int
    name: str

    @classmethod
    def of(cls, info: bytes) -> Map:
        """From the first 40 bytes of struct bpf_map_info."""
        kind, _, key, value, entries, flags = struct.unpack_from("<6I", info)
        return cls(kind, key, value, entries, flags, info[_NAME].rstrip(b"\0").decode())


@dataclass(frozen=True, slots=True)
class Compiled:
    """Functions' instructions (8 bytes each), in which a map's descriptor is an index of `maps`."""

    maps: tuple[Map, ...]
    code: dict[str, bytes]

    @classmethod
    def of(cls, code: dict[str, bytes], describe: Callable[[int], Map]) -> Compiled:
        """From instructions that hold descriptors."""
        fds = sorted(set().union(*map(instructions.maps, code.values())))
        index = {fd: n for n, fd in enumerate(fds)}
        maps = tuple(describe(fd) for fd in fds)
        return cls(maps, {name: instructions.name_maps(text, index) for name, text in code.items()})

    def with_maps(self, name: str, fds: list[int]) -> bytes:
        """The instructions of function *name*, with the descriptors of its maps."""
        return instructions.name_maps(self.code[name], dict(enumerate(fds)))

    def to_json(self) -> str:
        """For `from_json`."""
        code = {name: text.hex() for name, text in self.code.items()}
        return json.dumps({"maps": [asdict(one) for one in self.maps], "code": code})

    @classmethod
    def from_json(cls, text: str) -> Compiled:
        """What `to_json` made. Raises ValueError, KeyError or TypeError for anything else."""
        data = json.loads(text)
        code = {str(name): bytes.fromhex(text) for name, text in data["code"].items()}
        made = cls(tuple(Map(**one) for one in data["maps"]), code)
        for one in code.values():
            beyond = any(index >= len(made.maps) for index in instructions.maps(one))
            if len(one) % instructions.INSTRUCTION or beyond:
                raise ValueError("instructions that no compiler made")
        return made


def place() -> Path:
    """Where entries are: the unit's RuntimeDirectory=, or root's own in /run."""
    return Path(os.environ.get("RUNTIME_DIRECTORY", "/run/ghesrace")) / "bpf"


class Cache:
    """Entries in *folder*; without one that is ours alone it keeps nothing."""

    def __init__(self, folder: Path, version: str) -> None:
        self._version = version
        self._folder: Path | None = None
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Not the unit's folder above it either: who owns that can exchange ours.
            if _ours(folder) and _ours(folder.parent):
                self._folder = folder

    def _entry(self, text: str) -> Path | None:
        name = hashlib.sha256(f"{self._version}\0{text}".encode()).hexdigest()
        return self._folder / name if self._folder else None

    def get(self, text: str) -> Compiled | None:
        """What was kept of this C text."""
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
        """Keep it, and forget the oldest."""
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
    """Whether nobody but us (root) can write it."""
    found = path.lstat()
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_MAY_WRITE
