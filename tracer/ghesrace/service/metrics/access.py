# SPDX-License-Identifier: Apache-2.0
"""This module guards access to the metrics, as a web config file says that Prometheus' exporters
share.

exporter-toolkit describes the format in docs/web-configuration.md. `tls_server_config` (cert_file,
key_file, client_ca_file, client_auth_type, client_allowed_sans, min_version, max_version) and
`basic_auth_users` (name: bcrypt) are taken. What only says how a connection is preferred to be made
(http2, preferences of ciphers and curves) is ignored, and that is told. Any other key is refused,
so that nobody believes in a protection that is not there.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
import hmac
import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt
import yaml

from ghesrace.errors import UsageError

_TLS_KEYS = (
    *("cert_file", "key_file", "client_ca_file", "client_auth_type", "client_allowed_sans"),
    *("min_version", "max_version", "prefer_server_cipher_suites", "curve_preferences"),
)
_HTTP_KEYS = ("http2",)
_TOP_KEYS = ("tls_server_config", "http_server_config", "basic_auth_users")
_IGNORED = {
    "http_server_config": ("http2",),
    "tls_server_config": ("prefer_server_cipher_suites", "curve_preferences"),
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
# These are the values of Go's crypto/tls.ClientAuthType for which Python's ssl can do the same.
_CLIENT_AUTH = {
    "": ssl.CERT_NONE,
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_NO_TEXT = ("client_allowed_sans", "prefer_server_cipher_suites", "curve_preferences")
_SANS = ("DNS", "IP Address", "URI", "email")
# A user who does not exist is compared with this hash, so that the time tells nothing.
_NOBODY = b"$2b$10$CwTycUXWue0Thq9StjUM0uJ8eYyFdLdlEQmIhqoLJDGrVJoyKv4LG"
_CACHED = 64
_BCRYPT = re.compile(rb"\$2[aby]\$(?:0[4-9]|1[0-6])\$[./A-Za-z0-9]{53}")


@dataclass(slots=True)
class Access:
    """This says who may read the metrics. `tls` is None for plain HTTP, and `users` maps names to
    bcrypt hashes; without users everybody may. If there are `sans`, a client's certificate must
    have one of them as a subject's alternative name. `ignored` says what of the file has no effect.

    >>> Access().allowed(None)
    True
    """

    tls: ssl.SSLContext | None = None
    users: Mapping[str, bytes] = field(default_factory=dict)
    sans: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()
    _known: dict[bytes, None] = field(default_factory=dict)
    _key: bytes = field(default_factory=lambda: os.urandom(32))

    @property
    def guarded(self) -> bool:
        """This is true if every client is known: by a password, or by a certificate."""
        known = self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED
        return bool(self.users) or known

    def named(self, certificate: Mapping[str, Any] | None) -> bool:
        """Return whether a client's *certificate*, as SSLSocket.getpeercert() has it, has one of
        the names that are allowed.

        >>> Access(sans=frozenset({"a.test"})).named({"subjectAltName": (("DNS", "b.test"),)})
        False
        """
        if not self.sans:
            return True
        names = (certificate or {}).get("subjectAltName", ())
        return any(_plain(name) in self.sans for kind, name in names if kind in _SANS)

    def allowed(self, header: str | None) -> bool:
        """Return whether the Authorization *header* names a user with the right password.

        bcrypt is slow on purpose, so what was right once is remembered, as a keyed hash.
        """
        if not self.users:
            return True
        name, password = _credentials(header)
        hashed = self.users.get(name, _NOBODY)
        text = b"\0".join((name.encode(), password, hashed))
        token = hmac.digest(self._key, text, hashlib.sha256)
        if token in self._known:
            return True
        try:
            good = bcrypt.checkpw(password[:72], hashed) and name in self.users
        except ValueError:
            return False
        if good:
            self._known[token] = None
            if len(self._known) > _CACHED:
                self._known.pop(next(iter(self._known)), None)
        return good


class _Once(yaml.SafeLoader):
    """A key that is there twice is an error: the second one may open what the first one closes."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if isinstance(name, str) and name in seen and name != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} is there twice", key.start_mark
                )
            seen.add(name if isinstance(name, str) else None)
        return super().construct_mapping(node, deep)


def _plain(name: str) -> str:
    """Return *name*; of an IP address, the form that all of its spellings have."""
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name


def _credentials(header: str | None) -> tuple[str, bytes]:
    scheme, _, value = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return "", b""
    try:
        name, _, password = base64.b64decode(value.strip(), validate=True).partition(b":")
        return name.decode(), password
    except (binascii.Error, ValueError):
        return "", b""


