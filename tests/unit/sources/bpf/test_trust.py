# SPDX-License-Identifier: Apache-2.0
"""Whose packs are loaded, and from where."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ghesrace.errors import HostError, UsageError
from ghesrace.sources.bpf import trust
from ghesrace.sources.bpf.pack import Pack
from ghesrace.sources.bpf.trust import Trust, Untrusted, trusted
from tests.unit.sources.bpf.test_pack import PACK

DIGEST = hashlib.sha256(PACK.to_json().encode()).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "etc"
    folder.mkdir(mode=0o755)
    file = folder / "fleet.pack"
    file.write_text(PACK.to_json())
    file.chmod(0o644)
    return file


def read(given: Trust) -> Pack:
    """As root would, if tmp_path were / and this user root."""
    return trusted(given, owner=os.geteuid(), top=given.path.parent.parent)


def test_the_pack_that_is_configured_is_taken(path: Path) -> None:
    """If this fails, no pack can be used at all."""
    assert read(Trust(path, DIGEST)) == PACK
    assert read(Trust(path, DIGEST.upper())) == PACK


def test_another_content_is_refused(path: Path) -> None:
    """If this fails, whoever can write the file runs code in the kernel."""
    path.write_text(PACK.to_json() + " ")
    with pytest.raises(Untrusted, match="its SHA-256 is") as refused:
        read(Trust(path, DIGEST))
    assert hashlib.sha256(path.read_bytes()).hexdigest() in refused.value.what


def test_nothing_is_taken_on_its_word(path: Path) -> None:
    """If this fails, a configuration that forgot the SHA-256 takes any pack."""
    with pytest.raises(UsageError, match="neither its SHA-256 nor the key"):
        read(Trust(path))
    for digest in ("0", "x" * 64, DIGEST + "0", f"{DIGEST}\n"):
        with pytest.raises(UsageError, match="is no SHA-256"):
            read(Trust(path, digest))


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_what_others_can_write_is_refused(path: Path, mode: int) -> None:
    """If this fails, another user exchanges the pack between two starts, or the folder above it."""
    before = path.stat().st_mode
    path.chmod(mode)
    with pytest.raises(Untrusted, match="others than root can write"):
        read(Trust(path, DIGEST))
    path.chmod(before)
    for folder in (path.parent, path.parent.parent):
        before = folder.stat().st_mode
        folder.chmod(mode | 0o111)
        with pytest.raises(Untrusted, match=f"write {folder} "):
            read(Trust(path, DIGEST))
        folder.chmod(before)
    assert read(Trust(path, DIGEST)) == PACK


def test_what_another_user_owns_is_refused(path: Path) -> None:
    """If this fails, a user who owns the file, or a folder above it, decides what is loaded."""
    with pytest.raises(Untrusted, match=f"belongs to user {os.geteuid()}"):
        trusted(Trust(path, DIGEST), owner=os.geteuid() + 1, top=path.parent.parent)


def test_every_folder_up_to_the_root_is_asked(path: Path) -> None:
    """If this fails, /tmp would do: anybody could have put another folder in the place of this."""
    with pytest.raises(Untrusted):
        trusted(Trust(path, DIGEST), owner=os.geteuid())


def test_links_are_refused(path: Path) -> None:
    """If this fails, who can write the link's folder chooses which of root's files is read."""
    link = path.with_name("link.pack")
    link.symlink_to(path)
    with pytest.raises(Untrusted, match="symbolic link"):
        read(Trust(link, DIGEST))
    (path.parent.parent / "lib").symlink_to(path.parent)
    with pytest.raises(Untrusted, match="symbolic link"):
        read(Trust(path.parent.parent / "lib" / path.name, DIGEST))


def test_what_is_no_file_is_refused(path: Path) -> None:
    """If this fails, a start waits for ever for what a pipe says, or shows a traceback."""
    os.mkfifo(path.with_name("pipe"), 0o600)
    for name, words in (("pipe", "no file"), ("none", "can't read"), (".", "no file")):
        with pytest.raises(UsageError, match=words):
            read(Trust(path.with_name(name) if name != "." else path.parent, DIGEST))
    with pytest.raises(UsageError, match="relative"):
        trusted(Trust(Path("fleet.pack"), DIGEST))
    loop = path.with_name("loop")
    loop.symlink_to(loop)
    with pytest.raises(UsageError, match="can't read"):
        read(Trust(loop, DIGEST))


def test_what_is_too_large_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a wrong name of a file takes all memory."""
    monkeypatch.setattr(trust, "MOST_BYTES", 10)
    with pytest.raises(Untrusted, match="more than 10 bytes"):
        read(Trust(path, DIGEST))


