# SPDX-License-Identifier: Apache-2.0
"""Who may read the metrics: the web configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ghesrace.errors import UsageError
from ghesrace.service.metrics.access import Access, WebConfig, _plain, load

HASH = "$2b$04$" + 53 * "a"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("basic_auth_user: {}", ("basic_auth_user", "basic_auth_users?")),
        ("tls_server_config: {cert: x}", ("tls_server_config.cert", "cert_file?")),
        ("http_server_config: {headers: {}}", ("http_server_config.headers", "not supported")),
        ("rate_limit: {burst: 1}", ("rate_limit", "not supported")),
        ("tls_server_config: {cipher_suites: [a]}", ("cipher_suites", "not supported")),
        ("tls_server_config: {client_allowed_sans: a}", ("cert_file",)),
        ("basic_auth_users: {eve: secret}", ("basic_auth_users.eve", "bcrypt")),
        ("basic_auth_users: [eve]", ("basic_auth_users",)),
        ("tls_server_config: {cert_file: a}", ("key_file",)),
        ("tls_server_config: {cert_file: a, key_file: b}", ("certificates",)),
        ("tls_server_config: {cert_file: a, key_file: b, min_version: SSL3}", ("SSL3",)),
        ("tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}", ("go together",)),
        ("tls_server_config: {cert_file: a, key_file: b, client_auth_type: X}", ("'X'",)),
        ("a: [", ("not YAML", "expected")),
        (f"basic_auth_users: {{a: {HASH}}}\nbasic_auth_users:\n", ("is there twice", "line 2")),
        (f"basic_auth_users: {{a: {HASH}, a: {HASH}}}", ("'a' is there twice",)),
        ("basic_auth_users: []", ("basic_auth_users", "no mapping")),
        ("tls_server_config: []", ("tls_server_config", "no mapping")),
        (f"basic_auth_users: {{1: {HASH}}}", ("quote it",)),
        (f"basic_auth_users: {{a: {HASH.replace('$04$', '$31$')}}}", ("no bcrypt", "4 to 16")),
        ("- a", ("no mapping",)),
    ],
)
def test_web_config_refusals(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    """If this fails, somebody believes in a protection that is not there."""
    path = tmp_path / "web.yml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load(path)
    for word in ("web.yml", *words):
        assert word in str(caught.value)


def test_missing_web_config(tmp_path: Path) -> None:
    """If this fails, a wrong path means plain HTTP for everybody."""
    with pytest.raises(UsageError, match="web configuration"):
        WebConfig(str(tmp_path / "none.yml"))


def test_what_only_prefers_is_ignored_and_told(tmp_path: Path) -> None:
    """If this fails, a web.yml that Prometheus' exporters take is refused here."""
    path = tmp_path / "web.yml"
    path.write_text("http_server_config: {http2: true}\nbasic_auth_users: {}\n")
    assert load(path).ignored == (f"{path}: http_server_config.http2 has no effect here",)


@pytest.mark.parametrize(
    ("allowed", "names", "good"),
    [
        ([], (), True),
        (["a.test"], (("DNS", "a.test"),), True),
        (["a.test"], (("DNS", "b.test"), ("DNS", "xa.test")), False),
        (["a.test"], (), False),
        (["::1"], (("IP Address", "0:0:0:0:0:0:0:1"),), True),
        (["192.0.2.1"], (("IP Address", "192.0.2.1"),), True),
        (["spiffe://a"], (("URI", "spiffe://a"),), True),
        (["ops@a.test"], (("email", "ops@a.test"),), True),
        (["a.test"], (("DirName", "a.test"),), False),
    ],
)
def test_names_of_clients(allowed: list[str], names: tuple[Any, ...], good: bool) -> None:
    """If this fails, every certificate of the authority opens the door."""
    access = Access(sans=frozenset(map(_plain, allowed)))
    assert access.named({"subjectAltName": names}) is good
    assert access.named(None) is not bool(allowed)
