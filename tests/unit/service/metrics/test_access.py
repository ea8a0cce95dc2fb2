# SPDX-License-Identifier: Apache-2.0
"""Who may read the metrics: the web configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.errors import UsageError
from ghesrace.service.metrics.access import WebConfig, load


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("basic_auth_user: {}", ("basic_auth_user", "basic_auth_users?")),
        ("tls_server_config: {cert: x}", ("tls_server_config.cert", "cert_file?")),
        ("http_server_config: {http2: true}", ("http_server_config", "not supported")),
        ("basic_auth_users: {eve: secret}", ("basic_auth_users.eve", "bcrypt")),
        ("basic_auth_users: [eve]", ("basic_auth_users",)),
        ("tls_server_config: {cert_file: a}", ("key_file",)),
        ("tls_server_config: {cert_file: a, key_file: b}", ("certificates",)),
        ("tls_server_config: {cert_file: a, key_file: b, min_version: SSL3}", ("SSL3",)),
        ("tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}", ("go together",)),
        ("tls_server_config: {cert_file: a, key_file: b, client_auth_type: X}", ("'X'",)),
        ("a: [", ("not YAML",)),
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
