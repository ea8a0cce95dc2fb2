# SPDX-License-Identifier: Apache-2.0
"""This module decides whether a program pack may be read at all. Who writes a pack decides what
runs in the kernel, so two things are asked, and both must hold: nobody but root can have written
the file where it lies, and somebody whom the configuration names made its content.

The content is read once, and what was read is what is checked, so that nothing can be exchanged in
between.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from ghesrace.errors import HostError, InputError, UsageError

from .pack import MOST_BYTES, Pack

SIGNATURE = ".sig"  # of the file beside a pack that has its detached signature
_MOST_KEY, _SIGNATURE_BYTES = 1 << 16, 64
_OTHERS_MAY_WRITE = 0o022
_ROOT = 0


class Untrusted(UsageError):
    """The pack is not used: others could have written it, or its maker is not known."""


@dataclass(frozen=True, slots=True)
class Trust:
    """This says which pack is taken: the file `path` whose SHA-256 is `sha256` (hexadecimal), or
    that the Ed25519 key in the PEM file `key` signed. One of them is needed, and if both are given
    both must hold."""

    path: Path
    sha256: str = ""
    key: Path | None = None


def trusted(trust: Trust, *, owner: int = _ROOT, top: Path = Path("/")) -> Pack:
    """Return the pack that *trust* names. *owner* is the user that must own everything from *top*
    down. Raises Untrusted for one that can't be trusted, UsageError if it can't be read or is no
    pack, and HostError if this host can't check signatures.

        pack = trusted(Trust(Path("/etc/ghesrace/fleet.pack"), sha256="9f86d0...", key=None))
    """
    if not trust.sha256 and trust.key is None:
        raise UsageError(
            f"{trust.path}: neither its SHA-256 nor the key that signed it is given",
            "`ghesrace bpf show` prints the SHA-256",
        )
    if trust.sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", trust.sha256):
        raise UsageError(f"{trust.sha256[:80]!r} is no SHA-256", "give 64 hexadecimal digits")
    data = owned(trust.path, MOST_BYTES, owner, top)
    found = hashlib.sha256(data).hexdigest()
    if trust.sha256 and not hmac.compare_digest(found, trust.sha256.lower()):
        raise Untrusted(
            f"{trust.path}: its SHA-256 is {found}, and not the one that is configured",
            "if you put it there, configure this one; else find out who did",
        )
    if trust.key is not None:
        signature = trust.path.with_name(trust.path.name + SIGNATURE)
        _signed(
            data,
            owned(signature, _SIGNATURE_BYTES, owner, top),
            owned(trust.key, _MOST_KEY, owner, top),
            trust,
        )
    try:
        return Pack.read(data, str(trust.path))
    except InputError as error:
        raise UsageError(error.what, error.hint) from error


def owned(path: Path, most: int, owner: int = _ROOT, top: Path = Path("/")) -> bytes:
    """Return the content of *path*, at most *most* bytes, which nobody but *owner* can have
    written. Raises Untrusted or UsageError.

        owned(Path("/etc/ghesrace/fleet.pack"), 1 << 20)
    """
    if not path.is_absolute():
        raise UsageError(f"{path} is relative", "give an absolute path")
    try:
        if (real := path.resolve(strict=True)) != path:
            raise Untrusted(f"{path} leads through a symbolic link", f"name {real} itself")
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise Untrusted(f"{path} is no file", "name a file")
            _only_root(path, status, owner)
            for folder in path.parents:
                _only_root(folder, folder.lstat(), owner)
                if folder == top:
                    break
            with open(fd, "rb", closefd=False) as file:
                data = file.read(most + 1)
        finally:
            os.close(fd)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"can't read {path}: {why}", "name another file") from error
    if len(data) > most:
        raise Untrusted(f"{path} has more than {most:,} bytes", "name another file")
    return data


def _only_root(path: Path, status: os.stat_result, owner: int) -> None:
    if status.st_uid != owner:
        raise Untrusted(
            f"{path} belongs to user {status.st_uid}, who could change what runs in the kernel",
            "put the pack where everything up to / is root's: /etc/ghesrace",
        )
    if status.st_mode & _OTHERS_MAY_WRITE:
        raise Untrusted(
            f"others than root can write {path} (mode {stat.S_IMODE(status.st_mode):04o})",
            "put the pack where nobody else can write, up to /: /etc/ghesrace",
        )


def _signed(data: bytes, signature: bytes, key: bytes, trust: Trust) -> None:
    """Raise Untrusted unless *signature* is that of *data* by the public *key*."""
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise HostError(
            "Python's cryptography is missing, which checks the signature of a pack",
            "apt install python3-cryptography, or configure the pack's SHA-256 instead",
        ) from error
    try:
        public = load_pem_public_key(key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{trust.key} is no public key in PEM", "see docs/packs.md") from error
    if not isinstance(public, Ed25519PublicKey):
        raise UsageError(f"{trust.key} is no Ed25519 key", "see docs/packs.md")
    try:
        public.verify(signature, data)
    except InvalidSignature as error:
        raise Untrusted(
            f"{trust.path}{SIGNATURE} is no signature of the pack by {trust.key}",
            "sign the pack again; if you did not change it, find out who did",
        ) from error