def test_what_is_no_pack_is_told(path: Path) -> None:
    """If this fails, the daemon takes root's mistake for a fault of its own, and starts again."""
    path.write_text("{}")
    with pytest.raises(UsageError, match="is no program pack"):
        read(Trust(path, hashlib.sha256(b"{}").hexdigest()))


@pytest.fixture
def signed(path: Path) -> Callable[[str], Trust]:
    """Makes a key pair of an algorithm with openssl, and with it PACK.sig."""

    def make(algorithm: str = "ed25519") -> Trust:
        private, public = path.with_name("key.pem"), path.with_name("key.pub")
        commands = [
            ["openssl", "genpkey", "-algorithm", algorithm, "-out", private],
            ["openssl", "pkey", "-in", private, "-pubout", "-out", public],
        ]
        if algorithm == "ed25519":  # as docs/packs.md says
            sign = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", path]
            commands.append([*sign, "-out", f"{path}.sig"])
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
        for file in path.parent.iterdir():
            file.chmod(0o644)
        return Trust(path, key=public)

    return make


def test_a_pack_that_the_key_signed_is_taken(signed: Callable[[str], Trust]) -> None:
    """If this fails, a fleet needs a new configuration for each pack."""
    given = signed("ed25519")
    assert read(given) == PACK
    assert read(Trust(given.path, DIGEST, given.key)) == PACK
    with pytest.raises(Untrusted, match="SHA-256"):
        read(Trust(given.path, "0" * 64, given.key))


def test_what_the_key_did_not_sign_is_refused(signed: Callable[[str], Trust]) -> None:
    """If this fails, a signature protects from nothing."""
    given = signed("ed25519")
    signature = Path(f"{given.path}.sig")
    good, text = signature.read_bytes(), given.path.read_text()
    for bad in (bytes(64), b"", good[:-1], bytes([good[0] ^ 1]) + good[1:]):
        signature.write_bytes(bad)
        with pytest.raises(Untrusted, match="no signature of the pack"):
            read(given)
    signature.write_bytes(good)
    given.path.write_text(text + " ")
    with pytest.raises(Untrusted, match="no signature of the pack"):
        read(given)
    given.path.write_text(text)
    assert read(given) == PACK
    signature.chmod(0o666)
    with pytest.raises(Untrusted, match=r"write .*\.sig"):
        read(given)
    signature.unlink()
    with pytest.raises(UsageError, match=r"can't read .*\.sig"):
        read(given)


def test_the_key_is_as_safe_as_the_pack(signed: Callable[[str], Trust]) -> None:
    """If this fails, who can write the key signs a pack of their own."""
    given = signed("ed25519")
    assert given.key is not None
    given.key.chmod(0o666)
    with pytest.raises(Untrusted, match=r"write .*key\.pub"):
        read(given)


def test_other_keys_are_refused(signed: Callable[[str], Trust]) -> None:
    """If this fails, a key that is none shows a traceback."""
    given = signed("ed25519")
    assert given.key is not None
    given.key.write_text("no key")
    with pytest.raises(UsageError, match="no public key in PEM"):
        read(given)
    signature = Path(f"{given.path}.sig").read_bytes()
    other = signed("x25519")
    Path(f"{given.path}.sig").write_bytes(signature)
    with pytest.raises(UsageError, match="no Ed25519 key"):
        read(other)


def test_a_host_without_cryptography_says_so(
    signed: Callable[[str], Trust], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a signature that can't be checked is a traceback, or good."""
    given = signed("ed25519")
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(HostError, match="cryptography is missing"):
        read(given)
    assert read(Trust(given.path, DIGEST)) == PACK