def load(path: Path) -> Access:
    """Read the web configuration at *path*. Raises UsageError, which names the file and the key.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "web.yml"
    >>> _ = path.write_text("basic_auth_users: {}")
    >>> load(path).users
    {}
    """
    try:
        data = yaml.load(path.read_bytes(), _Once) or {}  # a SafeLoader
    except OSError as error:
        raise UsageError(
            f"can't read the web configuration {path}: {error.strerror}",
            'correct web.config_file, or set it to ""',
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = str(getattr(error, "problem_mark", "") or error).strip()
        why = getattr(error, "problem", None)
        where = f"{why}, {where}" if why else where
        raise UsageError(f"{path}: not YAML: {where}", "see exporter-toolkit's docs") from error
    data = _mapping(data, path, "the file")
    _known(data, _TOP_KEYS, path, "")
    tls = _section(data, "tls_server_config", path)
    _known(tls, _TLS_KEYS, path, "tls_server_config.")
    http = _section(data, "http_server_config", path)
    _known(http, _HTTP_KEYS, path, "http_server_config.")
    users = _section(data, "basic_auth_users", path)
    ignored = tuple(
        f"{path}: {section}.{key} has no effect here"
        for section, keys in _IGNORED.items()
        for key in keys
        if key in (data.get(section) or {})
    )
    texts = {key: value for key, value in tls.items() if key not in _NO_TEXT}
    context = _context(texts, path) if tls else None
    return Access(context, _users(users, path), _sans(tls, context, path), ignored)


def _sans(tls: dict[str, Any], context: ssl.SSLContext | None, path: Path) -> frozenset[str]:
    given = tls.get("client_allowed_sans") or []
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise UsageError(
            f"{path}: tls_server_config.client_allowed_sans is no list of names", "quote them"
        )
    if given and (context is None or context.verify_mode is not ssl.CERT_REQUIRED):
        raise UsageError(
            f"{path}: tls_server_config.client_allowed_sans needs client certificates",
            "set client_auth_type: RequireAndVerifyClientCert",
        )
    return frozenset(map(_plain, given))


def _section(data: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    """Return the section *name*; {} if it is not there, or says nothing."""
    value = data.get(name)
    return {} if value is None else _mapping(value, path, name)


def _mapping(value: Any, path: Path, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {what} is no mapping", "see exporter-toolkit's docs")
    for key in value:
        if not isinstance(key, str):
            raise UsageError(f"{path}: {what} has a key that is no text: {key!r}", "quote it")
    return value


def _known(data: dict[str, Any], keys: tuple[str, ...], path: Path, prefix: str) -> None:
    for key in data:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, 1, 0.6)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"keys are {', '.join(keys)}"
            raise UsageError(f"{path}: {prefix}{key} is not supported", hint)


def _users(users: dict[str, Any], path: Path) -> dict[str, bytes]:
    found = {}
    for name, hashed in users.items():
        if not isinstance(hashed, str) or not _is_bcrypt(hashed.encode()):
            raise UsageError(
                f"{path}: basic_auth_users.{name} is no bcrypt hash",
                "make one with `htpasswd -nBC 10 NAME`; its cost is 4 to 16",
            )
        found[name] = hashed.encode()
    return found


def _is_bcrypt(hashed: bytes) -> bool:
    """Whether it is one by its form, of a cost that a login can wait for."""
    return _BCRYPT.fullmatch(hashed) is not None


def _context(tls: dict[str, Any], path: Path) -> ssl.SSLContext:
    for key, value in tls.items():
        if not isinstance(value, str):
            raise UsageError(f"{path}: tls_server_config.{key} is no text", "quote it")
    mode = tls.get("client_auth_type", "")
    if mode not in _CLIENT_AUTH:
        raise UsageError(
            f"{path}: tls_server_config.client_auth_type {mode!r} is not supported",
            f"use one of {', '.join(filter(None, _CLIENT_AUTH))}",
        )
    least = _version(tls, "min_version", "TLS12", path)
    most = _version(tls, "max_version", "TLS13", path)
    if least > most:
        raise UsageError(f"{path}: tls_server_config.min_version is above max_version", "swap them")
    # As in exporter-toolkit, paths in the file are relative to the file's own folder.
    files = {k: path.parent / v for k, v in tls.items() if k.endswith("_file") and v}
    if "cert_file" not in files or "key_file" not in files:
        raise UsageError(f"{path}: tls_server_config needs cert_file and key_file", "name both")
    authority = files.get("client_ca_file")
    if (authority is None) != (_CLIENT_AUTH[mode] is ssl.CERT_NONE):
        raise UsageError(
            f"{path}: client_ca_file and a client_auth_type that verifies go together",
            "give both or neither",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = least, most
    try:
        context.load_cert_chain(files["cert_file"], files["key_file"])
        if authority is not None:
            context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"{path}: the certificates can't be used: {error}", "check the files that it names"
        ) from error
    context.verify_mode = _CLIENT_AUTH[mode]
    return context


def _version(tls: dict[str, Any], key: str, default: str, path: Path) -> ssl.TLSVersion:
    version = tls.get(key) or default
    if version not in _VERSIONS:
        raise UsageError(
            f"{path}: tls_server_config.{key} {version!r} is not supported",
            f"use one of {', '.join(_VERSIONS)}",
        )
    return _VERSIONS[version]


class WebConfig:
    """This gives the access that the file at *path* grants, or free access if *path* is "". The
    file is read again when it has changed. A change that is broken is not taken over (`error` says
    why), so that a typo neither opens nor closes the door.

    Raises UsageError if the first reading fails.

    >>> WebConfig("").access().tls is None
    True
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path) if path else None
        self.error: str | None = None
        self._seen = self._stamp()
        self._access = load(self.path) if self.path is not None else Access()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat() if self.path is not None else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size) if status else None

    def access(self) -> Access:
        """Return the access that holds now. It never raises UsageError."""
        stamp = self._stamp()
        if self.path is not None and stamp != self._seen:
            self._seen = stamp
            try:
                self._access, self.error = load(self.path), None
            except UsageError as error:
                self.error = error.what
        return self._access
