# SPDX-License-Identifier: Apache-2.0
"""Keys for sftp; `ship/test_target.py` and `test_stores.py` speak with a real server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ghesrace.errors import UsageError
from ghesrace.fleet.sftp import read_key


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("form", ["openssh", "PEM"])
def test_each_usual_key_is_read(kind: str, form: str, tmp_path: Path) -> None:
    """If this fails, an administrator's key is refused."""
    path = tmp_path / "key"
    more = ["-m", "PEM"] if form == "PEM" and kind != "ed25519" else []
    command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path), *more]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        pytest.skip("ssh-keygen is not installed")
    key = read_key(path.read_text())
    public = Path(f"{path}.pub").read_text().split()
    assert (key.get_name(), key.get_base64()) == (public[0], public[1])


@pytest.mark.parametrize("text", ["", "SECRET", "-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET\n"])
def test_what_is_no_key_is_told_without_what_it_is(text: str) -> None:
    """If this fails, a key with a typing error is in the journal."""
    with pytest.raises(UsageError, match="can't be read") as raised:
        read_key(text)
    assert "SECRET" not in str(raised.value)
