# SPDX-License-Identifier: Apache-2.0
"""Stores behind sftp. fsspec's own client takes any host for the one that it asked for; this one
wants its key to be known, since what goes there tells kernel addresses."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

from ghesrace.errors import UsageError

SYSTEM_HOSTS = Path("/etc/ssh/ssh_known_hosts")
_TIMEOUT_S = 30.0
_KEYS = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


class Sftp(SFTPFileSystem):  # type: ignore[misc]
    """This is the file system of `sftp://`. *known_hosts* is a file with keys of hosts besides the
    usual ones, and *private_key* the text of a key; all else is as paramiko's `connect` has it.

    Sftp("store.example", username="ghesrace", private_key=text)
    """

    def __init__(
        self,
        host: str,
        *,
        private_key: str | None = None,
        known_hosts: str | None = None,
        **more: Any,
    ) -> None:
        self._private_key, self._known_hosts = private_key, known_hosts
        super().__init__(host, **more)

    def _connect(self) -> None:
        """Connect. Raises SSHException if the host is not known, and what paramiko does."""
        self.client = paramiko.SSHClient()
        self.client.load_system_host_keys()
        for path in (SYSTEM_HOSTS, self._known_hosts and Path(self._known_hosts)):
            if path and path.is_file():
                self.client.load_system_host_keys(str(path))
        self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        options = {"timeout": _TIMEOUT_S, **self.ssh_kwargs}
        if self._private_key is not None:
            options |= {"pkey": read_key(self._private_key), "look_for_keys": False}
        self.client.connect(self.host, **options)
        self.ftp = self.client.open_sftp()
        self.ftp.get_channel().settimeout(_TIMEOUT_S)


def read_key(text: str) -> Any:
    """Return the private key in *text*, which is OpenSSH's or PEM and has no passphrase. Raises
    UsageError if it is none, without a word of what it is.

    >>> read_key("secret")
    Traceback (most recent call last):
    ghesrace.errors.UsageError: the private key for sftp can't be read
      it must be an Ed25519, ECDSA or RSA key of OpenSSH without a passphrase
    """
    for kind in _KEYS:
        try:
            return kind.from_private_key(io.StringIO(text))
        except (paramiko.SSHException, ValueError, IndexError):
            continue
    raise UsageError(
        "the private key for sftp can't be read",
        "it must be an Ed25519, ECDSA or RSA key of OpenSSH without a passphrase",
    )
