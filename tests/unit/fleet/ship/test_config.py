# SPDX-License-Identifier: Apache-2.0
"""ship.toml and the credentials: what is refused, and what is never told."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.errors import UsageError
from ghesrace.fleet.ship.config import CREDENTIAL, Settings, credentials, load, secrets
from tests.build.paths import REPO


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "ship.toml"
    path.write_text(text)
    return path


def test_all_settings_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a setting does nothing."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/elsewhere:/more")
    text = 'to = "s3://b"\ncaptures = "/c"\nbudget = "3M"\nsettle = 2\n[options]\nanon = true\n'
    assert load(written(tmp_path, text)) == Settings(
        "s3://b", Path("/c"), Path("/var/lib/elsewhere"), 3 << 20, 2, {"anon": True}
    )
    text = 'to = "s3://b"\nstate = "/s"\n'
    assert load(written(tmp_path, text)).state == Path("/s")


def test_the_shipped_example_is_good() -> None:
    """If this fails, the first file that an administrator edits is refused."""
    settings = load(REPO / "systemd/ship.toml")
    assert settings == Settings(settings.to)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("to = 5", "to can't be 5"),
        ("", "does not say where to"),
        ("to = [", "Invalid"),
        ('to = "s3://b"\nbuget = 1', "unknown key 'buget'"),
        ('to = "s3://b"\nbudget = true', "budget can't be True"),
        ('to = "s3://b"\nbudget = "many"', "budget 'many' is no size"),
        ('to = "s3://b"\nbudget = 0', "budget 0 is no size"),
        ('to = "s3://b"\nsettle = -1', "settle is negative"),
        ('to = "sftp://me:pw@h/a"', "holds a password"),
        ('to = "s3://b"\n[options]\nsecret = "pw"', "options.secret is a credential"),
        (
            'to = "http://b"\n[options.client_kwargs.headers]\nAuthorization = "Bearer X"',
            "options.client_kwargs.headers is a credential",
        ),
        (
            'to = "s3://b"\noptions = {client_kwargs = {aws_secret_access_key = "x"}}',
            "aws_secret_access_key is a credential",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, what: str) -> None:
    """If this fails, nothing is sent and nobody knows why, or a secret stands where all read it."""
    with pytest.raises(UsageError) as raised:
        load(written(tmp_path, text))
    assert what in str(raised.value)
    assert "pw" not in str(raised.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """If this fails, the unit ends with a traceback."""
    with pytest.raises(UsageError, match="can't read"):
        load(tmp_path / "none.toml")


def test_credentials_come_from_systemds_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, credentials have to be in the environment."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credentials() == {}
    (tmp_path / "ghesrace-ship").write_text('key = "a"\nsecret = "b"\n')
    assert credentials() == {"key": "a", "secret": "b"}
    (tmp_path / "ghesrace-ship").write_text('secret = "hunter2')
    with pytest.raises(UsageError, match="is no TOML") as raised:
        credentials()
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_credential_that_can_not_be_reached_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An internal error with a traceback, or captures that are sent without what the store asks."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=f"can't read the credential {CREDENTIAL}"):
        credentials()


def test_all_texts_of_credentials_are_secret() -> None:
    """If this fails, a password is in the journal."""
    found = {
        "password": "hunter2",
        "n": {"headers": {"Authorization": "Bearer abc.def"}},
        "l": ["x"],
    }
    assert secrets(found) == ["Bearer abc.def", "abc.def", "hunter2", "x"]
